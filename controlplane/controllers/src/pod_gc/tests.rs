//! The plan's cases, and the loop against an API in memory.

use super::*;
use crate::config::ControllersConfig;
use crate::testing::{Bench, object};
use skep_client::testing::FakeTransport;

fn pod(name: &str, node: &str, phase: &str, day: u8) -> Pod {
    object(json!({
        "metadata": { "name": name, "namespace": "d", "uid": name,
            "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z") },
        "spec": { "containers": [], "nodeName": node }, "status": { "phase": phase } }))
}

fn names(api: &FakeTransport) -> Vec<String> {
    api.all::<Pod>().iter().map(|pod| pod.name().to_owned()).collect()
}

#[test]
fn evicted_and_old_ones_go_first() {
    let mut evicted = pod("evicted", "n", "Failed", 9);
    evicted.status.as_mut().unwrap().reason = Some("Evicted".to_owned());
    let all = [
        pod("new", "n", "Succeeded", 5),
        pod("old", "n", "Failed", 1),
        evicted,
        pod("runs", "n", "Running", 1),
    ];
    let all: Vec<_> = all.into_iter().map(Arc::new).collect();
    let gone = |threshold| -> Vec<String> {
        plan::excess(all.clone(), threshold)
            .iter()
            .map(|pod| pod.name().to_owned())
            .collect()
    };
    assert_eq!(gone(3), Vec::<String>::new());
    assert_eq!(gone(1), ["evicted", "old"]);
    assert_eq!(gone(0), ["evicted", "old", "new"]);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_is_gone_end_after_the_quarantine() {
    let api = FakeTransport::new();
    api.put::<Node>(&object(json!({ "metadata": { "name": "stays" } })));
    api.put::<Node>(&object(json!({ "metadata": { "name": "goes" } })));
    for (name, node) in [("a", "stays"), ("b", "goes"), ("c", "never-was")] {
        api.put(&pod(name, node, "Running", 1));
    }
    let bench = Bench::start(api, Default::default(), |context| vec![controller(context)]);
    bench.settle(Duration::from_secs(30)).await;
    bench.api.remove::<Node>(&ObjectKey::cluster("goes"));
    assert_eq!(names(&bench.api), ["a", "b", "c"]);
    bench.settle(Duration::from_secs(20)).await;
    assert_eq!(names(&bench.api), ["a", "b"]);
    bench.settle(Duration::from_secs(30)).await;
    assert_eq!(names(&bench.api), ["a"]);
    assert!(bench.api.writes().contains(&"patch pods/status d/b".to_owned()));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_keeps_its_pods() {
    let api = FakeTransport::new();
    api.put(&pod("a", "n", "Running", 1));
    let bench = Bench::start(api, Default::default(), |context| vec![controller(context)]);
    bench.settle(Duration::from_secs(30)).await;
    bench
        .api
        .put::<Node>(&object(json!({ "metadata": { "name": "n" } })));
    bench.settle(Duration::from_secs(60)).await;
    assert_eq!(names(&bench.api), ["a"]);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_so_many_ended_pods_are_kept() {
    let api = FakeTransport::new();
    api.put::<Node>(&object(json!({ "metadata": { "name": "n" } })));
    for day in 1..=5 {
        api.put(&pod(&format!("p{day}"), "n", "Succeeded", day));
    }
    let config = ControllersConfig {
        terminated_pod_threshold: 2,
        ..Default::default()
    };
    let bench = Bench::start(api, config, |context| vec![controller(context)]);
    bench.until("three went", |api| names(api) == ["p4", "p5"]).await;
    bench.stop().await;
}

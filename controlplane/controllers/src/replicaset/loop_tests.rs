//! The loop against an API in memory.

use crate::testing::{Bench, object};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use skep_api::{ApiError, ObjectExt, ObjectKey};
use skep_client::Verb;
use skep_client::testing::FakeTransport;
use std::time::Duration;

fn key() -> ObjectKey {
    ObjectKey::new("d", "web")
}

fn replica_set(replicas: i32) -> ReplicaSet {
    object(json!({
        "metadata": { "name": "web", "namespace": "d" },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] } } }
    }))
}

fn start(replicas: i32) -> Bench {
    let api = FakeTransport::new();
    api.put(&replica_set(replicas));
    Bench::start(api, Default::default(), |context| {
        vec![super::controller(context)]
    })
}

fn status(api: &FakeTransport) -> (i32, i32) {
    let status = api.get::<ReplicaSet>(&key()).unwrap().status.unwrap_or_default();
    (status.replicas, status.available_replicas.unwrap_or(0))
}

fn scale(api: &FakeTransport, replicas: i32) {
    let mut set = api.get::<ReplicaSet>(&key()).unwrap();
    set.spec.replicas = Some(replicas);
    api.put(&set);
}

#[tokio::test(start_paused = true)]
async fn exactly_the_wanted_pods_exist() {
    let bench = start(10);
    bench
        .until("status counts ten", |api| status(api) == (10, 0))
        .await;
    bench.play_kubelet();
    bench
        .until("all are available", |api| status(api) == (10, 10))
        .await;
    let creates = bench
        .api
        .writes()
        .iter()
        .filter(|write| write.starts_with("create pods"))
        .count();
    assert_eq!(creates, 10, "no pod too many was ever asked for");
    assert!(
        bench
            .api
            .all::<Pod>()
            .iter()
            .all(|pod| pod.name().starts_with("web-"))
    );
    assert_eq!(
        bench
            .events()
            .iter()
            .filter(|event| event.starts_with("SuccessfulCreate: Created pod: web-"))
            .count(),
        10
    );
    scale(&bench.api, 3);
    bench.until("seven went", |api| status(api).0 == 3).await;
    bench.play_kubelet();
    assert_eq!(bench.api.all::<Pod>().len(), 3);
    bench.api.remove::<Pod>(&bench.api.all::<Pod>()[0].key());
    bench
        .until("a lost pod is replaced", |api| api.all::<Pod>().len() == 3)
        .await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn refused_creations_show_and_are_tried_again() {
    let api = FakeTransport::new();
    api.put(&replica_set(4));
    let error = ApiError::new(403, skep_api::Reason::Forbidden, "exceeded quota");
    api.fail_matching(6, error, |request| {
        request.verb == Verb::Create && request.resource.resource == "pods"
    });
    let bench = Bench::start(api, Default::default(), |context| {
        vec![super::controller(context)]
    });
    let failing = |api: &FakeTransport| {
        let status = api.get::<ReplicaSet>(&key()).unwrap().status.unwrap_or_default();
        status
            .conditions
            .unwrap_or_default()
            .iter()
            .any(|condition| condition.reason.as_deref() == Some("FailedCreate"))
    };
    bench.until("the condition shows", failing).await;
    bench
        .until("then all four exist", |api| status(api).0 == 4 && !failing(api))
        .await;
    assert!(
        bench
            .events()
            .iter()
            .any(|event| event == "FailedCreate: Error creating: exceeded quota")
    );
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn matching_orphans_are_adopted_and_others_released() {
    let api = FakeTransport::new();
    for name in ["a", "b"] {
        api.put::<Pod>(&object(json!({
            "metadata": { "name": name, "namespace": "d", "labels": { "app": "web" } },
            "spec": { "containers": [], "nodeName": "n1" }
        })));
    }
    api.put(&replica_set(2));
    let bench = Bench::start(api, Default::default(), |context| {
        vec![super::controller(context)]
    });
    bench.until("both count", |api| status(api).0 == 2).await;
    let owned = |api: &FakeTransport, name: &str| {
        api.get::<Pod>(&ObjectKey::new("d", name))
            .unwrap()
            .controller_owner()
            .is_some()
    };
    assert!(owned(&bench.api, "a") && owned(&bench.api, "b"));
    let mut pod = bench.api.get::<Pod>(&ObjectKey::new("d", "a")).unwrap();
    pod.metadata
        .labels
        .as_mut()
        .unwrap()
        .insert("app".to_owned(), "debug".to_owned());
    bench.api.put(&pod);
    bench
        .until("released and replaced", |api| {
            !owned(api, "a") && api.all::<Pod>().len() == 3
        })
        .await;
    bench.settle(Duration::from_secs(5)).await;
    assert_eq!(bench.api.all::<Pod>().len(), 3);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn availability_comes_after_min_ready_seconds() {
    let api = FakeTransport::new();
    let mut set = replica_set(1);
    set.spec.min_ready_seconds = Some(30);
    api.put(&set);
    let bench = Bench::start(api, Default::default(), |context| {
        vec![super::controller(context)]
    });
    bench.until("created", |api| api.all::<Pod>().len() == 1).await;
    bench.play_kubelet();
    bench.settle(Duration::from_secs(28)).await;
    assert_eq!(status(&bench.api), (1, 0));
    bench.settle(Duration::from_secs(4)).await;
    assert_eq!(status(&bench.api), (1, 1));
    bench.stop().await;
}

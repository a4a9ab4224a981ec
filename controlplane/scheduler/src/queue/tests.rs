use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

fn info(name: &str, spec: Value) -> Arc<PodInfo> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": spec,
    }))
    .unwrap();
    Arc::new(PodInfo::new(Arc::new(pod)))
}

fn pod(name: &str) -> Arc<PodInfo> {
    info(name, json!({ "containers": [] }))
}

fn popped(queue: &mut Queue) -> Vec<String> {
    std::iter::from_fn(|| queue.pop(Instant::now()))
        .map(|pod| pod.info.key.name.clone())
        .collect()
}

async fn wait(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn turns_go_by_priority_then_by_age() {
    let mut queue = Queue::default();
    for name in ["a", "b"] {
        queue.put(pod(name), Instant::now());
        wait(1).await;
    }
    queue.put(
        info("urgent", json!({ "containers": [], "priority": 1000 })),
        Instant::now(),
    );
    assert_eq!(popped(&mut queue), ["urgent", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_longer_each_time() {
    let mut queue = Queue::default();
    queue.put(pod("a"), Instant::now());
    for seconds in [1, 2, 4, 8, 10, 10] {
        let pod = queue.pop(Instant::now()).unwrap();
        queue.put_backoff(pod, Instant::now());
        assert_eq!(
            queue.next_change(),
            Some(Instant::now() + Duration::from_secs(seconds))
        );
        wait(seconds - 1).await;
        assert!(queue.pop(Instant::now()).is_none());
        wait(1).await;
    }
    assert_eq!(queue.pop(Instant::now()).unwrap().attempts, 7);
}

#[tokio::test(start_paused = true)]
async fn an_unschedulable_pod_is_woken_by_what_may_help_it_alone() {
    let mut queue = Queue::default();
    for name in ["a", "b"] {
        queue.put(pod(name), Instant::now());
    }
    while let Some(pod) = queue.pop(Instant::now()) {
        queue.put_unschedulable(pod, Instant::now());
    }
    wait(20).await;
    queue.wake_if(Cause::NodeChange, Instant::now(), |pod| pod.key.name == "b");
    assert_eq!(popped(&mut queue), ["b"]);
    let counts: Vec<_> = queue.counts().iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [0, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_woken_pod_still_ends_its_back_off() {
    let mut queue = Queue::default();
    queue.put(pod("a"), Instant::now());
    let pod = queue.pop(Instant::now()).unwrap();
    queue.put_unschedulable(pod, Instant::now());
    queue.wake_if(Cause::NodeChange, Instant::now(), |_| true);
    assert!(!queue.has_active());
    wait(1).await;
    assert_eq!(popped(&mut queue), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_unschedulable_pod_is_tried_again_after_a_while() {
    let mut queue = Queue::default();
    queue.put(pod("a"), Instant::now());
    let pod = queue.pop(Instant::now()).unwrap();
    queue.put_unschedulable(pod, Instant::now());
    wait(299).await;
    assert!(queue.pop(Instant::now()).is_none());
    wait(1).await;
    assert_eq!(popped(&mut queue), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_s_own_change_wakes_it_only_if_it_matters() {
    let mut queue = Queue::default();
    queue.put(pod("a"), Instant::now());
    let failed = queue.pop(Instant::now()).unwrap();
    queue.put_unschedulable(failed, Instant::now());
    wait(5).await;
    let mut condition: Pod = (*pod("a").pod).clone();
    condition.status.get_or_insert_default().message = Some("fits nowhere".to_owned());
    queue.put(Arc::new(PodInfo::new(Arc::new(condition))), Instant::now());
    assert!(!queue.has_active());
    queue.put(
        info(
            "a",
            json!({ "containers": [], "tolerations": [{ "operator": "Exists" }] }),
        ),
        Instant::now(),
    );
    let pod = queue.pop(Instant::now()).unwrap();
    assert_eq!(pod.attempts, 2, "its history is kept");
}

#[tokio::test(start_paused = true)]
async fn a_gated_pod_waits_for_its_gates() {
    let mut queue = Queue::default();
    queue.put(
        info(
            "a",
            json!({ "containers": [], "schedulingGates": [{ "name": "hold" }] }),
        ),
        Instant::now(),
    );
    assert!(popped(&mut queue).is_empty());
    queue.put(pod("a"), Instant::now());
    assert_eq!(popped(&mut queue), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_successor_of_the_same_name_begins_anew() {
    let mut queue = Queue::default();
    queue.put(pod("a"), Instant::now());
    let failed = queue.pop(Instant::now()).unwrap();
    queue.put_backoff(failed, Instant::now());
    let mut successor: Pod = (*pod("a").pod).clone();
    successor.metadata.uid = Some("other".to_owned());
    queue.put(Arc::new(PodInfo::new(Arc::new(successor))), Instant::now());
    assert_eq!(queue.pop(Instant::now()).unwrap().attempts, 1);
    queue.put(pod("b"), Instant::now());
    queue.remove(&ObjectKey::new("default", "b"));
    assert!(popped(&mut queue).is_empty());
}

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Event;
use prometheus_client::encoding::text::encode;
use serde_json::{Value, json};
use skep_api::{Object, ObjectKey};
use skep_client::DeleteOptions;
use skep_client::testing::FakeTransport;
use skep_runtime::LeaderOptions;
use tokio::task::JoinHandle;

use super::*;

struct Running {
    fake: FakeTransport,
    registry: Registry,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(fake: &FakeTransport, config: SchedulerConfig) -> Self {
        let mut registry = Registry::default();
        let scheduler = Scheduler::new(fake.client(), config, &mut registry);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(scheduler.run(shutdown.clone()));
        Self {
            fake: fake.clone(),
            registry,
            shutdown,
            task,
        }
    }

    fn with_nodes(nodes: &[&str]) -> Self {
        let fake = FakeTransport::new();
        for name in nodes {
            fake.put(&node(name, "2"));
        }
        Self::start(&fake, SchedulerConfig::new(7))
    }

    async fn create(&self, pod: Value) {
        self.fake.client().create(&object::<Pod>(pod)).await.unwrap();
        settle().await;
    }

    fn pod(&self, name: &str) -> Pod {
        self.fake.get(&key(name)).unwrap()
    }

    fn node_of(&self, name: &str) -> Option<String> {
        assigned_node(&self.pod(name)).map(str::to_owned)
    }

    fn events(&self) -> Vec<String> {
        let events = self.fake.all::<Event>();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        events
            .iter()
            .map(|event| format!("{} {}", text(&event.reason), text(&event.message)))
            .collect()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn object<K: Object>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn node(name: &str, cpu: &str) -> Node {
    object(json!({
        "metadata": { "name": name },
        "status": { "allocatable": { "cpu": cpu, "memory": "4Gi", "pods": "110" } },
    }))
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu, "memory": "1Mi" } } }] },
    })
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_and_an_event_says_so() {
    let running = Running::with_nodes(&["node1"]);
    running.create(pod("a", "1")).await;
    assert_eq!(running.node_of("a").as_deref(), Some("node1"));
    assert_eq!(
        running.events(),
        ["Scheduled Successfully assigned default/a to node1"]
    );
    let metrics = running.metrics();
    for line in [
        r#"scheduler_schedule_attempts_total{profile="default-scheduler",result="scheduled"} 1"#,
        r#"scheduler_pending_pods{queue="active"} 0"#,
        r#"scheduler_pod_scheduling_sli_duration_seconds_count{attempts="1"} 1"#,
        r#"scheduler_queue_incoming_pods_total{queue="active",event="UnscheduledPodAdd"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_says_why_and_waits_for_room() {
    let running = Running::with_nodes(&["node1", "node2"]);
    running.create(pod("a", "1500m")).await;
    running.create(pod("b", "1500m")).await;
    running.create(pod("c", "1500m")).await;
    let condition = running.pod("c").status.unwrap().conditions.unwrap().remove(0);
    assert_eq!(
        (condition.type_.as_str(), condition.status.as_str()),
        ("PodScheduled", "False")
    );
    assert_eq!(condition.reason.as_deref(), Some("Unschedulable"));
    let message = "0/2 nodes are available: 2 Insufficient cpu.";
    assert_eq!(condition.message.as_deref(), Some(message));
    assert!(running.events().contains(&format!("FailedScheduling {message}")));
    assert!(
        running
            .metrics()
            .contains(r#"scheduler_pending_pods{queue="unschedulable"} 1"#)
    );

    let writes = running.fake.writes().len();
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(
        running.fake.writes().len(),
        writes,
        "nothing changed, nothing is tried"
    );

    running
        .fake
        .client()
        .delete::<Pod>(&key("a"), &DeleteOptions::now())
        .await
        .unwrap();
    settle().await;
    assert!(running.node_of("c").is_some());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn changes_of_nodes_wake_the_pods_that_they_may_help() {
    let running = Running::with_nodes(&[]);
    running.create(pod("a", "3")).await;
    let message = |name: &str| {
        running.pod(name).status.unwrap().conditions.unwrap()[0]
            .message
            .clone()
            .unwrap()
    };
    assert_eq!(message("a"), "no nodes available to schedule pods");
    tokio::time::sleep(Duration::from_secs(2)).await;

    running.fake.put(&node("node1", "2"));
    settle().await;
    assert_eq!(
        message("a"),
        "no nodes available to schedule pods",
        "a small node is no news"
    );
    let mut larger = node("node1", "4");
    larger.spec.get_or_insert_default().unschedulable = Some(true);
    running.fake.put(&larger);
    settle().await;
    assert_eq!(running.node_of("a"), None);
    larger.spec.get_or_insert_default().unschedulable = None;
    running.fake.put(&larger);
    settle().await;
    assert_eq!(running.node_of("a").as_deref(), Some("node1"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn replicas_spread_over_the_nodes() {
    let fake = FakeTransport::new();
    // The larger nodes are better but for the spreading.
    for (name, cpu) in [("node1", "2"), ("node2", "8"), ("node3", "64")] {
        fake.put(&node(name, cpu));
    }
    let running = Running::start(&fake, SchedulerConfig::new(7));
    for i in 0..9 {
        let mut replica = pod(&format!("web-{i}"), "300m");
        replica["metadata"]["ownerReferences"] = json!([
            { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true }
        ]);
        running.create(replica).await;
    }
    let mut counts = BTreeMap::new();
    for pod in running.fake.all::<Pod>() {
        *counts.entry(assigned_node(&pod).unwrap().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_without_a_controller_spread_by_their_service() {
    let fake = FakeTransport::new();
    // The second node is better but for the spreading.
    fake.put(&node("node1", "2"));
    fake.put(&node("node2", "3"));
    fake.put(&object::<Service>(json!({
        "metadata": { "name": "web", "namespace": "default" }, "spec": { "selector": { "app": "web" } },
    })));
    let running = Running::start(&fake, SchedulerConfig::new(7));
    for name in ["a", "b"] {
        let mut pod = pod(name, "10m");
        pod["metadata"]["labels"] = json!({ "app": "web" });
        running.create(pod).await;
    }
    let nodes = [running.node_of("a"), running.node_of("b")];
    assert_eq!(nodes, [Some("node2".to_owned()), Some("node1".to_owned())]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_at_once_do_not_overbook_a_node() {
    let fake = FakeTransport::new();
    for name in ["node1", "node2"] {
        fake.put(&node(name, "2"));
    }
    for i in 0..10 {
        fake.put(&object::<Pod>(pod(&format!("p{i}"), "900m")));
    }
    let running = Running::start(&fake, SchedulerConfig::new(7));
    settle().await;
    let mut counts = BTreeMap::new();
    for pod in running.fake.all::<Pod>() {
        *counts.entry(assigned_node(&pod).map(str::to_owned)).or_insert(0) += 1;
    }
    let expected = BTreeMap::from([
        (None, 6),
        (Some("node1".to_owned()), 2),
        (Some("node2".to_owned()), 2),
    ]);
    assert_eq!(counts, expected);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_binding_gives_the_room_back_and_is_tried_again() {
    let running = Running::with_nodes(&["node1"]);
    running
        .fake
        .fail_matching(2, ApiError::connection("cut"), |request| {
            request.subresource.as_deref() == Some("binding")
        });
    running.create(pod("a", "2")).await;
    assert_eq!(running.node_of("a"), None);
    let condition = running.pod("a").status.unwrap().conditions.unwrap().remove(0);
    assert_eq!(condition.reason.as_deref(), Some("SchedulerError"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(running.node_of("a").as_deref(), Some("node1"));
    assert!(running.metrics().contains(r#"result="error"} 2"#));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_others_and_gated_pods_are_left_alone() {
    let running = Running::with_nodes(&["node1"]);
    let mut other = pod("other", "1");
    other["spec"]["schedulerName"] = json!("another");
    running.create(other).await;
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{ "name": "hold" }]);
    running.create(gated).await;
    assert_eq!((running.node_of("other"), running.node_of("gated")), (None, None));
    assert!(
        running
            .metrics()
            .contains(r#"scheduler_pending_pods{queue="gated"} 1"#)
    );
    let mut free = running.pod("gated");
    free.spec.as_mut().unwrap().scheduling_gates = None;
    running.fake.client().update(&free).await.unwrap();
    settle().await;
    assert_eq!(running.node_of("gated").as_deref(), Some("node1"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_room_of_finished_pods_is_free() {
    let running = Running::with_nodes(&["node1"]);
    running.create(pod("done", "2")).await;
    running.create(pod("next", "2")).await;
    assert_eq!(running.node_of("next"), None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut done = running.pod("done");
    done.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
    running.fake.client().update_status(&done).await.unwrap();
    settle().await;
    assert_eq!(running.node_of("next").as_deref(), Some("node1"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_placements() {
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let fake = FakeTransport::new();
        for i in 0..20 {
            fake.put(&node(&format!("node{i}"), "2"));
        }
        let running = Running::start(&fake, SchedulerConfig::new(seed));
        for i in 0..10 {
            running.create(pod(&format!("p{i}"), "10m")).await;
        }
        runs.push(
            fake.all::<Pod>()
                .iter()
                .map(|pod| assigned_node(pod).unwrap().to_owned())
                .collect::<Vec<_>>(),
        );
        running.stop().await;
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test(start_paused = true)]
async fn of_two_schedulers_only_the_leader_schedules() {
    let fake = FakeTransport::new();
    fake.put(&node("node1", "2"));
    let config = |identity: &str| {
        let lease = ObjectKey::new("kube-system", "kube-scheduler");
        let leader_election = Some(LeaderOptions::new(lease, identity));
        SchedulerConfig {
            leader_election,
            ..SchedulerConfig::new(1)
        }
    };
    let first = Running::start(&fake, config("first"));
    settle().await;
    let second = Running::start(&fake, config("second"));
    first.create(pod("a", "100m")).await;
    assert!(first.node_of("a").is_some());
    assert!(!second.metrics().contains("scheduled"));
    first.stop().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    second.create(pod("b", "100m")).await;
    assert!(second.node_of("b").is_some());
    second.stop().await;
}

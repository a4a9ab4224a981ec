//! The plan's table of cases, and the loop against an API in memory.

use super::plan::{Plan, plan};
use super::*;
use crate::testing::{Bench, object};
use jiff::Timestamp;
use serde_json::Value;
use skep_client::testing::FakeTransport;

const DEFAULT: Duration = Duration::from_secs(300);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn pod(tolerations: Value, bound: i64) -> Pod {
    object(json!({ "metadata": { "name": "p", "namespace": "d", "uid": "p" },
        "spec": { "containers": [], "nodeName": "n", "tolerations": tolerations },
        "status": { "conditions": [{ "type": "PodScheduled", "status": "True", "lastTransitionTime": Time(at(bound)) }] } }))
}

fn taint(key: &str, added: i64) -> Taint {
    Taint {
        key: key.to_owned(),
        effect: "NoExecute".to_owned(),
        time_added: Some(Time(at(added))),
        value: Some("v".to_owned()),
    }
}

#[test]
fn the_shortest_toleration_counts_from_the_later_of_taint_and_binding() {
    let unreachable = "node.kubernetes.io/unreachable";
    let timed = |seconds: i64| json!([{ "key": unreachable, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds }]);
    for (tolerations, bound, taints, expected) in [
        (json!(null), -100, vec![], Plan::Stay),
        (json!(null), -100, vec![taint("other", 0)], Plan::EvictAt(at(50))),
        (
            json!(null),
            -100,
            vec![taint(unreachable, 0)],
            Plan::EvictAt(at(300)),
        ),
        (
            timed(60),
            -100,
            vec![taint(unreachable, 0)],
            Plan::EvictAt(at(60)),
        ),
        (timed(60), 20, vec![taint(unreachable, 0)], Plan::EvictAt(at(80))),
        (
            timed(-5),
            -100,
            vec![taint(unreachable, 40)],
            Plan::EvictAt(at(40)),
        ),
        (
            timed(60),
            -100,
            vec![taint(unreachable, 0), taint("other", 0)],
            Plan::EvictAt(at(50)),
        ),
        (
            json!([{ "operator": "Exists" }]),
            -100,
            vec![taint("other", 0), taint(unreachable, 0)],
            Plan::Stay,
        ),
        (
            json!([{ "key": "other", "value": "v" }]),
            -100,
            vec![taint("other", 0)],
            Plan::Stay,
        ),
        (
            json!([{ "key": "other", "value": "w" }]),
            -100,
            vec![taint("other", 0)],
            Plan::EvictAt(at(50)),
        ),
        (
            json!([{ "key": "other", "operator": "Exists", "effect": "NoSchedule" }]),
            -100,
            vec![taint("other", 0)],
            Plan::EvictAt(at(50)),
        ),
        (
            json!([{ "operator": "Exists", "tolerationSeconds": 90 }, { "key": "other", "operator": "Exists" }]),
            -100,
            vec![taint("other", 0)],
            Plan::EvictAt(at(90)),
        ),
    ] {
        assert_eq!(
            plan(&pod(tolerations.clone(), bound), &taints, DEFAULT, at(50)),
            expected,
            "{tolerations} {bound}"
        );
    }
}

fn node(taints: Value) -> Node {
    object(json!({ "metadata": { "name": "n" }, "spec": { "taints": taints } }))
}

#[tokio::test(start_paused = true)]
async fn pods_leave_when_their_time_is_over_unless_the_taint_goes() {
    let api = FakeTransport::new();
    api.put(&node(json!(null)));
    let mut fresh = pod(json!(null), 0);
    fresh.status = None;
    api.put(&fresh);
    let bench = Bench::start(api, Default::default(), |context| vec![controller(context)]);
    let key = ObjectKey::new("d", "p");
    let going = |api: &FakeTransport| {
        api.get::<Pod>(&key)
            .is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
    };
    let tainted = |bench: &Bench| {
        node(
            json!([{ "key": "node.kubernetes.io/unreachable", "effect": "NoExecute",
            "timeAdded": Time(bench.clock.now()) }]),
        )
    };
    bench.api.put(&tainted(&bench));
    bench.settle(Duration::from_secs(290)).await;
    assert!(!going(&bench.api));
    bench.api.put(&node(json!(null)));
    bench.settle(Duration::from_secs(60)).await;
    assert!(!going(&bench.api));
    assert_eq!(
        bench.events(),
        ["TaintManagerEviction: Cancelling deletion of Pod d/p"]
    );
    bench.api.put(&tainted(&bench));
    bench.settle(Duration::from_secs(290)).await;
    assert!(!going(&bench.api));
    bench.settle(Duration::from_secs(20)).await;
    assert!(going(&bench.api));
    let evicted = bench.api.get::<Pod>(&key).unwrap();
    let condition = crate::pods::condition(&evicted, "DisruptionTarget").unwrap();
    assert_eq!(condition.reason.as_deref(), Some("DeletionByTaintManager"));
    bench.stop().await;
}

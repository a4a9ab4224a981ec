//! The plans' tables of cases, and the loop against an API in memory.

use super::disruption::Zones;
use super::health::{Ready, condition};
use super::*;
use crate::testing::{Bench, object};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde_json::Value;
use skep_client::testing::FakeTransport;
use std::time::Duration;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn node(name: &str, conditions: Value, taints: Value) -> Node {
    object(
        json!({ "metadata": { "name": name, "uid": name }, "spec": { "taints": taints },
        "status": { "conditions": conditions } }),
    )
}

fn with_ready(name: &str, status: &str) -> Node {
    node(name, json!([{ "type": "Ready", "status": status }]), json!(null))
}

fn keys(taints: Option<Vec<Taint>>) -> Vec<String> {
    taints
        .into_iter()
        .flatten()
        .map(|taint| format!("{}:{}", taint.key, taint.effect))
        .collect()
}

#[test]
fn taints_follow_the_conditions() {
    let state = |status| json!([{ "type": "Ready", "status": status }]);
    let unreachable = json!([
        { "key": "mine", "effect": "NoExecute" },
        { "key": "node.kubernetes.io/unreachable", "effect": "NoSchedule" },
        { "key": "node.kubernetes.io/unreachable", "effect": "NoExecute" }]);
    let named = |names: &[&str]| {
        names
            .iter()
            .map(|name| format!("node.kubernetes.io/{name}"))
            .collect::<Vec<_>>()
    };
    for (conditions, taints, evict, expected) in [
        (state("True"), json!(null), false, None),
        (
            state("Unknown"),
            json!(null),
            true,
            Some(named(&["unreachable:NoSchedule", "unreachable:NoExecute"])),
        ),
        (
            state("Unknown"),
            json!(null),
            false,
            Some(named(&["unreachable:NoSchedule"])),
        ),
        (
            state("False"),
            json!(null),
            true,
            Some(named(&["not-ready:NoSchedule", "not-ready:NoExecute"])),
        ),
        (
            json!([]),
            json!(null),
            true,
            Some(named(&["unreachable:NoSchedule", "unreachable:NoExecute"])),
        ),
        (state("Unknown"), unreachable.clone(), true, None),
        (
            state("True"),
            unreachable,
            false,
            Some(vec!["mine:NoExecute".to_owned()]),
        ),
        (
            json!([{ "type": "Ready", "status": "True" }, { "type": "DiskPressure", "status": "True" }]),
            json!(null),
            false,
            Some(named(&["disk-pressure:NoSchedule"])),
        ),
    ] {
        let node = node("n", conditions.clone(), taints);
        let plan = taints::plan(&node, health::ready(&node), evict, at(0));
        assert_eq!(plan.is_some(), expected.is_some(), "{conditions}");
        assert_eq!(keys(plan), expected.unwrap_or_default(), "{conditions}");
    }
    let mut cordoned = with_ready("n", "True");
    cordoned.spec.get_or_insert_default().unschedulable = Some(true);
    let plan = taints::plan(&cordoned, Ready::True, false, at(0));
    assert_eq!(keys(plan), ["node.kubernetes.io/unschedulable:NoSchedule"]);
}

#[test]
fn silence_is_measured_by_our_own_clock() {
    let config = ControllersConfig::default();
    let mut seen = with_ready("n", "True");
    let beat = |node: &mut Node, time: i64| {
        node.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].last_heartbeat_time =
            Some(Time(at(time)));
    };
    // The node's clock is a day behind: that does not matter.
    beat(&mut seen, -86_400);
    let first = Health::after(None, &seen, health::sign_of_life(&seen, None), at(0));
    assert_eq!(first.deadline(&seen, &config), at(40));
    let same = Health::after(Some(&first), &seen, health::sign_of_life(&seen, None), at(30));
    assert_eq!(same.deadline(&seen, &config), at(40), "nothing new was said");
    beat(&mut seen, -86_390);
    let again = Health::after(Some(&same), &seen, health::sign_of_life(&seen, None), at(35));
    assert_eq!(again.deadline(&seen, &config), at(75));
    let lease: Lease =
        object(json!({ "metadata": { "name": "n" }, "spec": { "renewTime": MicroTime(at(1)) } }));
    let renewed = Health::after(
        Some(&again),
        &seen,
        health::sign_of_life(&seen, Some(&lease)),
        at(50),
    );
    assert_eq!(renewed.deadline(&seen, &config), at(90));
    // Our own Unknown is no sign of life.
    let unknown = with_ready("n", "Unknown");
    let ours = Health::after(
        Some(&renewed),
        &unknown,
        health::sign_of_life(&unknown, Some(&lease)),
        at(91),
    );
    assert_eq!(ours.deadline(&unknown, &config), at(90));
}

#[test]
fn a_node_that_never_spoke_counts_from_its_creation() {
    let mut new = node("n", json!([]), json!(null));
    new.metadata.creation_timestamp = Some(Time(at(0)));
    let health = Health::after(None, &new, health::sign_of_life(&new, None), at(50));
    assert_eq!(health.deadline(&new, &ControllersConfig::default()), at(60));
    let conditions = health::unknown_conditions(&new, true, at(61)).unwrap();
    assert_eq!(conditions.len(), 4);
    assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusNeverUpdated"));
    assert_eq!(health::unknown_conditions(&new, false, at(61)), None);
}

#[test]
fn eviction_is_paced_and_stops_when_most_is_gone() {
    let mut zones = Zones::default();
    let names: Vec<String> = (0..10).map(|number| format!("n{number}")).collect();
    for name in &names {
        zones.set(&with_ready(name, "True"), Ready::True);
    }
    for name in &names[..2] {
        zones.set(&with_ready(name, "Unknown"), Ready::Unknown);
    }
    assert!(zones.may_evict("n0", false, at(0)).evict);
    let second = zones.may_evict("n1", false, at(1));
    assert_eq!((second.evict, second.again_at), (false, Some(at(10))));
    assert!(zones.may_evict("n0", true, at(1)).evict, "what has begun goes on");
    assert!(zones.may_evict("n1", false, at(10)).evict);
    let changes: Vec<bool> = names[2..7]
        .iter()
        .map(|name| zones.set(&with_ready(name, "Unknown"), Ready::Unknown))
        .collect();
    assert_eq!(
        changes,
        [false, false, false, true, false],
        "six of ten are most of a small zone"
    );
    let held = zones.may_evict("n5", false, at(1000));
    assert_eq!((held.evict, held.again_at), (false, None));
    for name in &names {
        zones.set(&with_ready(name, "Unknown"), Ready::Unknown);
    }
    assert!(
        !zones.may_evict("n0", true, at(1000)).evict,
        "all gone: it is us who are cut off"
    );
}

fn lease(api: &FakeTransport, name: &str, now: Timestamp) {
    api.put::<Lease>(&object(
        json!({ "metadata": { "name": name, "namespace": LEASE_NAMESPACE },
        "spec": { "renewTime": MicroTime(now) } }),
    ));
}

fn shown(api: &FakeTransport, name: &str) -> Node {
    api.get(&ObjectKey::cluster(name)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_tainted_its_pods_unready_and_all_heals() {
    let api = FakeTransport::new();
    for name in ["quiet", "alive"] {
        api.put(&with_ready(name, "True"));
    }
    api.put::<Pod>(&object(json!({ "metadata": { "name": "p", "namespace": "d" },
        "spec": { "containers": [], "nodeName": "quiet" },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] } })));
    let bench = Bench::start(api, Default::default(), |context| vec![controller(context)]);
    let pod = ObjectKey::new("d", "p");
    for _ in 0..3 {
        for name in ["quiet", "alive"] {
            lease(&bench.api, name, bench.clock.now());
        }
        bench.settle(Duration::from_secs(10)).await;
    }
    assert!(
        !bench.api.writes().iter().any(|write| write.contains("nodes")),
        "{:?}",
        bench.api.writes()
    );
    let silent_from = bench.clock.now();
    while shown(&bench.api, "quiet")
        .spec
        .unwrap_or_default()
        .taints
        .unwrap_or_default()
        .len()
        < 2
    {
        lease(&bench.api, "alive", bench.clock.now());
        bench.settle(Duration::from_secs(5)).await;
        assert!(bench.clock.now() < silent_from + SignedDuration::from_secs(60));
    }
    assert!(
        bench.clock.now() > silent_from + SignedDuration::from_secs(25),
        "not before the grace is over"
    );
    let quiet = shown(&bench.api, "quiet");
    assert_eq!(
        condition(&quiet, "Ready").unwrap().reason.as_deref(),
        Some("NodeStatusUnknown")
    );
    bench
        .until("its pod is unready", |api| {
            !crate::pods::is_ready(&api.get(&pod).unwrap())
        })
        .await;
    assert_eq!(health::ready(&shown(&bench.api, "alive")), Ready::True);
    // It speaks again.
    let mut healed = shown(&bench.api, "quiet");
    healed.status = with_ready("quiet", "True").status;
    bench.api.put(&healed);
    lease(&bench.api, "quiet", bench.clock.now());
    let clean = |api: &FakeTransport| {
        shown(api, "quiet")
            .spec
            .unwrap()
            .taints
            .unwrap_or_default()
            .is_empty()
    };
    bench.until("the taints are gone", clean).await;
    bench.settle(Duration::from_secs(5)).await;
    assert!(
        bench
            .events()
            .iter()
            .any(|event| event == "NodeNotReady: Node quiet status is now: NodeNotReady")
    );
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_every_node_is_silent_nothing_is_evicted() {
    let api = FakeTransport::new();
    for name in ["a", "b"] {
        api.put(&with_ready(name, "True"));
    }
    let bench = Bench::start(api, Default::default(), |context| vec![controller(context)]);
    bench.settle(Duration::from_secs(120)).await;
    let taints = |name: &str| keys(shown(&bench.api, name).spec.unwrap().taints);
    for name in ["a", "b"] {
        assert_eq!(taints(name), ["node.kubernetes.io/unreachable:NoSchedule"]);
    }
    let mut healed = shown(&bench.api, "a");
    healed.status = with_ready("a", "True").status;
    bench.api.put(&healed);
    bench.settle(Duration::from_secs(30)).await;
    assert_eq!(taints("b").len(), 2, "with one back, the other is to blame");
    bench.stop().await;
}

//! The plan's table of cases.

use super::plan::{self, BURST_REPLICAS, Plan};
use super::{rank, status};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::sync::Arc;

const NOW: &str = "2026-01-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn replica_set(replicas: i32, min_ready: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": "web-1", "namespace": "d", "uid": "rs", "generation": 3 },
        "spec": { "replicas": replicas, "minReadySeconds": min_ready,
            "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" }, "annotations": { "a": "b" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] } } }
    }))
    .unwrap()
}

/// A running pod on its own node, ready since 10:00, created at 9:00, changed by `with`.
fn pod(name: &str, with: Value) -> Arc<Pod> {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "d", "uid": name, "labels": { "app": "web" },
            "creationTimestamp": "2026-01-01T09:00:00Z" },
        "spec": { "containers": [], "nodeName": format!("node-of-{name}") },
        "status": { "phase": "Running", "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T10:00:00Z" }] }
    });
    merge(&mut value, with);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn unready() -> Value {
    json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } })
}

fn ready_since(time: &str) -> Value {
    json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": time }] } })
}

fn pods(count: usize) -> Vec<Arc<Pod>> {
    (0..count)
        .map(|index| pod(&format!("p{index}"), json!({})))
        .collect()
}

#[test]
fn creates_and_deletes_the_difference() {
    for (have, wanted, expected) in [
        (0, 3, Plan::Create(3)),
        (2, 3, Plan::Create(1)),
        (3, 3, Plan::Nothing),
        (0, 0, Plan::Nothing),
        (0, 2000, Plan::Create(BURST_REPLICAS)),
    ] {
        assert_eq!(
            plan::plan(&replica_set(wanted, 0), &pods(have), &[], now()),
            expected
        );
    }
    let Plan::Delete(gone) = plan::plan(&replica_set(1, 0), &pods(4), &[], now()) else {
        panic!("four pods of one wanted are three too many");
    };
    assert_eq!(gone.len(), 3);
}

#[test]
fn a_deleted_replica_set_is_left_alone() {
    let mut going = replica_set(3, 0);
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    assert_eq!(plan::plan(&going, &[], &[], now()), Plan::Nothing);
}

#[test]
fn the_worse_pod_is_deleted_first() {
    let plain = || pod("keep", json!({}));
    let cases: [(&str, Value); 8] = [
        ("not bound", json!({ "spec": { "nodeName": "" } })),
        ("pending", json!({ "status": { "phase": "Pending" } })),
        ("unknown", json!({ "status": { "phase": "Unknown" } })),
        ("unready", unready()),
        (
            "cheap",
            json!({ "metadata": { "annotations": { "controller.kubernetes.io/pod-deletion-cost": "-5" } } }),
        ),
        ("ready for less", ready_since("2026-01-01T11:59:00Z")),
        (
            "restarted",
            json!({ "status": { "containerStatuses": [
                { "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 2 }] } }),
        ),
        (
            "younger",
            json!({ "metadata": { "creationTimestamp": "2026-01-01T11:59:59Z" } }),
        ),
    ];
    for (what, with) in cases {
        let worse = pod("worse", with);
        for order in [vec![worse.clone(), plain()], vec![plain(), worse.clone()]] {
            let gone = rank::pods_to_delete(order, &[], 1, now());
            assert_eq!(gone, vec![worse.clone()], "{what}");
        }
    }
}

#[test]
fn of_equal_pods_the_one_on_the_fuller_node_goes() {
    let at = |name: &str, node: &str| pod(name, json!({ "spec": { "nodeName": node } }));
    let mine = vec![at("a", "n1"), at("b", "n2")];
    let related = vec![at("a", "n1"), at("b", "n2"), at("c", "n2")];
    assert_eq!(
        rank::pods_to_delete(mine.clone(), &related, 1, now()),
        vec![mine[1].clone()]
    );
}

#[test]
fn ages_of_one_magnitude_are_decided_by_uid() {
    let young = pod("b", ready_since("2026-01-01T09:59:00Z"));
    let old = pod("a", ready_since("2026-01-01T09:58:00Z"));
    assert_eq!(
        rank::pods_to_delete(vec![young, old.clone()], &[], 1, now()),
        vec![old]
    );
}

#[test]
fn status_counts_each_kind_of_pod() {
    let mixed = vec![
        pod("a", json!({})),
        pod("b", unready()),
        pod("c", ready_since("2026-01-01T11:59:55Z")),
        pod("d", json!({ "metadata": { "labels": { "app": "other" } } })),
    ];
    let status = status::status(&replica_set(4, 10), &mixed, 2, None, now());
    assert_eq!(status.replicas, 4);
    assert_eq!(status.fully_labeled_replicas, Some(3));
    assert_eq!(status.ready_replicas, Some(3));
    assert_eq!(status.available_replicas, Some(2));
    assert_eq!(status.terminating_replicas, Some(2));
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.conditions, None);
    let again: Timestamp = "2026-01-01T12:00:05Z".parse().unwrap();
    assert_eq!(plan::next_available(&mixed, 10, now()), Some(again));
}

#[test]
fn a_refused_creation_shows_until_it_succeeds() {
    let mut set = replica_set(2, 0);
    let failed = status::status(&set, &[], 0, Some("quota"), now());
    let condition = &failed.conditions.as_ref().unwrap()[0];
    assert_eq!(
        (
            condition.type_.as_deref(),
            condition.reason.as_deref(),
            condition.message.as_deref()
        ),
        (Some("ReplicaFailure"), Some("FailedCreate"), Some("quota"))
    );
    set.status = Some(failed.clone());
    assert!(!status::differs(
        Some(&failed),
        &status::status(&set, &[], 0, Some("again"), now())
    ));
    let healed = status::status(&set, &pods(2), 0, None, now());
    assert_eq!(healed.conditions, None);
    assert!(status::differs(Some(&failed), &healed));
}

#[test]
fn absent_counters_are_zero() {
    let set = replica_set(0, 0);
    let new = status::status(&set, &[], 0, None, now());
    let bare = k8s_openapi::api::apps::v1::ReplicaSetStatus {
        observed_generation: Some(3),
        terminating_replicas: Some(0),
        ..Default::default()
    };
    assert!(!status::differs(Some(&bare), &new));
}

#[test]
fn new_pods_carry_template_and_owner() {
    let pod = plan::new_pod(&replica_set(1, 0));
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-1-"));
    assert_eq!(pod.metadata.labels.as_ref().unwrap()["app"], "web");
    assert_eq!(pod.metadata.annotations.as_ref().unwrap()["a"], "b");
    let owner = crate::owner::controller_of(&pod.metadata).unwrap();
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("ReplicaSet", "rs"));
    assert_eq!(
        (owner.api_version.as_str(), owner.block_owner_deletion),
        ("apps/v1", Some(true))
    );
    assert_eq!(pod.spec.unwrap().containers[0].name, "c");
}

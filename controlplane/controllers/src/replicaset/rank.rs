//! Which pods a shrinking ReplicaSet deletes first. Pure; upstream's `ActivePodsWithRanks`.

use crate::pods;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `count` pods to delete, worst first.
///
/// `related` are the active pods of all ReplicaSets with the same controller: of two equal pods the one
/// whose node holds more of them goes.
pub(crate) fn pods_to_delete(
    mut pods: Vec<Arc<Pod>>,
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    if count < pods.len() {
        let mut on_node: HashMap<&str, usize> = HashMap::new();
        for pod in related.iter().filter(|pod| pods::is_active(pod)) {
            *on_node.entry(pods::node_name(pod)).or_default() += 1;
        }
        let crowd = |pod: &Pod| on_node.get(pods::node_name(pod)).copied().unwrap_or(0);
        pods.sort_by(|left, right| compare(left, right, &crowd, now));
    }
    pods.truncate(count);
    pods
}

fn compare(left: &Pod, right: &Pod, crowd: &dyn Fn(&Pod) -> usize, now: Timestamp) -> Ordering {
    let assigned = |pod: &Pod| !pods::node_name(pod).is_empty();
    assigned(left)
        .cmp(&assigned(right))
        .then_with(|| phase_rank(left).cmp(&phase_rank(right)))
        .then_with(|| pods::is_ready(left).cmp(&pods::is_ready(right)))
        .then_with(|| deletion_cost(left).cmp(&deletion_cost(right)))
        .then_with(|| crowd(right).cmp(&crowd(left)))
        .then_with(|| {
            if pods::is_ready(left) && pods::is_ready(right) {
                by_age(
                    left,
                    right,
                    pods::ready_since(left),
                    pods::ready_since(right),
                    now,
                )
            } else {
                Ordering::Equal
            }
        })
        .then_with(|| Reverse(pods::max_restarts(left)).cmp(&Reverse(pods::max_restarts(right))))
        .then_with(|| by_age(left, right, created(left), created(right), now))
}

fn phase_rank(pod: &Pod) -> u8 {
    match pods::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    pod.metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(DELETION_COST))
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Younger first, where ages count by powers of two, and within one power the UID decides: so that
/// repeated scaling down does not always spare the same generation of pods.
fn by_age(
    left: &Pod,
    right: &Pod,
    left_time: Option<Timestamp>,
    right_time: Option<Timestamp>,
    now: Timestamp,
) -> Ordering {
    match (left_time, right_time) {
        (left_time, right_time) if left_time == right_time => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Some(left_time), Some(right_time)) => age_rank(left_time, now)
            .cmp(&age_rank(right_time, now))
            .then_with(|| left.metadata.uid.cmp(&right.metadata.uid)),
    }
}

fn age_rank(since: Timestamp, now: Timestamp) -> i64 {
    let age_ns = now.as_nanosecond() - since.as_nanosecond();
    if age_ns <= 0 {
        -1
    } else {
        i64::from(age_ns.ilog2())
    }
}

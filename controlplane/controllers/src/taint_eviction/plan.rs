//! When a pod must leave its node. Pure.

use crate::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use std::time::Duration;

const NO_EXECUTE: &str = "NoExecute";
/// Taints that a pod which says nothing of them tolerates for a while.
const STATES: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    Stay,
    EvictAt(Timestamp),
}

pub(crate) fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    taints
        .iter()
        .filter(|taint| taint.effect == NO_EXECUTE)
        .cloned()
        .collect()
}

fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default()
}

/// Whether a change of the pod can matter here.
pub(crate) fn differs(old: &Pod, new: &Pod) -> bool {
    old.metadata.uid != new.metadata.uid
        || old.metadata.deletion_timestamp.is_some() != new.metadata.deletion_timestamp.is_some()
        || pods::node_name(old) != pods::node_name(new)
        || tolerations(old) != tolerations(new)
}

/// `taints` are the NoExecute ones of the pod's node; `default` is how long it tolerates the node's own
/// states if it says nothing of them.
pub(crate) fn plan(pod: &Pod, taints: &[Taint], default: Duration, now: Timestamp) -> Plan {
    if taints.is_empty() {
        return Plan::Stay;
    }
    let since = bound_at(pod);
    let mut leave_at: Option<Timestamp> = None;
    for taint in taints {
        let began = taint
            .time_added
            .as_ref()
            .map_or(now, |time| time.0)
            .max(since.unwrap_or(Timestamp::MIN));
        let at = match tolerated_for(pod, taint, default) {
            Tolerated::Forever => continue,
            Tolerated::Not => return Plan::EvictAt(now),
            Tolerated::For(time) => began.saturating_add(time).unwrap_or(Timestamp::MAX),
        };
        leave_at = Some(leave_at.map_or(at, |earliest| earliest.min(at)));
    }
    leave_at.map_or(Plan::Stay, Plan::EvictAt)
}

/// The pod's own time does not begin before it is there.
fn bound_at(pod: &Pod) -> Option<Timestamp> {
    let scheduled = pods::condition(pod, "PodScheduled").filter(|condition| condition.status == "True");
    let time = scheduled.and_then(|condition| condition.last_transition_time.as_ref());
    time.or(pod.metadata.creation_timestamp.as_ref())
        .map(|time| time.0)
}

enum Tolerated {
    Not,
    For(SignedDuration),
    Forever,
}

/// By the shortest of the tolerations that match.
fn tolerated_for(pod: &Pod, taint: &Taint, default: Duration) -> Tolerated {
    let matching: Vec<&Toleration> = tolerations(pod)
        .iter()
        .filter(|toleration| tolerates(toleration, taint))
        .collect();
    if matching.is_empty() {
        return if STATES.contains(&taint.key.as_str()) {
            Tolerated::For(SignedDuration::try_from(default).unwrap_or(SignedDuration::MAX))
        } else {
            Tolerated::Not
        };
    }
    let shortest = matching
        .iter()
        .filter_map(|toleration| toleration.toleration_seconds)
        .min();
    shortest.map_or(Tolerated::Forever, |seconds| {
        Tolerated::For(SignedDuration::from_secs(seconds.max(0)))
    })
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    match text(&toleration.operator).as_str() {
        "Exists" => key.is_empty() || key == taint.key,
        "" | "Equal" => key == taint.key && text(&toleration.value) == text(&taint.value),
        _ => false,
    }
}

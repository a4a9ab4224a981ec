//! The taints that a node's conditions call for. Pure.

use crate::node_lifecycle::health::{Ready, condition};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
pub(crate) const NO_EXECUTE: &str = "NoExecute";
/// Conditions that keep new pods away while they are True.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
];

fn current(node: &Node) -> &[Taint] {
    node.spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default()
}

/// Whether pods are being evicted because of the node's state.
pub(crate) fn evicts(node: &Node) -> bool {
    current(node)
        .iter()
        .any(|taint| taint.effect == NO_EXECUTE && is_ours(taint))
}

fn is_ours(taint: &Taint) -> bool {
    let state = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
    match taint.effect.as_str() {
        NO_EXECUTE => state,
        NO_SCHEDULE => {
            state || taint.key == UNSCHEDULABLE || PRESSURES.iter().any(|(_, key)| *key == taint.key)
        }
        _ => false,
    }
}

/// The node's taints as they should be; None: they are so. With `evict`, pods are evicted from a node that
/// is not ready.
pub(crate) fn plan(node: &Node, ready: Ready, evict: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let state = match ready {
        Ready::True => None,
        Ready::False => Some(NOT_READY),
        Ready::Unknown => Some(UNREACHABLE),
    };
    if let Some(key) = state {
        wanted.push((key, NO_SCHEDULE));
        if evict {
            wanted.push((key, NO_EXECUTE));
        }
    }
    for (kind, key) in PRESSURES {
        if condition(node, kind).is_some_and(|condition| condition.status == "True") {
            wanted.push((key, NO_SCHEDULE));
        }
    }
    if node
        .spec
        .as_ref()
        .and_then(|spec| spec.unschedulable)
        .unwrap_or(false)
    {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let old = current(node);
    let mut taints: Vec<Taint> = old
        .iter()
        .filter(|taint| !is_ours(taint) || is_wanted(taint))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !taints
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect)
        {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    (taints != old).then_some(taints)
}

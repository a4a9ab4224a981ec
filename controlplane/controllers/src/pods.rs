//! What the controllers ask of a pod: is it active, ready, available, ending.
//! Pure; the definitions are those of upstream's `pkg/api/v1/pod` and `controller_utils.go`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

pub(crate) const POD_READY: &str = "Ready";

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("")
}

pub(crate) fn node_name(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or("")
}

/// Succeeded or Failed: none of its containers will run again.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Counts towards a workload's replicas.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Deletion was asked for, and containers may still run.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_some()
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, POD_READY).is_some_and(|condition| condition.status == "True")
}

/// When the Ready condition last changed.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, POD_READY)?
        .last_transition_time
        .as_ref()
        .map(|time| time.0)
}

/// Whether the pod has been ready for `min_ready_seconds`, or how long until it will have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Availability {
    Available,
    /// Ready, and available at this time if it stays so.
    From(Timestamp),
    Unready,
}

pub(crate) fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    if !is_ready(pod) {
        return Availability::Unready;
    }
    if min_ready_seconds == 0 {
        return Availability::Available;
    }
    let Some(since) = ready_since(pod) else {
        return Availability::Unready;
    };
    let from = since + jiff::SignedDuration::from_secs(i64::from(min_ready_seconds));
    if from <= now {
        Availability::Available
    } else {
        Availability::From(from)
    }
}

/// The most restarts of any container; init containers that run beside the others count second.
pub(crate) fn max_restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = pod.status.as_ref() else {
        return (0, 0);
    };
    let most = |statuses: &Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        statuses
            .iter()
            .flatten()
            .map(|status| status.restart_count)
            .max()
            .unwrap_or(0)
    };
    (
        most(&status.container_statuses),
        most(&status.init_container_statuses),
    )
}

/// The pod's addresses: `podIPs`, else `podIP`.
pub(crate) fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = pod.status.as_ref() else {
        return Vec::new();
    };
    let all: Vec<&str> = status
        .pod_ips
        .iter()
        .flatten()
        .map(|ip| ip.ip.as_str())
        .filter(|ip| !ip.is_empty())
        .collect();
    if all.is_empty() {
        status
            .pod_ip
            .as_deref()
            .filter(|ip| !ip.is_empty())
            .into_iter()
            .collect()
    } else {
        all
    }
}

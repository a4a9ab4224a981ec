//! Pods in Tables. Source: upstream's `printPod` (pkg/printers/internalversion/printers.go), described in
//! https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::ObjectExt;
use crate::print;
use crate::resource::Column;

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Ready", "The aggregate readiness state of this pod for accepting traffic."),
    Column::string("Status", "The aggregate status of the containers in this pod."),
    Column::string(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    Column::AGE,
    Column::string("IP", "podIP is the IP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.")
        .wide(),
    Column::string("Node", "NodeName indicates in which node this pod is scheduled.").wide(),
    Column::string(
        "Nominated Node",
        "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods.",
    )
    .wide(),
    Column::string(
        "Readiness Gates",
        "If specified, all readiness gates will be evaluated for pod readiness.",
    )
    .wide(),
];

const NONE: &str = "<none>";

/// What the containers' statuses come to.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i32,
    last_restart: Option<Time>,
}

pub(super) fn cells(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (
        pod.spec.clone().unwrap_or_default(),
        pod.status.clone().unwrap_or_default(),
    );
    let summary = summarize(pod, &spec, &status);
    let restarts = match (&summary.last_restart, summary.restarts) {
        (Some(last), count) if count > 0 => format!("{count} ({} ago)", print::since(Some(last), now)),
        (_, count) => count.to_string(),
    };
    let or_none = |text: Option<&str>| Value::from(text.filter(|text| !text.is_empty()).unwrap_or(NONE));
    let first_ip = status
        .pod_ips
        .as_ref()
        .and_then(|ips| ips.first())
        .map(|ip| ip.ip.as_str());
    vec![
        pod.name().into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        print::age(&pod.metadata, now),
        or_none(first_ip.or(status.pod_ip.as_deref())),
        or_none(spec.node_name.as_deref()),
        or_none(status.nominated_node_name.as_deref()),
        readiness_gates(&spec, &status).into(),
    ]
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a str> {
    let found = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind)?;
    Some(&found.status)
}

fn readiness_gates(spec: &PodSpec, status: &PodStatus) -> String {
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = gates
        .iter()
        .filter(|gate| condition(status, &gate.condition_type) == Some("True"))
        .count();
    format!("{open}/{}", gates.len())
}

/// An init container that keeps running beside the others.
fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn summarize(pod: &Pod, spec: &PodSpec, status: &PodStatus) -> Summary {
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let phase = status.phase.clone().unwrap_or_default();
    let own = status.reason.clone().filter(|reason| !reason.is_empty());
    let gated = status.conditions.iter().flatten().any(|condition| {
        condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("SchedulingGated")
    });
    let mut summary = Summary {
        reason: if gated {
            "SchedulingGated".to_owned()
        } else {
            own.clone().unwrap_or_else(|| phase.clone())
        },
        ready: 0,
        total: spec.containers.len() + init.iter().filter(|container| is_sidecar(container)).count(),
        restarts: 0,
        last_restart: None,
    };
    let initializing = count_init(&mut summary, init, status);
    if !initializing || condition(status, "Initialized") == Some("True") {
        count_main(&mut summary, init, status);
    }
    if pod.is_terminating() {
        if own.as_deref() == Some("NodeLost") {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(phase.as_str(), "Succeeded" | "Failed") {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

fn count_restarts(summary: &mut Summary, container: &ContainerStatus) {
    summary.restarts += container.restart_count;
    let finished = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref())
        .and_then(|terminated| terminated.finished_at.clone());
    summary.last_restart = summary.last_restart.take().max(finished);
}

fn exit(code: i32, signal: Option<i32>) -> String {
    match signal.filter(|signal| *signal != 0) {
        Some(signal) => format!("Signal:{signal}"),
        None => format!("ExitCode:{code}"),
    }
}

/// Goes through the init containers up to the first that is not done; whether there is one.
fn count_init(summary: &mut Summary, init: &[Container], status: &PodStatus) -> bool {
    for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
        count_restarts(summary, container);
        let sidecar = init
            .iter()
            .any(|spec| spec.name == container.name && is_sidecar(spec));
        let state = container.state.clone().unwrap_or_default();
        let waiting = state
            .waiting
            .and_then(|waiting| waiting.reason)
            .filter(|reason| !reason.is_empty());
        summary.reason = match (state.terminated, waiting) {
            (Some(terminated), _) if terminated.exit_code == 0 => continue,
            _ if sidecar && container.started == Some(true) => {
                summary.ready += usize::from(container.ready);
                continue;
            }
            (Some(terminated), _) => match terminated.reason.filter(|reason| !reason.is_empty()) {
                Some(reason) => format!("Init:{reason}"),
                None => format!("Init:{}", exit(terminated.exit_code, terminated.signal)),
            },
            (None, Some(reason)) if reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{index}/{}", init.len()),
        };
        return true;
    }
    false
}

fn count_main(summary: &mut Summary, init: &[Container], status: &PodStatus) {
    // From here on only sidecars' restarts count among the init containers'.
    (summary.restarts, summary.last_restart) = (0, None);
    for container in status.init_container_statuses.iter().flatten() {
        if init
            .iter()
            .any(|spec| spec.name == container.name && is_sidecar(spec))
        {
            count_restarts(summary, container);
        }
    }
    let mut running = false;
    for container in status.container_statuses.iter().flatten().rev() {
        count_restarts(summary, container);
        let state = container.state.clone().unwrap_or_default();
        let waiting = state
            .waiting
            .and_then(|waiting| waiting.reason)
            .filter(|reason| !reason.is_empty());
        if let Some(reason) = waiting {
            summary.reason = reason;
        } else if let Some(terminated) = state.terminated {
            let reason = terminated.reason.filter(|reason| !reason.is_empty());
            summary.reason = reason.unwrap_or_else(|| exit(terminated.exit_code, terminated.signal));
        } else if container.ready && state.running.is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        let ready = condition(status, "Ready") == Some("True");
        summary.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

//! The conditions of a pod that the kubelet owns; all others stay as they are.

use k8s_openapi::api::core::v1::{Container as ContainerSpec, ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{StatusInput, is_over, whole_second};
use crate::spec::{self, spec};

/// The types of the kubelet's conditions, in upstream's order.
pub(crate) const OWNED: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// A condition without its times.
struct Verdict {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn good() -> Self {
        Self {
            status: true,
            reason: None,
            message: None,
        }
    }

    fn bad(reason: &'static str, message: Option<String>) -> Self {
        Self {
            status: false,
            reason: Some(reason),
            message,
        }
    }
}

pub(super) fn conditions(input: &StatusInput<'_>, status: &PodStatus, old: &PodStatus) -> Vec<PodCondition> {
    let containers_ready = containers_ready(input, status);
    let ready = ready(input, status, old, &containers_ready);
    let verdicts = [
        sandbox(input),
        initialized(input, status),
        ready,
        containers_ready,
        Verdict::good(),
    ];
    let foreign = old
        .conditions
        .iter()
        .flatten()
        .filter(|known| !OWNED.contains(&known.type_.as_str()));
    OWNED
        .iter()
        .zip(verdicts)
        .map(|(type_, verdict)| condition(input, type_, verdict, old))
        .chain(foreign.cloned())
        .collect()
}

fn condition(input: &StatusInput<'_>, type_: &str, verdict: Verdict, old: &PodStatus) -> PodCondition {
    let status = if verdict.status { "True" } else { "False" };
    let before = old.conditions.iter().flatten().find(|known| known.type_ == type_);
    let unchanged = before.filter(|known| known.status == status);
    let since = unchanged.and_then(|known| known.last_transition_time.clone());
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: since.or_else(|| Some(Time(whole_second(input.now)))),
        last_probe_time: None,
        observed_generation: input.pod.metadata.generation,
    }
}

fn sandbox(input: &StatusInput<'_>) -> Verdict {
    let host_network = spec(input.pod).host_network();
    let up = input
        .observed
        .sandbox()
        .is_some_and(|sandbox| host_network || !sandbox.ips.is_empty());
    Verdict {
        status: up,
        reason: None,
        message: None,
    }
}

fn find<'a>(statuses: &'a Option<Vec<ContainerStatus>>, name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().flatten().find(|status| status.name == name)
}

fn initialized(input: &StatusInput<'_>, status: &PodStatus) -> Verdict {
    let incomplete: Vec<&str> = spec(input.pod)
        .init_containers()
        .iter()
        .filter(|container| {
            let status = find(&status.init_container_statuses, &container.name);
            !status.is_some_and(|status| match spec::is_sidecar(container) {
                true => status.started == Some(true),
                false => status.ready,
            })
        })
        .map(|container| container.name.as_str())
        .collect();
    // Containers of the pod's own run only when everything before them is done.
    let mut main = status.container_statuses.iter().flatten();
    let beyond = main.any(|status| status.container_id.is_some());
    if status.phase.as_deref() == Some("Succeeded") {
        Verdict {
            status: true,
            reason: Some("PodCompleted"),
            message: None,
        }
    } else if incomplete.is_empty() || beyond {
        Verdict::good()
    } else {
        let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
        Verdict::bad("ContainersNotInitialized", Some(message))
    }
}

fn containers_ready(input: &StatusInput<'_>, status: &PodStatus) -> Verdict {
    if is_over(status) {
        let succeeded = status.phase.as_deref() == Some("Succeeded");
        return Verdict::bad(if succeeded { "PodCompleted" } else { "PodFailed" }, None);
    }
    let pod = spec(input.pod);
    let sidecars = pod
        .init_containers()
        .iter()
        .filter(|container| spec::is_sidecar(container));
    let unready = |container: &&ContainerSpec, statuses: &Option<Vec<ContainerStatus>>| {
        !find(statuses, &container.name).is_some_and(|status| status.ready)
    };
    let names: Vec<&str> = sidecars
        .filter(|container| unready(container, &status.init_container_statuses))
        .chain(
            pod.containers()
                .iter()
                .filter(|container| unready(container, &status.container_statuses)),
        )
        .map(|container| container.name.as_str())
        .collect();
    if names.is_empty() {
        return Verdict::good();
    }
    let message = format!("containers with unready status: [{}]", names.join(" "));
    Verdict::bad("ContainersNotReady", Some(message))
}

fn ready(input: &StatusInput<'_>, status: &PodStatus, old: &PodStatus, containers: &Verdict) -> Verdict {
    if !containers.status || is_over(status) {
        return Verdict {
            status: false,
            reason: containers.reason,
            message: containers.message.clone(),
        };
    }
    let gates = spec(input.pod)
        .get()
        .and_then(|spec| spec.readiness_gates.as_ref());
    let mut missing = Vec::new();
    for gate in gates.into_iter().flatten() {
        let condition = old
            .conditions
            .iter()
            .flatten()
            .find(|known| known.type_ == gate.condition_type);
        match condition {
            None => missing.push(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(known) if known.status != "True" => missing.push(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, known.status
            )),
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        Verdict::good()
    } else {
        Verdict::bad("ReadinessGatesNotReady", Some(missing.join(", ")))
    }
}

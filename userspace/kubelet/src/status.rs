//! A pod's status: a pure function of the pod, the runtime's view and what the kubelet knows beside them.
//!
//! The rules are upstream's (`pkg/kubelet/kubelet_pods.go`: generateAPIPodStatus, getPhase,
//! convertToAPIContainerStatuses; `pkg/kubelet/status/generate.go`).

mod conditions;
mod containers;
mod phase;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::observed::Observed;
use crate::plan::Waiting;
use crate::probes::ProbeState;
use crate::spec::{self, spec};

pub(crate) use conditions::OWNED as OWNED_CONDITIONS;
pub(crate) use phase::is_over;

/// Everything that a status follows from.
pub(crate) struct StatusInput<'a> {
    /// The pod as the API has it, its present status included.
    pub(crate) pod: &'a Pod,
    /// The pod as the runtime has it.
    pub(crate) observed: &'a Observed,
    /// What the probes say of running containers, by id.
    pub(crate) probes: &'a HashMap<String, ProbeState>,
    /// Why containers do not run, by name.
    pub(crate) waiting: &'a BTreeMap<String, Waiting>,
    /// The node's addresses.
    pub(crate) host_ips: &'a [String],
    /// How container ids begin: the runtime's name.
    pub(crate) runtime_name: &'a str,
    /// Whether everything has been ended, so that nothing will change any more.
    pub(crate) ended: bool,
    /// Why the pod is over whatever its containers did, as reason and message.
    pub(crate) failed: Option<&'a Waiting>,
    /// The time.
    pub(crate) now: Timestamp,
}

/// The pod's status.
pub(crate) fn pod_status(input: &StatusInput<'_>) -> PodStatus {
    let old = input.pod.status.clone().unwrap_or_default();
    let pod = spec(input.pod);
    let init = containers::statuses(input, pod.init_containers(), &old, true);
    let main = containers::statuses(input, pod.containers(), &old, false);
    let over = matches!(old.phase.as_deref(), Some("Succeeded" | "Failed"));
    let phase = match input.failed {
        _ if over => old.phase.clone().unwrap_or_default(),
        Some(_) => "Failed".to_owned(),
        None => phase::phase(input, &init, &main).to_owned(),
    };
    let ips = addresses(input, &old);
    let host_ips = input.host_ips.iter().cloned();
    let mut status = PodStatus {
        phase: Some(phase),
        host_ip: input.host_ips.first().cloned(),
        host_ips: Some(host_ips.map(|ip| HostIP { ip }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        start_time: old
            .start_time
            .clone()
            .or_else(|| Some(Time(whole_second(input.now)))),
        qos_class: old
            .qos_class
            .clone()
            .or_else(|| Some(spec::qos(input.pod).as_str().to_owned())),
        observed_generation: input.pod.metadata.generation,
        reason: input
            .failed
            .map(|failed| failed.reason.clone())
            .or_else(|| old.reason.clone()),
        message: input
            .failed
            .map(|failed| failed.message.clone())
            .or_else(|| old.message.clone()),
        ..old.clone()
    };
    status.conditions = Some(conditions::conditions(input, &status, &old));
    status
}

/// The pod's addresses. They stay in the status after the sandbox has gone.
fn addresses(input: &StatusInput<'_>, old: &PodStatus) -> Vec<String> {
    if spec(input.pod).host_network() {
        return input.host_ips.to_vec();
    }
    let known = input
        .observed
        .sandbox()
        .map(|sandbox| sandbox.ips.clone())
        .unwrap_or_default();
    if !known.is_empty() || input.observed.sandbox().is_some() {
        return known;
    }
    old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect()
}

/// Times of the API have no fractions.
pub(crate) fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

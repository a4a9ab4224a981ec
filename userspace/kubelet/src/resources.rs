//! Amounts of the API as amounts of the kernel. Pure.
//!
//! Source: upstream's `pkg/kubelet/cm/helpers_linux.go` and `pkg/kubelet/qos/policy.go`.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use skep_api::Quantity;
use skep_cri::v1;

use crate::spec::{self, Qos, spec};

const CPU_PERIOD_US: i64 = 100_000;
const MIN_QUOTA_US: i64 = 1_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;

/// Processor weight in v1 shares.
pub(crate) fn shares(request: Option<Quantity>) -> i64 {
    let milli = request.map_or(0, Quantity::milli_value);
    (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// Processor limit per period; none if there is no limit.
pub(crate) fn quota(limit: Option<Quantity>) -> Option<i64> {
    let milli = limit.filter(|limit| !limit.is_zero())?.milli_value();
    Some((milli.saturating_mul(CPU_PERIOD_US) / 1000).max(MIN_QUOTA_US))
}

/// What the kernel enforces for a whole pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PodLimits {
    pub(crate) cpu_shares: i64,
    pub(crate) cpu_quota_us: Option<i64>,
    pub(crate) cpu_period_us: i64,
    pub(crate) memory_bytes: Option<i64>,
}

/// The pod's sum. A limit holds for the pod only if every container has it.
pub(crate) fn of_pod(pod: &Pod) -> PodLimits {
    let limit = |name| sum_if_all(pod, |resources| spec::limit(resources, name));
    let request = |name| sum(pod, |resources| spec::request(resources, name));
    PodLimits {
        cpu_shares: shares(Some(request("cpu"))),
        cpu_quota_us: quota(limit("cpu")),
        cpu_period_us: CPU_PERIOD_US,
        memory_bytes: limit("memory")
            .filter(|limit| !limit.is_zero())
            .map(Quantity::value),
    }
}

type Amount<'a> = dyn Fn(Option<&ResourceRequirements>) -> Option<Quantity> + 'a;

/// Containers and sidecars run together; an init container runs beside the sidecars only.
fn sum(pod: &Pod, amount: impl Fn(Option<&ResourceRequirements>) -> Option<Quantity>) -> Quantity {
    let amount: &Amount<'_> = &amount;
    let of = |container: &Container| amount(container.resources.as_ref()).unwrap_or(Quantity::ZERO);
    let pod = spec(pod);
    let mut sidecars = Quantity::ZERO;
    let mut peak = Quantity::ZERO;
    for container in pod.init_containers() {
        let with = sidecars + of(container);
        peak = peak.max(with);
        if spec::is_sidecar(container) {
            sidecars = with;
        }
    }
    let main = pod
        .containers()
        .iter()
        .map(of)
        .fold(sidecars, |total, amount| total + amount);
    main.max(peak)
}

fn sum_if_all(
    pod: &Pod,
    amount: impl Fn(Option<&ResourceRequirements>) -> Option<Quantity>,
) -> Option<Quantity> {
    let all = spec(pod)
        .all_containers()
        .all(|container| amount(container.resources.as_ref()).is_some());
    all.then(|| sum(pod, amount))
}

/// What the kernel enforces for a container.
pub(crate) fn of_container(
    pod: &Pod,
    container: &Container,
    node_memory_bytes: i64,
    lowest_oom_score_adj: i64,
) -> v1::LinuxContainerResources {
    let resources = container.resources.as_ref();
    v1::LinuxContainerResources {
        cpu_period: CPU_PERIOD_US,
        cpu_quota: quota(spec::limit(resources, "cpu")).unwrap_or(0),
        cpu_shares: shares(spec::request(resources, "cpu")),
        memory_limit_in_bytes: spec::limit(resources, "memory").map_or(0, Quantity::value),
        oom_score_adj: oom_score_adj(pod, container, node_memory_bytes).max(lowest_oom_score_adj),
        unified: std::collections::HashMap::new(),
    }
}

/// How early the kernel kills the container when memory is short: the more of its request it may exceed, the earlier.
fn oom_score_adj(pod: &Pod, container: &Container, node_memory_bytes: i64) -> i64 {
    match spec::qos(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = spec::request(container.resources.as_ref(), "memory").map_or(0, Quantity::value);
            let share = i128::from(request) * 1000 / i128::from(node_memory_bytes.max(1));
            (1000 - i64::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

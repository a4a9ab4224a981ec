//! Questions to a pod's spec that have one answer everywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use skep_api::Quantity;

/// How long a pod may take to end when nothing else is said.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// The longest duration, 68 years. Runtimes count it in nanoseconds, in 64 bits with a sign.
const MAX_SECONDS: u64 = i32::MAX.cast_unsigned() as u64;

/// What is done when a container has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with this code is started again.
    pub(crate) fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// The pod's spec; an object without one has no containers.
pub(crate) fn spec(pod: &Pod) -> PodSpecRef<'_> {
    PodSpecRef(pod.spec.as_ref())
}

/// A spec that may be absent.
#[derive(Clone, Copy)]
pub(crate) struct PodSpecRef<'a>(Option<&'a PodSpec>);

impl<'a> PodSpecRef<'a> {
    pub(crate) fn get(self) -> Option<&'a PodSpec> {
        self.0
    }

    pub(crate) fn containers(self) -> &'a [Container] {
        self.0.map_or(&[], |spec| &spec.containers)
    }

    pub(crate) fn init_containers(self) -> &'a [Container] {
        self.0
            .and_then(|spec| spec.init_containers.as_deref())
            .unwrap_or(&[])
    }

    /// Init containers, then containers.
    pub(crate) fn all_containers(self) -> impl Iterator<Item = &'a Container> {
        self.init_containers().iter().chain(self.containers())
    }

    pub(crate) fn container(self, name: &str) -> Option<&'a Container> {
        self.all_containers().find(|container| container.name == name)
    }

    pub(crate) fn restart_policy(self) -> RestartPolicy {
        RestartPolicy::parse(self.0.and_then(|spec| spec.restart_policy.as_deref()))
    }

    pub(crate) fn host_network(self) -> bool {
        self.0.and_then(|spec| spec.host_network).unwrap_or(false)
    }

    /// The grace period that the spec asks for.
    pub(crate) fn grace(self) -> Duration {
        seconds(
            self.0
                .and_then(|spec| spec.termination_grace_period_seconds)
                .unwrap_or(DEFAULT_GRACE_SECONDS),
        )
    }
}

/// Seconds of the API as a duration: negative ones are none, and no clock overflows by what is longer than a life.
pub(crate) fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(MAX_SECONDS))
}

/// Whether an init container stays beside the others instead of ending before them (a sidecar).
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The policy for one container: its own, else the pod's.
pub(crate) fn policy_of(pod: &Pod, container: &Container) -> RestartPolicy {
    match container.restart_policy.as_deref() {
        Some(own) => RestartPolicy::parse(Some(own)),
        None => spec(pod).restart_policy(),
    }
}

/// A hash of what may not change under a running container: its name and image. It is kept in the runtime, so it
/// must stay the same over versions of the kubelet (FNV-1a, 64 bit).
pub(crate) fn hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let bytes = container.name.bytes().chain([0]).chain(image.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:x}")
}

/// An amount of a resource list.
pub(crate) fn amount(list: Option<&BTreeMap<String, WireQuantity>>, name: &str) -> Option<Quantity> {
    list.and_then(|list| list.get(name))
        .and_then(|wire| wire.0.parse().ok())
}

/// The limit and the request of a container for a resource.
pub(crate) fn limit(resources: Option<&ResourceRequirements>, name: &str) -> Option<Quantity> {
    amount(resources.and_then(|resources| resources.limits.as_ref()), name)
}

/// What a container asks for; a limit without a request is one.
pub(crate) fn request(resources: Option<&ResourceRequirements>, name: &str) -> Option<Quantity> {
    amount(resources.and_then(|resources| resources.requests.as_ref()), name)
        .or_else(|| limit(resources, name))
}

/// How the pod is treated when resources are short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The pod's class: Guaranteed if every container limits processor and memory and asks for no less, BestEffort if
/// none asks for anything.
pub(crate) fn qos(pod: &Pod) -> Qos {
    let (mut guaranteed, mut any) = (true, false);
    for container in spec(pod).all_containers() {
        let resources = container.resources.as_ref();
        for name in ["cpu", "memory"] {
            let limit = limit(resources, name).filter(|limit| !limit.is_zero());
            let request = request(resources, name).filter(|request| !request.is_zero());
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

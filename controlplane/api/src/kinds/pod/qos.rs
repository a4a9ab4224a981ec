//! The quality-of-service class: who is squeezed first.
//!
//! Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/.

use k8s_openapi::api::core::v1::PodSpec;

use crate::Quantity;

const COUNTED: [&str; 2] = ["cpu", "memory"];

pub(super) fn class(spec: &PodSpec) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
    {
        let amount = |limits: bool, name: &str| {
            let resources = container.resources.as_ref()?;
            let map = if limits {
                &resources.limits
            } else {
                &resources.requests
            };
            let quantity = Quantity::try_from(map.as_ref()?.get(name)?).ok()?;
            (!quantity.is_zero()).then_some(quantity)
        };
        for name in COUNTED {
            let (limit, request) = (amount(true, name), amount(false, name));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

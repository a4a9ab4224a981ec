//! Which pods stand behind a Service, under which addresses and ports. Pure; shared by the controllers of
//! EndpointSlices and of Endpoints.

use crate::pods;
use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(crate) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: &str) -> Option<Self> {
        match address.parse() {
            Ok(IpAddr::V4(_)) => Some(Self::V4),
            Ok(IpAddr::V6(_)) => Some(Self::V6),
            Err(_) => None,
        }
    }

    /// As EndpointSlices spell it.
    pub(crate) fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// The selector of a Service whose endpoints are found by selector; None: someone else writes them.
pub(crate) fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref()
}

/// An empty selector selects nothing.
pub(crate) fn selects(selector: &BTreeMap<String, String>, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

pub(crate) fn is_headless(spec: &ServiceSpec) -> bool {
    matches!(spec.cluster_ip.as_deref(), None | Some("" | "None"))
}

pub(crate) fn publishes_unready(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or(false)
}

/// The address families of the Service, first the primary one.
pub(crate) fn families(spec: &ServiceSpec) -> Vec<Family> {
    let named: Vec<Family> = spec
        .ip_families
        .iter()
        .flatten()
        .filter_map(|family| match family.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    match spec.cluster_ip.as_deref().and_then(Family::of) {
        Some(family) => vec![family],
        None => vec![Family::V4, Family::V6],
    }
}

/// Has an address and may still answer. Pods that are being deleted count only if asked for.
pub(crate) fn may_be_endpoint(pod: &Pod, include_terminating: bool) -> bool {
    !pods::is_terminal(pod)
        && !pods::addresses(pod).is_empty()
        && (include_terminating || pod.metadata.deletion_timestamp.is_none())
}

/// The pod's addresses of one family.
pub(crate) fn addresses(pod: &Pod, family: Family) -> Vec<String> {
    pods::addresses(pod)
        .into_iter()
        .filter(|address| Family::of(address) == Some(family))
        .map(str::to_owned)
        .collect()
}

/// The name under which a pod of a headless Service has a record of its own.
pub(crate) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|hostname| !hostname.is_empty())?;
    let here =
        spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace;
    here.then(|| hostname.clone())
}

pub(crate) fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// The pod's port that a Service port leads to; None: the pod has no port of that name.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let named = |container: &Container| {
        container.ports.iter().flatten().find_map(|candidate| {
            let same_protocol = candidate.protocol.as_deref().unwrap_or("TCP") == protocol(port);
            (candidate.name.as_ref() == Some(name) && same_protocol).then_some(candidate.container_port)
        })
    };
    spec.containers.iter().chain(sidecars).find_map(named)
}

/// Whether a change of the pod can matter to the endpoints of any Service.
pub(crate) fn differs(old: &Pod, new: &Pod) -> bool {
    let spec = |pod: &Pod| {
        pod.spec.as_ref().map(|spec| {
            (
                spec.node_name.clone(),
                spec.hostname.clone(),
                spec.subdomain.clone(),
            )
        })
    };
    old.metadata.uid != new.metadata.uid
        || old.metadata.labels != new.metadata.labels
        || old.metadata.deletion_timestamp.is_some() != new.metadata.deletion_timestamp.is_some()
        || pods::addresses(old) != pods::addresses(new)
        || pods::is_ready(old) != pods::is_ready(new)
        || pods::is_terminal(old) != pods::is_terminal(new)
        || spec(old) != spec(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn target_ports_by_number_name_and_sidecar() {
        let pod: Pod = serde_json::from_value(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": {},
            "spec": {
                "initContainers": [
                    { "name": "once", "ports": [{ "name": "setup", "containerPort": 1 }] },
                    { "name": "side", "restartPolicy": "Always",
                        "ports": [{ "name": "metrics", "containerPort": 9090 }] }],
                "containers": [{ "name": "c", "ports": [
                    { "name": "web", "containerPort": 8080 },
                    { "name": "dns", "containerPort": 5353, "protocol": "UDP" }] }] } }))
        .unwrap();
        for (target, protocol, expected) in [
            (json!(81), "TCP", Some(81)),
            (json!(null), "TCP", Some(80)),
            (json!("web"), "TCP", Some(8080)),
            (json!("web"), "UDP", None),
            (json!("dns"), "UDP", Some(5353)),
            (json!("metrics"), "TCP", Some(9090)),
            (json!("setup"), "TCP", None),
            (json!("none"), "TCP", None),
        ] {
            let port: ServicePort =
                serde_json::from_value(json!({ "port": 80, "targetPort": target, "protocol": protocol }))
                    .unwrap();
            assert_eq!(target_port(&pod, &port), expected, "{target} {protocol}");
        }
    }

    #[test]
    fn families_of_a_service() {
        let of = |value| families(&serde_json::from_value::<ServiceSpec>(value).unwrap());
        assert_eq!(
            of(json!({ "ipFamilies": ["IPv6", "IPv4"] })),
            [Family::V6, Family::V4]
        );
        assert_eq!(of(json!({ "clusterIP": "10.0.0.1" })), [Family::V4]);
        assert_eq!(of(json!({ "clusterIP": "None" })), [Family::V4, Family::V6]);
    }
}

//! What a Service that is reachable from outside may say, and one that is not may not.

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServiceSpec};

use crate::error::{FieldError, FieldPath};
use crate::validation::{fields, names};

const ONLY_LOAD_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";

pub(super) fn is_load_balancer(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer")
}

/// Has a healthCheckNodePort.
pub(super) fn is_health_checked(spec: &ServiceSpec) -> bool {
    is_load_balancer(spec) && spec.external_traffic_policy.as_deref() == Some("Local")
}

/// Has an address that clients from outside may use.
pub(super) fn is_external(spec: &ServiceSpec) -> bool {
    matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
        || spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty())
}

pub(super) fn validate(errors: &mut Vec<FieldError>, spec: &ServiceSpec, path: &FieldPath) {
    if let Some(policy) = spec
        .external_traffic_policy
        .as_deref()
        .filter(|_| !is_external(spec))
    {
        let why = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(
            path.child("externalTrafficPolicy"),
            policy,
            why,
        ));
    }
    if let Some(port) = spec.health_check_node_port.filter(|port| *port != 0)
        && !is_health_checked(spec)
    {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(path.child("healthCheckNodePort"), port, why));
    }
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let set = [
        (
            "allocateLoadBalancerNodePorts",
            spec.allocate_load_balancer_node_ports.is_some(),
        ),
        ("loadBalancerClass", spec.load_balancer_class.is_some()),
        ("loadBalancerSourceRanges", !ranges.is_empty()),
    ];
    for (field, _) in set.iter().filter(|(_, set)| *set && !is_load_balancer(spec)) {
        errors.push(FieldError::forbidden(path.child(field), ONLY_LOAD_BALANCERS));
    }
    for (index, range) in ranges.iter().enumerate() {
        // Blanks around a range are allowed for the sake of an annotation that once was split at commas.
        let wrong = names::ip_range(range.trim());
        fields::faults(
            errors,
            &path.child("loadBalancerSourceRanges").index(index),
            range,
            wrong,
        );
    }
    if let Some(class) = spec
        .load_balancer_class
        .as_deref()
        .filter(|_| is_load_balancer(spec))
    {
        fields::faults(
            errors,
            &path.child("loadBalancerClass"),
            class,
            names::qualified_name(class),
        );
    }
}

pub(super) fn validate_update(errors: &mut Vec<FieldError>, new: &ServiceSpec, old: &ServiceSpec) {
    if is_load_balancer(new) && is_load_balancer(old) && new.load_balancer_class != old.load_balancer_class {
        let class = &new.load_balancer_class;
        errors.push(FieldError::invalid(
            "spec.loadBalancerClass",
            class,
            "may not change once set",
        ));
    }
    if is_health_checked(new)
        && is_health_checked(old)
        && new.health_check_node_port != old.health_check_node_port
    {
        let port = new.health_check_node_port;
        errors.push(FieldError::invalid(
            "spec.healthCheckNodePort",
            port,
            "field is immutable",
        ));
    }
}

/// Addresses are answered by the nodes themselves unless the load balancer says that it does (KEP-1860).
pub(super) fn set_status_defaults(service: &mut Service) {
    if !service.spec.as_ref().is_some_and(is_load_balancer) {
        return;
    }
    let status = service
        .status
        .as_mut()
        .and_then(|status| status.load_balancer.as_mut());
    for ingress in status
        .into_iter()
        .flat_map(|status| status.ingress.iter_mut().flatten())
    {
        if ingress.ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
            ingress.ip_mode.get_or_insert_with(|| "VIP".to_owned());
        }
    }
}

pub(super) fn validate_status(service: &Service) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let all = status
        .and_then(|status| status.ingress.as_deref())
        .unwrap_or_default();
    let path = FieldPath::new("status").child("loadBalancer").child("ingress");
    if !all.is_empty() && !service.spec.as_ref().is_some_and(is_load_balancer) {
        let why = "may only be used when `spec.type` is \"LoadBalancer\"";
        errors.push(FieldError::forbidden(&path, why));
    }
    for (index, ingress) in all.iter().enumerate() {
        validate_ingress(&mut errors, ingress, &path.index(index));
    }
    errors
}

fn validate_ingress(errors: &mut Vec<FieldError>, ingress: &LoadBalancerIngress, path: &FieldPath) {
    let ip = ingress.ip.as_deref().filter(|ip| !ip.is_empty());
    match (ip, ingress.ip_mode.as_deref()) {
        (Some(ip), mode) => {
            fields::faults(errors, &path.child("ip"), ip, names::ip_address(ip));
            if mode.is_none() {
                let why = "must be specified when `ip` is set";
                errors.push(FieldError::required(path.child("ipMode"), why));
            }
            fields::one_of(errors, &path.child("ipMode"), mode, &["Proxy", "VIP"]);
        }
        (None, Some(_)) => {
            let why = "may not be specified when `ip` is not set";
            errors.push(FieldError::forbidden(path.child("ipMode"), why));
        }
        (None, None) => {}
    }
    let hostname = ingress.hostname.as_deref().unwrap_or("");
    if !hostname.is_empty() {
        let path = path.child("hostname");
        fields::faults(errors, &path, hostname, names::dns1123_subdomain(hostname));
        if names::ip_address(hostname).is_empty() {
            errors.push(FieldError::invalid(
                path,
                hostname,
                "must be a DNS name, not an IP address",
            ));
        }
    }
}

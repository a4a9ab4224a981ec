//! What of a Service is kept when an update leaves it out, and what must not change.

use k8s_openapi::api::core::v1::ServiceSpec;

use super::external;
use crate::error::FieldError;

fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn has_address(spec: &ServiceSpec) -> bool {
    kind(spec) != "ExternalName"
}

fn has_node_ports(spec: &ServiceSpec) -> bool {
    matches!(kind(spec), "NodePort" | "LoadBalancer")
}

/// Takes over from the old state what was allocated, where the new one does not say otherwise; drops what the new
/// type has not.
pub(super) fn carry(new: &mut ServiceSpec, old: &ServiceSpec) {
    carry_addresses(new, old);
    if has_node_ports(new) {
        carry_ports(new, old);
    } else {
        release_ports(new, old);
    }
    if !external::is_health_checked(new) {
        if new.health_check_node_port == old.health_check_node_port {
            new.health_check_node_port = None;
        }
    } else if new.health_check_node_port.unwrap_or(0) == 0 {
        new.health_check_node_port = old.health_check_node_port;
    }
    if !external::is_load_balancer(new) && external::is_load_balancer(old) {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if !external::is_external(new) && external::is_external(old) {
        new.external_traffic_policy = None;
    }
}

fn carry_addresses(new: &mut ServiceSpec, old: &ServiceSpec) {
    match (has_address(new), has_address(old)) {
        (true, true) => {
            let none = |ips: &Option<Vec<String>>| ips.as_ref().is_none_or(Vec::is_empty);
            let unset = new.cluster_ip.as_deref().unwrap_or("").is_empty();
            if unset && none(&new.cluster_ips) {
                new.cluster_ip.clone_from(&old.cluster_ip);
                new.cluster_ips.clone_from(&old.cluster_ips);
            } else if new.cluster_ip == old.cluster_ip
                && new.cluster_ips.as_deref().map(<[_]>::len) == Some(1)
            {
                // Written by a client that knows the singular only.
                let first =
                    |spec: &ServiceSpec| spec.cluster_ips.as_ref().and_then(|ips| ips.first().cloned());
                if first(new) == first(old) && new.ip_families.is_none() {
                    new.cluster_ips.clone_from(&old.cluster_ips);
                }
            }
            if new.ip_families.is_none() {
                new.ip_families.clone_from(&old.ip_families);
            }
            if new.ip_family_policy.is_none() {
                new.ip_family_policy.clone_from(&old.ip_family_policy);
            }
            if new.ip_family_policy.as_deref() == Some("SingleStack") {
                new.cluster_ips.iter_mut().for_each(|ips| ips.truncate(1));
                new.ip_families
                    .iter_mut()
                    .for_each(|families| families.truncate(1));
            }
        }
        (false, true) => {
            if new.cluster_ip == old.cluster_ip {
                (new.cluster_ip, new.cluster_ips) = (None, None);
            }
            (new.ip_families, new.ip_family_policy, new.internal_traffic_policy) = (None, None, None);
        }
        (_, false) => {}
    }
}

fn carry_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let taken: Vec<i32> = new
        .ports
        .iter()
        .flatten()
        .filter_map(|port| port.node_port)
        .collect();
    for port in new.ports.iter_mut().flatten() {
        if port.node_port.unwrap_or(0) != 0 {
            continue;
        }
        let before = old
            .ports
            .iter()
            .flatten()
            .find(|before| before.port == port.port && before.protocol == port.protocol);
        let number = before.and_then(|before| before.node_port);
        port.node_port = number.filter(|number| !taken.contains(number));
    }
}

fn release_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let before: Vec<i32> = old
        .ports
        .iter()
        .flatten()
        .filter_map(|port| port.node_port)
        .collect();
    for port in new.ports.iter_mut().flatten() {
        if port.node_port.is_some_and(|number| before.contains(&number)) {
            port.node_port = None;
        }
    }
}

pub(super) fn validate(new: &ServiceSpec, old: &ServiceSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    external::validate_update(&mut errors, new, old);
    if !has_address(new) || !has_address(old) {
        return errors;
    }
    let first = |spec: &ServiceSpec| spec.cluster_ip.clone().filter(|ip| !ip.is_empty());
    if first(old).is_some() && first(new) != first(old) {
        let shown = new.cluster_ips.clone().unwrap_or_default();
        errors.push(FieldError::invalid(
            "spec.clusterIPs[0]",
            shown,
            "may not change once set",
        ));
    }
    let family = |spec: &ServiceSpec| {
        spec.ip_families
            .as_ref()
            .and_then(|families| families.first().cloned())
    };
    if family(old).is_some() && family(new) != family(old) {
        let shown = new.ip_families.clone().unwrap_or_default();
        errors.push(FieldError::invalid(
            "spec.ipFamilies[0]",
            shown,
            "may not change once set",
        ));
    }
    errors
}

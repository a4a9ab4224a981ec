//! What is wrong with a Service.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::external;
use crate::error::{FieldError, FieldPath};
use crate::validation::{fields, meta, names};

const AFFINITY_SECONDS_MOST: i32 = 86_400;

pub(super) fn validate(spec: &ServiceSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = FieldPath::new("spec");
    let kind = spec.type_.as_deref().unwrap_or("");
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    fields::one_of(&mut errors, &path.child("type"), Some(kind), &kinds);
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required(path.child("ports"), ""));
    }
    validate_ports(&mut errors, ports, kind, &path.child("ports"));
    errors.extend(meta::labels(spec.selector.as_ref(), &path.child("selector")));
    validate_addresses(&mut errors, spec, kind, headless, &path);
    external::validate(&mut errors, spec, &path);
    fields::one_of(
        &mut errors,
        &path.child("sessionAffinity"),
        spec.session_affinity.as_deref(),
        &["ClientIP", "None"],
    );
    let client_ip = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref());
    if let Some(seconds) = client_ip.and_then(|config| config.timeout_seconds)
        && !(1..=AFFINITY_SECONDS_MOST).contains(&seconds)
    {
        let path = path
            .child("sessionAffinityConfig")
            .child("clientIP")
            .child("timeoutSeconds");
        let why = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MOST}");
        errors.push(FieldError::invalid(path, seconds, why));
    }
    let policies = [
        ("internalTrafficPolicy", &spec.internal_traffic_policy),
        ("externalTrafficPolicy", &spec.external_traffic_policy),
    ];
    for (name, policy) in policies {
        fields::one_of(
            &mut errors,
            &path.child(name),
            policy.as_deref(),
            &["Cluster", "Local"],
        );
    }
    fields::one_of(
        &mut errors,
        &path.child("trafficDistribution"),
        spec.traffic_distribution.as_deref(),
        &["PreferClose", "PreferSameNode", "PreferSameZone"],
    );
    let policies = ["SingleStack", "PreferDualStack", "RequireDualStack"];
    fields::one_of(
        &mut errors,
        &path.child("ipFamilyPolicy"),
        spec.ip_family_policy.as_deref(),
        &policies,
    );
    errors
}

fn validate_addresses(
    errors: &mut Vec<FieldError>,
    spec: &ServiceSpec,
    kind: &str,
    headless: bool,
    path: &FieldPath,
) {
    let given = spec.cluster_ip.as_deref().unwrap_or("");
    if kind == "ExternalName" {
        if !given.is_empty() && !headless {
            errors.push(FieldError::forbidden(
                path.child("clusterIPs"),
                "may not be set for ExternalName services",
            ));
        }
        let name = spec.external_name.as_deref().unwrap_or("").trim_end_matches('.');
        match name {
            "" => errors.push(FieldError::required(path.child("externalName"), "")),
            name => fields::faults(
                errors,
                &path.child("externalName"),
                name,
                names::dns1123_subdomain(name),
            ),
        }
        return;
    }
    if headless && matches!(kind, "NodePort" | "LoadBalancer") {
        let why = format!("may not be set to 'None' for {kind} services");
        errors.push(FieldError::invalid(path.child("clusterIPs").index(0), given, why));
    }
    for (index, ip) in spec.cluster_ips.iter().flatten().enumerate() {
        let path = path.child("clusterIPs").index(index);
        if ip != "None" && !ip.is_empty() {
            fields::faults(errors, &path, ip, names::ip_address(ip));
        }
        if index == 0 && ip != given {
            let why = "must match `clusterIP`";
            errors.push(FieldError::invalid(path, spec.cluster_ips.clone(), why));
        }
    }
    for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
        fields::faults(
            errors,
            &path.child("externalIPs").index(index),
            ip,
            names::ip_address(ip),
        );
    }
}

fn validate_ports(errors: &mut Vec<FieldError>, ports: &[ServicePort], kind: &str, path: &FieldPath) {
    let mut port_names = HashSet::new();
    let mut numbers = HashSet::new();
    let mut node_ports = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        match port.name.as_deref().unwrap_or("") {
            "" if ports.len() > 1 => errors.push(FieldError::required(path.child("name"), "")),
            "" => {}
            name => {
                fields::faults(errors, &path.child("name"), name, names::dns1123_label(name));
                fields::unique(errors, &path.child("name"), name, &mut port_names);
            }
        }
        let wrong = names::port_number(port.port);
        errors.extend(
            wrong
                .into_iter()
                .map(|why| FieldError::invalid(path.child("port"), port.port, why)),
        );
        fields::one_of(
            errors,
            &path.child("protocol"),
            port.protocol.as_deref(),
            &["SCTP", "TCP", "UDP"],
        );
        match &port.target_port {
            Some(IntOrString::Int(number)) => {
                let wrong = names::port_number(*number);
                let path = path.child("targetPort");
                errors.extend(
                    wrong
                        .into_iter()
                        .map(|why| FieldError::invalid(&path, number, why)),
                );
            }
            Some(IntOrString::String(name)) => {
                fields::faults(errors, &path.child("targetPort"), name, names::port_name(name));
            }
            None => {}
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if !numbers.insert((protocol, port.port)) {
            errors.push(FieldError::duplicate(
                &path,
                serde_json::json!({"port": port.port, "protocol": protocol}),
            ));
        }
        let Some(number) = port.node_port.filter(|number| *number != 0) else {
            continue;
        };
        if matches!(kind, "ClusterIP" | "ExternalName") {
            let why = format!("may not be used when `type` is '{kind}'");
            errors.push(FieldError::forbidden(path.child("nodePort"), why));
        } else if !node_ports.insert((protocol, number)) {
            errors.push(FieldError::duplicate(path.child("nodePort"), number));
        }
    }
}

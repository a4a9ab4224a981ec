//! Containers of pods.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, Lifecycle, PodSpec, Probe, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::template::exceeds;
use crate::error::{FieldError, FieldPath};
use crate::validation::{fields, names};

/// Checks all containers of a pod, whose names must differ across init and ordinary ones.
pub(super) fn validate_all(errors: &mut Vec<FieldError>, spec: &PodSpec, path: &FieldPath) {
    let volumes: HashSet<&str> = spec
        .volumes
        .iter()
        .flatten()
        .map(|volume| volume.name.as_str())
        .collect();
    let mut seen = HashSet::new();
    if spec.containers.is_empty() {
        errors.push(FieldError::required(path.child("containers"), ""));
    }
    let mut host_ports = HashSet::new();
    for (index, container) in spec.containers.iter().enumerate() {
        let path = path.child("containers").index(index);
        validate(errors, container, &volumes, &path);
        fields::unique(errors, &path.child("name"), &container.name, &mut seen);
        validate_host_ports(errors, container, &mut host_ports, &path);
    }
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let path = path.child("initContainers").index(index);
        validate(errors, container, &volumes, &path);
        fields::unique(errors, &path.child("name"), &container.name, &mut seen);
        validate_init(errors, container, &path);
    }
}

fn validate(errors: &mut Vec<FieldError>, container: &Container, volumes: &HashSet<&str>, path: &FieldPath) {
    if container.name.is_empty() {
        errors.push(FieldError::required(path.child("name"), ""));
    } else {
        let wrong = names::dns1123_label(&container.name);
        fields::faults(errors, &path.child("name"), &container.name, wrong);
    }
    match container.image.as_deref().unwrap_or("") {
        "" => errors.push(FieldError::required(path.child("image"), "")),
        image if image.trim() != image => {
            let why = "must not have leading or trailing whitespace";
            errors.push(FieldError::invalid(path.child("image"), image, why));
        }
        _ => {}
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    fields::one_of(
        errors,
        &path.child("imagePullPolicy"),
        container.image_pull_policy.as_deref(),
        &policies,
    );
    let policies = ["File", "FallbackToLogsOnError"];
    let policy = container.termination_message_policy.as_deref();
    fields::one_of(errors, &path.child("terminationMessagePolicy"), policy, &policies);
    validate_ports(errors, container, &path.child("ports"));
    validate_env(errors, container, path);
    validate_mounts(errors, container, volumes, &path.child("volumeMounts"));
    if let Some(resources) = &container.resources {
        validate_resources(errors, resources, &path.child("resources"));
    }
    let probes = [
        ("livenessProbe", &container.liveness_probe, true),
        ("readinessProbe", &container.readiness_probe, false),
        ("startupProbe", &container.startup_probe, true),
    ];
    for (name, probe, once) in probes {
        if let Some(probe) = probe {
            validate_probe(errors, probe, once, &path.child(name));
        }
    }
    if let Some(lifecycle) = &container.lifecycle {
        validate_lifecycle(errors, lifecycle, &path.child("lifecycle"));
    }
}

fn validate_init(errors: &mut Vec<FieldError>, container: &Container, path: &FieldPath) {
    match container.restart_policy.as_deref() {
        Some("Always") => return,
        Some(policy) => {
            errors.push(FieldError::not_supported(
                path.child("restartPolicy"),
                policy,
                &["Always"],
            ));
        }
        None => {}
    }
    let forbidden = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    for (name, _) in forbidden.iter().filter(|(_, present)| *present) {
        let why = "may not be set for init containers without restartPolicy=Always";
        errors.push(FieldError::forbidden(path.child(name), why));
    }
}

fn validate_ports(errors: &mut Vec<FieldError>, container: &Container, path: &FieldPath) {
    let mut seen = HashSet::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let path = path.index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            fields::faults(errors, &path.child("name"), name, names::port_name(name));
            fields::unique(errors, &path.child("name"), name, &mut seen);
        }
        let number = path.child("containerPort");
        if port.container_port == 0 {
            errors.push(FieldError::required(&number, ""));
        } else {
            let wrong = names::port_number(port.container_port);
            errors.extend(
                wrong
                    .into_iter()
                    .map(|why| FieldError::invalid(&number, port.container_port, why)),
            );
        }
        if let Some(host_port) = port.host_port.filter(|number| *number != 0) {
            let wrong = names::port_number(host_port);
            let path = path.child("hostPort");
            errors.extend(
                wrong
                    .into_iter()
                    .map(|why| FieldError::invalid(&path, host_port, why)),
            );
        }
        fields::one_of(
            errors,
            &path.child("protocol"),
            port.protocol.as_deref(),
            &["SCTP", "TCP", "UDP"],
        );
    }
}

fn validate_host_ports(
    errors: &mut Vec<FieldError>,
    container: &Container,
    seen: &mut HashSet<String>,
    path: &FieldPath,
) {
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let Some(number) = port.host_port.filter(|number| *number != 0) else {
            continue;
        };
        let claim = format!(
            "{}/{}/{number}",
            port.protocol.as_deref().unwrap_or("TCP"),
            port.host_ip.as_deref().unwrap_or("")
        );
        if !seen.insert(claim.clone()) {
            errors.push(FieldError::duplicate(
                path.child("ports").index(index).child("hostPort"),
                claim,
            ));
        }
    }
}

fn validate_env(errors: &mut Vec<FieldError>, container: &Container, path: &FieldPath) {
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let path = path.child("env").index(index);
        if variable.name.is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
        } else {
            let wrong = names::env_var_name(&variable.name);
            fields::faults(errors, &path.child("name"), &variable.name, wrong);
        }
        let Some(source) = &variable.value_from else {
            continue;
        };
        let path = path.child("valueFrom");
        let given = [
            source.config_map_key_ref.is_some(),
            source.field_ref.is_some(),
            source.file_key_ref.is_some(),
            source.resource_field_ref.is_some(),
            source.secret_key_ref.is_some(),
        ];
        let has_value = variable.value.as_deref().is_some_and(|value| !value.is_empty());
        let why = match given.iter().filter(|given| **given).count() {
            0 => {
                "must specify one of: `configMapKeyRef`, `fieldRef`, `fileKeyRef`, `resourceFieldRef` or `secretKeyRef`"
            }
            1 if has_value => "may not be specified when `value` is not empty",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(FieldError::invalid(path, "", why));
    }
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        if source.config_map_ref.is_some() == source.secret_ref.is_some() {
            let why = match source.secret_ref {
                None => "must specify one of: `configMapRef` or `secretRef`",
                Some(_) => "may not have more than one field specified at a time",
            };
            errors.push(FieldError::invalid(path.child("envFrom").index(index), "", why));
        }
    }
}

fn validate_mounts(
    errors: &mut Vec<FieldError>,
    container: &Container,
    volumes: &HashSet<&str>,
    path: &FieldPath,
) {
    let mut seen = HashSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = path.index(index);
        if mount.name.is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
        } else if !volumes.contains(mount.name.as_str()) {
            errors.push(FieldError::not_found(path.child("name"), &mount.name));
        }
        if mount.mount_path.is_empty() {
            errors.push(FieldError::required(path.child("mountPath"), ""));
        } else if !seen.insert(mount.mount_path.as_str()) {
            errors.push(FieldError::invalid(
                path.child("mountPath"),
                &mount.mount_path,
                "must be unique",
            ));
        }
        let sub_path = mount.sub_path.as_deref().unwrap_or("");
        if sub_path.starts_with('/') {
            errors.push(FieldError::invalid(
                path.child("subPath"),
                sub_path,
                "must be a relative path",
            ));
        } else if sub_path.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(
                path.child("subPath"),
                sub_path,
                "must not contain '..'",
            ));
        }
    }
}

fn validate_resources(errors: &mut Vec<FieldError>, resources: &ResourceRequirements, path: &FieldPath) {
    fields::quantities(errors, &path.child("limits"), resources.limits.as_ref());
    fields::quantities(errors, &path.child("requests"), resources.requests.as_ref());
    for (name, request) in resources.requests.iter().flatten() {
        let Some(limit) = resources.limits.as_ref().and_then(|limits| limits.get(name)) else {
            continue;
        };
        if exceeds(&request.0, &limit.0) {
            let why = format!("must be less than or equal to {name} limit of {}", limit.0);
            errors.push(FieldError::invalid(path.child("requests"), &request.0, why));
        }
    }
}

fn validate_probe(errors: &mut Vec<FieldError>, probe: &Probe, once: bool, path: &FieldPath) {
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, number) in numbers {
        fields::not_negative(errors, &path.child(name), number.map(i64::from));
    }
    if once && probe.success_threshold.is_some_and(|threshold| threshold != 1) {
        errors.push(FieldError::invalid(
            path.child("successThreshold"),
            probe.success_threshold,
            "must be 1",
        ));
    }
    let handlers = [
        probe.exec.is_some(),
        probe.http_get.is_some(),
        probe.tcp_socket.is_some(),
        probe.grpc.is_some(),
    ];
    match handlers.iter().filter(|given| **given).count() {
        0 => errors.push(FieldError::required(path, "must specify a handler type")),
        1 => {}
        _ => errors.push(FieldError::forbidden(
            path,
            "may not specify more than 1 handler type",
        )),
    }
    if let Some(action) = &probe.exec
        && action.command.as_ref().is_none_or(Vec::is_empty)
    {
        errors.push(FieldError::required(path.child("exec").child("command"), ""));
    }
    if let Some(action) = &probe.http_get {
        validate_port(errors, &action.port, &path.child("httpGet").child("port"));
        let scheme = action.scheme.as_deref();
        fields::one_of(
            errors,
            &path.child("httpGet").child("scheme"),
            scheme,
            &["HTTP", "HTTPS"],
        );
    }
    if let Some(action) = &probe.tcp_socket {
        validate_port(errors, &action.port, &path.child("tcpSocket").child("port"));
    }
}

fn validate_port(errors: &mut Vec<FieldError>, port: &IntOrString, path: &FieldPath) {
    match port {
        IntOrString::Int(number) => {
            errors.extend(
                names::port_number(*number)
                    .into_iter()
                    .map(|why| FieldError::invalid(path, number, why)),
            );
        }
        IntOrString::String(name) => fields::faults(errors, path, name, names::port_name(name)),
    }
}

fn validate_lifecycle(errors: &mut Vec<FieldError>, lifecycle: &Lifecycle, path: &FieldPath) {
    for (name, handler) in [
        ("postStart", &lifecycle.post_start),
        ("preStop", &lifecycle.pre_stop),
    ] {
        let Some(handler) = handler else { continue };
        let given = [
            handler.exec.is_some(),
            handler.http_get.is_some(),
            handler.tcp_socket.is_some(),
            handler.sleep.is_some(),
        ];
        match given.iter().filter(|given| **given).count() {
            0 => errors.push(FieldError::required(
                path.child(name),
                "must specify a handler type",
            )),
            1 => {}
            _ => errors.push(FieldError::forbidden(
                path.child(name),
                "may not specify more than 1 handler type",
            )),
        }
    }
}

//! What a pod's spec says when the user does not.

use k8s_openapi::api::core::v1::{
    Container, EnvVar, HTTPGetAction, Lifecycle, PodSpec, Probe, ResourceRequirements, Volume,
};

use crate::validation::fields::canonicalize;

/// The mode of files in volumes: 0644.
const FILE_MODE: i32 = 0o644;
const TOKEN_SECONDS: i64 = 3600;

fn text(field: &mut Option<String>, default: &str) {
    if field.as_deref().unwrap_or("").is_empty() {
        *field = Some(default.to_owned());
    }
}

fn number(field: &mut Option<i32>, default: i32) {
    if field.unwrap_or(0) == 0 {
        *field = Some(default);
    }
}

/// Defaults of pods and templates alike.
pub(in crate::kinds) fn set_defaults(spec: &mut PodSpec) {
    text(&mut spec.restart_policy, "Always");
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.security_context.get_or_insert_default();
    // The deprecated name says the same.
    if spec.service_account_name.is_none() {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    spec.service_account.clone_from(&spec.service_account_name);
    canonicalize(spec.overhead.as_mut());
    for container in spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers)
    {
        set_container_defaults(container);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        set_volume_defaults(volume);
    }
}

fn set_container_defaults(container: &mut Container) {
    text(&mut container.termination_message_path, "/dev/termination-log");
    text(&mut container.termination_message_policy, "File");
    let policy = pull_policy(container.image.as_deref().unwrap_or(""));
    text(&mut container.image_pull_policy, policy);
    for port in container.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
    }
    container.env.iter_mut().flatten().for_each(set_env_defaults);
    set_resource_defaults(container.resources.get_or_insert_default());
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(set_probe_defaults);
    container.lifecycle.iter_mut().for_each(set_lifecycle_defaults);
}

/// Images named `latest`, or without a tag, may change; others not.
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let name = image.rsplit('/').next().unwrap_or("");
    match name.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn set_env_defaults(variable: &mut EnvVar) {
    if let Some(field) = variable
        .value_from
        .as_mut()
        .and_then(|source| source.field_ref.as_mut())
    {
        text(&mut field.api_version, "v1");
    }
}

fn set_resource_defaults(resources: &mut ResourceRequirements) {
    canonicalize(resources.limits.as_mut());
    canonicalize(resources.requests.as_mut());
}

fn set_probe_defaults(probe: &mut Probe) {
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    probe.http_get.iter_mut().for_each(set_http_defaults);
    if let Some(action) = &mut probe.grpc {
        action.service.get_or_insert_default();
    }
}

fn set_lifecycle_defaults(lifecycle: &mut Lifecycle) {
    for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop]
        .into_iter()
        .flatten()
    {
        handler.http_get.iter_mut().for_each(set_http_defaults);
    }
}

fn set_http_defaults(action: &mut HTTPGetAction) {
    text(&mut action.path, "/");
    text(&mut action.scheme, "HTTP");
}

fn set_volume_defaults(volume: &mut Volume) {
    if super::volumes::sources(volume).is_empty() {
        volume.empty_dir = Some(Default::default());
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(FILE_MODE);
        for field in source
            .items
            .iter_mut()
            .flatten()
            .filter_map(|item| item.field_ref.as_mut())
        {
            text(&mut field.api_version, "v1");
        }
    }
    let Some(projected) = &mut volume.projected else {
        return;
    };
    projected.default_mode.get_or_insert(FILE_MODE);
    for source in projected.sources.iter_mut().flatten() {
        if let Some(token) = &mut source.service_account_token {
            token.expiration_seconds.get_or_insert(TOKEN_SECONDS);
        }
        let items = source
            .downward_api
            .iter_mut()
            .flat_map(|api| api.items.iter_mut().flatten());
        for field in items.filter_map(|item| item.field_ref.as_mut()) {
            text(&mut field.api_version, "v1");
        }
    }
}

/// Pods only: what is limited but not requested is requested as limited, and pods on the host's network have their
/// ports there.
pub(in crate::kinds) fn set_resource_requests(spec: &mut PodSpec) {
    let host_network = spec.host_network == Some(true);
    for container in spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers)
    {
        if host_network {
            for port in container.ports.iter_mut().flatten() {
                number(&mut port.host_port, port.container_port);
            }
        }
        let Some(resources) = &mut container.resources else {
            continue;
        };
        for (name, limit) in resources.limits.clone().unwrap_or_default() {
            resources
                .requests
                .get_or_insert_default()
                .entry(name)
                .or_insert(limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policy_follows_the_tag() {
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("host:5000/nginx", "Always"),
            ("host:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
        ];
        for (image, policy) in cases {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}

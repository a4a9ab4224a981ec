//! A pod as a sandbox of the runtime. Pure.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use skep_cri::v1;

use crate::config::KubeletConfig;
use crate::dns::{self, HostResolver};
use crate::names::{self, PodIdentity};
use crate::security;
use crate::spec::spec;

/// The sandbox's configuration.
pub(crate) fn sandbox_config(
    pod: &Pod,
    config: &KubeletConfig,
    resolver: &HostResolver,
    cgroup: String,
    attempt: u32,
) -> v1::PodSandboxConfig {
    let id = PodIdentity::of(pod);
    let host_network = spec(pod).host_network();
    // In the host's network the host's name holds; runtimes refuse another.
    let hostname = if host_network {
        String::new()
    } else {
        dns::hostname(pod, &config.cluster_domain).0
    };
    let mut labels: HashMap<_, _> = pod
        .metadata
        .labels
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    labels.extend(pod_labels(&id));
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: id.name.clone(),
            uid: id.uid.clone(),
            namespace: id.namespace.clone(),
            attempt,
        }),
        hostname,
        log_directory: config.log_dir.join(id.log_directory()).display().to_string(),
        dns_config: Some(dns::resolver(pod, config, resolver)),
        port_mappings: if host_network {
            Vec::new()
        } else {
            port_mappings(pod)
        },
        labels,
        annotations: pod
            .metadata
            .annotations
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: cgroup,
            security_context: Some(security::of_sandbox(pod, &config.root_dir)),
            sysctls: sysctls(pod),
        }),
    }
}

/// The labels that say whose a sandbox or container is.
pub(crate) fn pod_labels(id: &PodIdentity) -> [(String, String); 3] {
    [
        (names::POD_NAME.to_owned(), id.name.clone()),
        (names::POD_NAMESPACE.to_owned(), id.namespace.clone()),
        (names::POD_UID.to_owned(), id.uid.clone()),
    ]
}

fn sysctls(pod: &Pod) -> HashMap<String, String> {
    let context = spec(pod).get().and_then(|spec| spec.security_context.as_ref());
    let list = context
        .and_then(|context| context.sysctls.as_deref())
        .unwrap_or_default();
    list.iter()
        .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
        .collect()
}

fn port_mappings(pod: &Pod) -> Vec<v1::PortMapping> {
    let ports = spec(pod)
        .all_containers()
        .flat_map(|container| container.ports.iter().flatten());
    ports
        .filter(|port| port.host_port.is_some_and(|port| port > 0))
        .map(|port| {
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => v1::Protocol::Udp,
                Some("SCTP") => v1::Protocol::Sctp,
                _ => v1::Protocol::Tcp,
            };
            v1::PortMapping {
                protocol: protocol.into(),
                container_port: port.container_port,
                host_port: port.host_port.unwrap_or_default(),
                host_ip: port.host_ip.clone().unwrap_or_default(),
            }
        })
        .collect()
}

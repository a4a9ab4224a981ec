//! Pure: the Node as the kubelet registers it, and its status but for conditions and images.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::machine::Machine;
use crate::config::KubeletConfig;

/// The API level that this kubelet speaks, and who it is.
const VERSION: &str = "v1.37.0+skep";
/// Memory that pods are not given: upstream's default eviction threshold.
const RESERVED_MEMORY_BYTES: u64 = 100 * 1024 * 1024;

/// The Node to register.
pub(super) fn node(config: &KubeletConfig, status: NodeStatus) -> Node {
    let mut labels = config.labels.clone();
    for (name, value) in [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
    ] {
        labels.insert(name.to_owned(), value.to_owned());
    }
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        status: Some(status),
        ..Node::default()
    }
}

/// The status, without conditions and images.
pub(super) fn status(
    config: &KubeletConfig,
    machine: &Machine,
    runtime_version: Option<String>,
) -> NodeStatus {
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", config.node_ip.to_string()),
            address("Hostname", config.node_name.clone()),
        ]),
        capacity: Some(resources(
            config,
            machine.memory_bytes,
            machine.cpus,
            machine.disk_bytes,
        )),
        allocatable: Some(resources(
            config,
            machine.memory_bytes.saturating_sub(RESERVED_MEMORY_BYTES),
            machine.cpus,
            // Upstream evicts when less than a tenth of the disk is free.
            machine.disk_bytes / 10 * 9,
        )),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(config.listen.port()),
            }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().to_owned(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: runtime_version.unwrap_or_else(|| "unknown".to_owned()),
            kernel_version: machine.kernel.clone(),
            kubelet_version: VERSION.to_owned(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os.clone(),
            system_uuid: machine.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

fn resources(
    config: &KubeletConfig,
    memory_bytes: u64,
    cpus: usize,
    disk_bytes: u64,
) -> BTreeMap<String, Quantity> {
    let amounts = [
        ("cpu", cpus.to_string()),
        ("memory", format!("{}Ki", memory_bytes / 1024)),
        ("ephemeral-storage", format!("{}Ki", disk_bytes / 1024)),
        ("pods", config.max_pods.to_string()),
    ];
    amounts
        .into_iter()
        .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
        .collect()
}

/// The architecture by its name in container images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

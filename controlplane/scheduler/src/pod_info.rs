//! A pod, with everything that scheduling asks about it computed once.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Toleration};
use skep_api::{ObjectExt, ObjectKey};

use crate::resources::{PodRequests, Resources, pod_requests};

/// A port that a pod takes on its node. An empty address is all of the node's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    pub protocol: String,
    pub address: String,
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be had on one node.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || self.address.is_empty() || other.address.is_empty())
    }
}

/// A pod as scheduling sees it.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub key: ObjectKey,
    pub priority: i32,
    /// What must be free on the node.
    pub requests: Resources,
    /// What it counts as when nodes are compared; see `resources`.
    pub compared: Resources,
    pub host_ports: Vec<HostPort>,
    /// The uid of its controller.
    pub owner: Option<String>,
}

impl PodInfo {
    #[must_use]
    pub fn new(pod: Arc<Pod>) -> Self {
        let requests = pod.spec.as_ref().map(pod_requests);
        let PodRequests { needed, compared } = requests.unwrap_or(PodRequests {
            needed: Resources::default(),
            compared: Resources::default(),
        });
        Self {
            key: pod.key(),
            priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0),
            requests: needed,
            compared,
            host_ports: host_ports(&pod),
            owner: pod.controller_owner().map(|owner| owner.uid.clone()),
            pod,
        }
    }

    #[must_use]
    pub fn uid(&self) -> &str {
        self.pod.uid()
    }

    #[must_use]
    pub fn tolerations(&self) -> &[Toleration] {
        self.pod
            .spec
            .as_ref()
            .and_then(|spec| spec.tolerations.as_deref())
            .unwrap_or_default()
    }
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let host_network = spec.host_network == Some(true);
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.filter(|port| *port > 0);
            let number = number.or(host_network.then_some(port.container_port))?;
            let address = port.host_ip.as_deref().unwrap_or_default();
            let everywhere = matches!(address, "0.0.0.0" | "::");
            Some(HostPort {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                address: if everywhere {
                    String::new()
                } else {
                    address.to_owned()
                },
                port: number,
            })
        })
        .collect()
}

/// Where the pod is to run, once it is decided.
pub(crate) fn assigned_node(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()?
        .node_name
        .as_deref()
        .filter(|node| !node.is_empty())
}

/// A pod that has ended for good holds nothing any more.
pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether someone still holds the pod back from being scheduled.
pub(crate) fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

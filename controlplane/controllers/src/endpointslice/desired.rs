//! The endpoints that a Service should have, by the set of ports they serve. Pure.

use crate::endpointslice::packing::{Group, Groups, group_key};
use crate::pods;
use crate::service_pods::{self, Family};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone,
};
use std::sync::Arc;

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

pub(crate) struct Desired {
    pub(crate) groups: Groups,
    /// A pod was left out because its node is not known (yet).
    pub(crate) node_missing: bool,
}

/// The endpoints of one address family. `node_of` finds a node by name.
pub(crate) fn desired(
    service: &Service,
    pods: &[Arc<Pod>],
    family: Family,
    node_of: &dyn Fn(&str) -> Option<Arc<Node>>,
) -> Desired {
    let mut result = Desired {
        groups: Groups::new(),
        node_missing: false,
    };
    for pod in pods.iter().filter(|pod| service_pods::may_be_endpoint(pod, true)) {
        let node = match pods::node_name(pod) {
            "" => None,
            name => node_of(name),
        };
        if node.is_none() && !pods::node_name(pod).is_empty() {
            result.node_missing = true;
            continue;
        }
        let addresses = service_pods::addresses(pod, family);
        if addresses.is_empty() {
            continue;
        }
        let ports = ports(service, pod);
        let endpoint = endpoint(service, pod, addresses, node.as_deref());
        result
            .groups
            .entry(group_key(&ports))
            .or_insert_with(|| Group {
                ports,
                endpoints: Vec::new(),
            })
            .endpoints
            .push(endpoint);
    }
    result
}

fn endpoint(service: &Service, pod: &Pod, addresses: Vec<String>, node: Option<&Node>) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let ready = service_pods::publishes_unready(service) || (serving && !terminating);
    let zone = node
        .and_then(|node| node.metadata.labels.as_ref())
        .and_then(|labels| labels.get(ZONE_LABEL));
    let endpoint = Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: service_pods::hostname(pod, service),
        node_name: Some(pods::node_name(pod))
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
        target_ref: Some(pod_reference(pod)),
        zone: zone.filter(|zone| !zone.is_empty()).cloned(),
        ..Default::default()
    };
    Endpoint {
        hints: hints(service, &endpoint).filter(|_| ready),
        ..endpoint
    }
}

/// Which nodes should use a ready endpoint, by the Service's `trafficDistribution` (KEP-3015, KEP-4444): those of
/// its own zone, and for PreferSameNode its own node before them.
fn hints(service: &Service, endpoint: &Endpoint) -> Option<EndpointHints> {
    let spec = service.spec.as_ref()?;
    let same_node = match spec.traffic_distribution.as_deref() {
        Some("PreferSameNode") => true,
        Some("PreferClose" | "PreferSameZone") => false,
        _ => return None,
    };
    let zone = endpoint.zone.clone();
    let node = endpoint.node_name.clone().filter(|_| same_node);
    let hints = EndpointHints {
        for_zones: zone.map(|name| vec![ForZone { name }]),
        for_nodes: node.map(|name| vec![ForNode { name }]),
    };
    (hints != EndpointHints::default()).then_some(hints)
}

pub(crate) fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}

/// The Service's ports as this pod serves them; ports that it does not have are left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    ports
        .into_iter()
        .flatten()
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(service_pods::target_port(pod, port)?),
                protocol: Some(service_pods::protocol(port).to_owned()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

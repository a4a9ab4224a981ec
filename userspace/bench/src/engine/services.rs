//! Services in any number: the same list for every contender.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use crate::BenchError;

/// All ClusterIPs.
pub(crate) const SERVICE_CIDR: &str = "10.96.0.0/16";
/// All pods, those that only exist in tables included.
pub(crate) const POD_CIDR: &str = "10.128.0.0/9";
/// The namespace of all Services.
pub(crate) const NAMESPACE: &str = "default";
/// The node where the endpoints are that really exist.
pub(crate) const NODE_NAME: &str = "bench-node";

const FIRST_CLUSTER_IP: u32 = u32::from_be_bytes([10, 96, 0, 16]);
const FIRST_ENDPOINT: u32 = u32::from_be_bytes([10, 128, 0, 2]);
const PORT: u16 = 80;
const TARGET_PORT: u16 = 8080;
const FIRST_NODE_PORT: u16 = 30_000;
/// Most Services with a node port: the usual range has room for 2,768.
const MOST_NODE_PORTS: usize = 2_000;

/// How many Services there are, and of what shape.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) services: usize,
    pub(crate) endpoints: usize,
    /// Whether Services, evenly spread, have a node port.
    pub(crate) node_ports: bool,
    /// The endpoints of the Services that are measured: first, middle and last.
    pub(crate) real: Vec<SocketAddrV4>,
}

/// A Service with one TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) cluster_ip: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
    pub(crate) endpoints: Vec<SocketAddrV4>,
}

/// Where in the list a Service stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    First,
    Middle,
    Last,
}

impl Position {
    pub(crate) const ALL: [Self; 3] = [Self::First, Self::Middle, Self::Last];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Middle => "middle",
            Self::Last => "last",
        }
    }

    /// Its place among `count` Services.
    pub(crate) fn of(self, count: usize) -> usize {
        match self {
            Self::First => 0,
            Self::Middle => count / 2,
            Self::Last => count.saturating_sub(1),
        }
    }
}

impl Shape {
    /// The Services, in the order in which rules are written.
    pub(crate) fn services(&self) -> Vec<Service> {
        let stride = self.services.div_ceil(MOST_NODE_PORTS).max(1);
        let measured = Position::ALL.map(|position| position.of(self.services));
        let mut node_ports = FIRST_NODE_PORT..;
        let endpoints_each = self.endpoints;
        (0..self.services)
            .map(|at| {
                let real = measured.contains(&at) && !self.real.is_empty();
                let endpoints = if real {
                    self.real.clone()
                } else {
                    (0..endpoints_each)
                        .map(|endpoint| {
                            let address = nth(FIRST_ENDPOINT, at * endpoints_each + endpoint);
                            SocketAddrV4::new(address, TARGET_PORT)
                        })
                        .collect()
                };
                let exposed = self.node_ports && (at % stride == 0 || measured.contains(&at));
                Service {
                    name: format!("service-{at}"),
                    cluster_ip: nth(FIRST_CLUSTER_IP, at),
                    port: PORT,
                    node_port: exposed.then(|| node_ports.next()).flatten(),
                    endpoints,
                }
            })
            .collect()
    }
}

fn nth(first: u32, at: usize) -> Ipv4Addr {
    Ipv4Addr::from(first + u32::try_from(at).expect("fewer endpoints than addresses"))
}

impl Service {
    /// As kube-proxy names the port in what it hashes.
    pub(crate) fn port_name(&self) -> String {
        format!("{NAMESPACE}/{}:http", self.name)
    }

    /// The ClusterIP and its port.
    pub(crate) fn frontend(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.cluster_ip, self.port)
    }

    /// The object.
    ///
    /// # Errors
    /// [`BenchError::Json`].
    pub(crate) fn object(&self) -> Result<core::Service, BenchError> {
        let kind = if self.node_port.is_some() {
            "NodePort"
        } else {
            "ClusterIP"
        };
        let mut port =
            json!({"name": "http", "port": self.port, "protocol": "TCP", "targetPort": TARGET_PORT});
        if let Some(node_port) = self.node_port {
            port["nodePort"] = node_port.into();
        }
        let address = self.cluster_ip;
        Ok(serde_json::from_value(json!({
            "metadata": {"namespace": NAMESPACE, "name": self.name},
            "spec": {"type": kind, "clusterIP": address, "clusterIPs": [address], "ports": [port]},
        }))?)
    }

    /// Its one EndpointSlice; the first `unready` endpoints are not ready.
    ///
    /// # Errors
    /// [`BenchError::Json`].
    pub(crate) fn slice(&self, unready: usize) -> Result<EndpointSlice, BenchError> {
        let endpoints: Vec<_> = (0..)
            .zip(&self.endpoints)
            .map(|(at, endpoint)| {
                let ready = at >= unready;
                json!({
                    "addresses": [endpoint.ip()],
                    "nodeName": NODE_NAME,
                    "conditions": {"ready": ready, "serving": ready, "terminating": false},
                })
            })
            .collect();
        Ok(serde_json::from_value(json!({
            "metadata": {
                "namespace": NAMESPACE, "name": format!("{}-bench", self.name),
                "labels": {"kubernetes.io/service-name": self.name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": TARGET_PORT, "protocol": "TCP"}],
            "endpoints": endpoints,
        }))?)
    }
}

/// `1 Service`, `10,000 Services`.
pub(crate) fn counted(services: usize) -> String {
    let digits = services.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + if services == 1 { " Service" } else { " Services" }
}

/// What an API holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    pub(crate) services: Vec<Arc<core::Service>>,
    pub(crate) slices: Vec<Arc<EndpointSlice>>,
}

impl Objects {
    /// The objects of all Services, every endpoint ready.
    ///
    /// # Errors
    /// [`BenchError::Json`].
    pub(crate) fn of(services: &[Service]) -> Result<Self, BenchError> {
        let mut objects = Self::default();
        for service in services {
            objects.services.push(Arc::new(service.object()?));
            objects.slices.push(Arc::new(service.slice(0)?));
        }
        Ok(objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (services, text) in [
            (1, "1 Service"),
            (100, "100 Services"),
            (44_000, "44,000 Services"),
        ] {
            assert_eq!(counted(services), text);
        }
    }

    #[test]
    fn the_measured_services_lead_to_what_exists_and_have_node_ports() {
        let real = vec![SocketAddrV4::new(Ipv4Addr::new(10, 200, 2, 2), 8080)];
        for count in [1, 2, 1_000, 10_000, 44_000] {
            let shape = Shape {
                services: count,
                endpoints: 10,
                node_ports: true,
                real: real.clone(),
            };
            let services = shape.services();
            assert_eq!(services.len(), count);
            for position in Position::ALL {
                let service = &services[position.of(count)];
                assert_eq!(service.endpoints, real);
                assert!(service.node_port.is_some_and(|port| port <= 32_767));
            }
            let mut addresses: Vec<_> = services.iter().map(|service| service.cluster_ip).collect();
            addresses.dedup();
            assert_eq!(addresses.len(), count);
        }
    }
}

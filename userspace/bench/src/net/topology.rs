//! The machines of a measurement: an outside client, a node, and on it a client's and a backend's pod.
//!
//! ```text
//! outside 172.31.0.100 ── 172.31.0.11 node ── 10.200.1.2 client
//!                                         └── 10.200.2.2, 10.200.2.3 backend
//! ```
//! Every contender has machines of its own: none meets connections that another has left.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::BenchError;
use crate::engine::machine::Netns;
use crate::net::server::Server;

pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 11);
pub(super) const NODE_DEVICE: &str = "eth0";
pub(super) const NODE_PODS: &str = "10.200.0.0/16";
/// The backend's addresses; each is an endpoint.
const BACKENDS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 200, 2, 2), Ipv4Addr::new(10, 200, 2, 3)];
const BACKEND_PORT: u16 = 8080;

pub(super) struct Topology {
    pub(super) node: Netns,
    outside: Netns,
    client: Netns,
    _server: Server,
}

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// From the client's pod to a ClusterIP.
    ClusterIp,
    /// From outside to a port of the node.
    NodePort,
}

impl Path {
    pub(super) const ALL: [Self; 2] = [Self::ClusterIp, Self::NodePort];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
        }
    }
}

impl Topology {
    pub(super) fn new() -> Result<Self, BenchError> {
        let (outside, node) = (Netns::new()?, Netns::new()?);
        outside.connect("eth0", &node, NODE_DEVICE)?;
        outside.ip("addr add 172.31.0.100/24 dev eth0")?;
        node.ip("addr add 172.31.0.11/24 dev eth0")?;
        outside.ip("route add default via 172.31.0.11")?;
        let client = pod(&node, 1)?;
        let backend = pod(&node, 2)?;
        backend.ip("addr add 10.200.2.3/24 dev eth0")?;
        let server = Server::start(&backend, BACKEND_PORT)?;
        Ok(Self {
            node,
            outside,
            client,
            _server: server,
        })
    }

    /// Where the client of a path is.
    pub(super) fn client(&self, path: Path) -> &Netns {
        match path {
            Path::ClusterIp => &self.client,
            Path::NodePort => &self.outside,
        }
    }
}

/// The endpoints that exist.
pub(super) fn backends() -> Vec<SocketAddrV4> {
    BACKENDS
        .map(|address| SocketAddrV4::new(address, BACKEND_PORT))
        .to_vec()
}

/// A pod behind a pair of devices.
fn pod(node: &Netns, number: u8) -> Result<Netns, BenchError> {
    let pod = Netns::new()?;
    node.connect(&format!("pod{number}"), &pod, "eth0")?;
    node.ip(&format!("addr add 10.200.{number}.1/24 dev pod{number}"))?;
    pod.ip(&format!("addr add 10.200.{number}.2/24 dev eth0"))?;
    pod.ip(&format!("route add default via 10.200.{number}.1"))?;
    Ok(pod)
}

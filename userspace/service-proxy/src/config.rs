//! What the proxy of a node must be told.

use std::net::{IpAddr, SocketAddr};

/// Configuration of one node's service proxy.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The Node object's name.
    pub node_name: String,
    /// Addresses on which NodePorts answer, besides the Node object's own and the loopback's.
    pub node_addresses: Vec<IpAddr>,
    /// Whether loadBalancerSourceRanges bind the node ports of their Service, too. kube-proxy binds the load
    /// balancer's addresses only.
    pub restrict_node_ports: bool,
    /// Services that this node answers itself: (namespace, name, address), each of whose ports maps to the
    /// same port of the address on every node, whatever the EndpointSlices say (cluster DNS).
    pub node_local: Vec<(String, String, IpAddr)>,
    /// Where `/healthz` and `/livez` are answered, to anyone.
    pub health: SocketAddr,
}

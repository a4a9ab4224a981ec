//! Two nodes with a pod each and a client outside, on one switch.

use std::net::{IpAddr, SocketAddr};

use skep_abi::{BackendId, FrontendFlags, Protocol, ServiceId};
use skep_loader::DataplaneConfig;

use crate::machine::Netns;
use crate::node::Node;
use crate::server::Server;

pub(crate) const NODE_PORT: u16 = 30080;

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) client: IpAddr,
    pub(crate) node1: IpAddr,
    pub(crate) node2: IpAddr,
    pub(crate) pod1: IpAddr,
    pub(crate) pod2: IpAddr,
}

const V4: [&str; 5] = [
    "172.31.0.100",
    "172.31.0.11",
    "172.31.0.12",
    "10.200.1.2",
    "10.200.2.2",
];
const V6: [&str; 5] = [
    "fd00:31::100",
    "fd00:31::11",
    "fd00:31::12",
    "fd00:200:1::2",
    "fd00:200:2::2",
];

impl Addresses {
    pub(crate) fn both() -> [Self; 2] {
        [V4, V6].map(|texts| {
            let [client, node1, node2, pod1, pod2] = texts.map(|text| text.parse().unwrap());
            Self {
                client,
                node1,
                node2,
                pod1,
                pod2,
            }
        })
    }

    pub(crate) fn v4() -> Self {
        Self::both()[0]
    }

    /// Where the client dials: the first node, which has the dataplane.
    pub(crate) fn node_port(&self) -> SocketAddr {
        SocketAddr::new(self.node1, NODE_PORT)
    }
}

/// The namespaces, wired up. The first node has a dataplane on its eth0; the client is not in the cluster.
pub(crate) struct Lan {
    pub(crate) node: Node,
    pub(crate) client: Netns,
    pub(crate) node2: Netns,
    pub(crate) pod1: Netns,
    pub(crate) pod2: Netns,
    _switch: Netns,
    _servers: Vec<Server>,
}

impl Lan {
    pub(crate) fn new() -> Self {
        Self::with_source_ports(DataplaneConfig::SOURCE_PORTS)
    }

    pub(crate) fn with_source_ports(source_ports: (u16, u16)) -> Self {
        let switch = Netns::new();
        switch.ip("link add br0 type bridge");
        switch.ip("link set br0 up");
        let plug = |port: &str, host: u16| {
            let netns = Netns::new();
            netns.connect("eth0", &switch, port);
            switch.ip(&format!("link set {port} master br0"));
            netns.ip(&format!("addr add 172.31.0.{host}/24 dev eth0"));
            netns.ip(&format!("addr add fd00:31::{host}/64 dev eth0 nodad"));
            netns
        };
        let (client, node1, node2) = (plug("client", 100), plug("node1", 11), plug("node2", 12));
        let (pod1, pod2) = (pod(&node1, 1), pod(&node2, 2));
        for (netns, other, host) in [(&node1, 2, 12), (&node2, 1, 11)] {
            netns.ip(&format!("route add 10.200.{other}.0/24 via 172.31.0.{host}"));
            netns.ip(&format!("route add fd00:200:{other}::/64 via fd00:31::{host}"));
        }
        let node = Node::open_apart(&node1, |config| {
            configure(config);
            config.source_ports = source_ports;
        });
        let mut servers = Vec::new();
        for at in Addresses::both() {
            servers.push(Server::start(&pod1, "pod1", SocketAddr::new(at.pod1, 8080)));
            servers.push(Server::start(&pod2, "pod2", SocketAddr::new(at.pod2, 8080)));
            servers.push(Server::start(&client, "client", SocketAddr::new(at.client, 9090)));
            servers.push(Server::start(&node2, "node2", SocketAddr::new(at.node2, 9090)));
        }
        Self {
            node,
            client,
            node2,
            pod1,
            pod2,
            _switch: switch,
            _servers: servers,
        }
    }

    /// Adds a NodePort service, TCP, with these backends (of pods, port 8080) on this port of the first node.
    pub(crate) fn expose(
        &self,
        protocol: Protocol,
        port: u16,
        pods: &[IpAddr],
    ) -> (ServiceId, Vec<BackendId>) {
        let mut services = self.node.services();
        services.skip(usize::from(port) % 1_000 + usize::from(protocol.0) * 100);
        let local: Vec<IpAddr> = Addresses::both().iter().map(|at| at.pod1).collect();
        let family = pods.first().is_none_or(IpAddr::is_ipv4);
        let at = Addresses::both()[usize::from(!family)];
        let frontend = SocketAddr::new(at.node1, port).to_string();
        let backends: Vec<SocketAddr> = pods.iter().map(|pod| SocketAddr::new(*pod, 8080)).collect();
        services.add(
            protocol,
            FrontendFlags::NODE_PORT,
            &[&frontend],
            &backends,
            &local,
        )
    }
}

fn configure(config: &mut DataplaneConfig) {
    let at = Addresses::both();
    config.devices = vec!["eth0".to_owned()];
    config.node_addresses = at.iter().map(|at| at.node1).collect();
    config.pod_cidrs = ["10.200.1.0/24", "fd00:200:1::/64"]
        .map(|cidr| cidr.parse().unwrap())
        .to_vec();
    config.cluster_pod_cidrs = ["10.200.0.0/16", "fd00:200::/32"]
        .map(|cidr| cidr.parse().unwrap())
        .to_vec();
    // The nodes, but not the client, which is on the nodes' network.
    config.keep_source_cidrs = at.iter().map(|at| at.node2.into()).collect();
}

/// A pod of a node: a namespace behind a pair of devices.
pub(crate) fn pod(node: &Netns, number: u8) -> Netns {
    let pod = Netns::new();
    pod.connect("eth0", node, &format!("sk{number}"));
    node.ip(&format!("addr add 10.200.{number}.1/24 dev sk{number}"));
    node.ip(&format!("addr add fd00:200:{number}::1/64 dev sk{number} nodad"));
    pod.ip(&format!("addr add 10.200.{number}.2/24 dev eth0"));
    pod.ip(&format!("addr add fd00:200:{number}::2/64 dev eth0 nodad"));
    pod.ip(&format!("route add default via 10.200.{number}.1"));
    pod.ip(&format!("route add default via fd00:200:{number}::1"));
    pod
}

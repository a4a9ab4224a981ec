//! The node on which programs run: one device, a table of Services, and a few more that the cases know.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::BenchError;
use crate::engine::fill::fill;
use crate::engine::machine::Netns;
use crate::engine::node::{Node, NodeShape};
use crate::engine::services::{NAMESPACE, NODE_NAME, Objects, Shape};
use crate::options::Context;

pub(super) const DEVICE: &str = "eth0";
pub(super) const NODE: &str = "172.31.0.11";
pub(super) const CLIENT: &str = "172.31.0.100";
/// A pod of this node, and one of another.
pub(super) const LOCAL_POD: [&str; 2] = ["10.200.1.2", "fd00:200:1::2"];
const REMOTE_POD: &str = "10.200.2.2";
/// A Service of both families and both protocols.
pub(super) const DUAL: [&str; 2] = ["10.96.255.10", "fd00:96::10"];
pub(super) const DUAL_PORT: u16 = 53;
/// The pods' port.
pub(super) const POD_PORT: u16 = 8080;
pub(super) const LOCAL_NODE_PORT: u16 = 32_701;
pub(super) const REMOTE_NODE_PORT: u16 = 32_702;
/// Endpoints of each of the other Services.
const ENDPOINTS: usize = 10;

pub(super) struct Machine {
    pub(super) node: Node,
    pub(super) netns: Netns,
}

impl Machine {
    pub(super) fn new(services: usize, context: &Context) -> Result<Self, BenchError> {
        let netns = Netns::new()?;
        for command in [
            "link add eth0 type veth peer name peer0",
            "link set peer0 up",
            "link set eth0 up",
            "addr add 172.31.0.11/24 dev eth0",
            "addr add fd00:31::11/64 dev eth0 nodad",
            "route add 10.200.2.0/24 via 172.31.0.12",
            // The pod of this node: its sockets are here.
            "addr add 10.200.1.2/32 dev lo",
            "addr add fd00:200:1::2/128 dev lo nodad",
        ] {
            netns.ip(command)?;
        }
        let parse = |text: &str| -> IpAddr { text.parse().expect("a constant that is an address") };
        let cidr = |text: &str| text.parse().expect("a constant that is a prefix");
        let addresses = vec![parse(NODE), parse("fd00:31::11")];
        let shape = NodeShape {
            devices: vec![DEVICE.to_owned()],
            addresses: addresses.clone(),
            pod_cidrs: vec![cidr("10.200.1.0/24"), cidr("fd00:200:1::/64")],
        };
        let node = Node::open(&netns, shape)?;
        let shape = Shape {
            services,
            endpoints: ENDPOINTS,
            node_ports: true,
            real: Vec::new(),
        };
        let mut objects = Objects::of(&shape.services())?;
        add_known(&mut objects)?;
        fill(node.maps(), objects, &addresses, &context.interrupt)?;
        Ok(Self { node, netns })
    }
}

/// The Services that the cases know.
fn add_known(objects: &mut Objects) -> Result<(), BenchError> {
    let port = |name: &str, protocol: &str| json!({"name": name, "port": DUAL_PORT, "protocol": protocol});
    let ports = [port("tcp", "TCP"), port("udp", "UDP")];
    add(
        objects,
        "dual",
        json!({"clusterIP": DUAL[0], "clusterIPs": DUAL, "ports": ports}),
    )?;
    for pod in LOCAL_POD {
        add_slice(objects, "dual", pod, NODE_NAME)?;
    }
    for (name, address, node_port, pod, node) in [
        ("local", "10.96.255.11", LOCAL_NODE_PORT, LOCAL_POD[0], NODE_NAME),
        ("remote", "10.96.255.12", REMOTE_NODE_PORT, REMOTE_POD, "another"),
    ] {
        let mut port = port("tcp", "TCP");
        port["nodePort"] = node_port.into();
        let spec =
            json!({"type": "NodePort", "clusterIP": address, "clusterIPs": [address], "ports": [port]});
        add(objects, name, spec)?;
        add_slice(objects, name, pod, node)?;
    }
    Ok(())
}

fn add(objects: &mut Objects, name: &str, spec: Value) -> Result<(), BenchError> {
    let metadata = json!({"namespace": NAMESPACE, "name": name});
    let service: Service = serde_json::from_value(json!({"metadata": metadata, "spec": spec}))?;
    objects.services.push(Arc::new(service));
    Ok(())
}

fn add_slice(objects: &mut Objects, service: &str, pod: &str, node: &str) -> Result<(), BenchError> {
    let family = if pod.contains(':') { "IPv6" } else { "IPv4" };
    let port = |name: &str, protocol: &str| json!({"name": name, "port": POD_PORT, "protocol": protocol});
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {
            "namespace": NAMESPACE, "name": format!("{service}-{}", family.to_lowercase()),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "ports": [port("tcp", "TCP"), port("udp", "UDP")],
        "endpoints": [{"addresses": [pod], "nodeName": node}],
    }))?;
    objects.slices.push(Arc::new(slice));
    Ok(())
}

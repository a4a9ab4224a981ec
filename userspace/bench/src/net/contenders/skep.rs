//! Skep: ClusterIPs at the socket, node ports at the node's device.

use super::{Contender, Installed};
use crate::BenchError;
use crate::engine::fill::fill;
use crate::engine::interrupt::Interrupt;
use crate::engine::machine::Inside;
use crate::engine::node::{Node, NodeShape};
use crate::engine::services::{Objects, Service};
use crate::net::topology::{NODE, NODE_DEVICE, NODE_PODS, Path, Topology};

pub(in crate::net) struct Skep;

impl Contender for Skep {
    fn name(&self) -> &'static str {
        "Skep"
    }

    fn install(
        &self,
        topology: &Topology,
        services: &[Service],
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Installed>, BenchError> {
        let addresses = vec![NODE.into()];
        let shape = NodeShape {
            devices: vec![NODE_DEVICE.to_owned()],
            addresses: addresses.clone(),
            pod_cidrs: vec![NODE_PODS.parse().expect("a constant that is a prefix")],
        };
        let node = Node::open(&topology.node, shape)?;
        fill(node.maps(), Objects::of(services)?, &addresses, interrupt)?;
        Ok(Box::new(Dataplane(node)))
    }
}

struct Dataplane(Node);

impl Installed for Dataplane {
    /// The client's pod is the node's; whoever comes from outside is not.
    fn enter(&self, path: Path) -> Result<Option<Inside>, BenchError> {
        match path {
            Path::ClusterIp => self.0.enter().map(Some),
            Path::NodePort => Ok(None),
        }
    }
}

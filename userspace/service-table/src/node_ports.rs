//! NODE_PORTS: which ports programs of this node may not have.

use std::collections::HashMap;

use skep_abi::node_port::node_port_bit;
use skep_abi::{PortBe, Protocol};

use crate::image::ArrayImage;
use crate::op::MapOp;

/// A node port, whatever its family.
pub(crate) type NodePort = (Protocol, u16);

#[derive(Debug, Default)]
pub(crate) struct TakenPorts {
    /// How many Service ports have each.
    holders: HashMap<NodePort, u32>,
    image: ArrayImage<u64>,
}

impl TakenPorts {
    /// Replaces what the map is known to hold.
    pub(crate) fn observe(&mut self, words: &[(u32, u64)]) {
        self.image.observe(words.iter().copied());
    }

    pub(crate) fn take(&mut self, (protocol, port): NodePort) {
        *self.holders.entry((protocol, port)).or_default() += 1;
        self.publish((protocol, port), true);
    }

    pub(crate) fn give_back(&mut self, port: NodePort) {
        if let Some(holders) = self.holders.get_mut(&port) {
            *holders -= 1;
            if *holders == 0 {
                self.holders.remove(&port);
                self.publish(port, false);
            }
        }
    }

    fn publish(&mut self, (protocol, port): NodePort, taken: bool) {
        if let Some((word, bit)) = node_port_bit(protocol, PortBe::from_host(port)) {
            let bits = self.image.get(word);
            self.image.set(word, if taken { bits | bit } else { bits & !bit });
        }
    }

    pub(crate) fn puts(&mut self) -> Vec<MapOp> {
        let puts = self.image.puts().into_iter();
        puts.map(|(word, _, bits)| MapOp::PutNodePorts(word, bits))
            .collect()
    }

    /// Words that have run empty.
    pub(crate) fn deletes(&mut self) -> Vec<MapOp> {
        let empty = self.image.ripen().into_iter().filter(|(_, held)| *held);
        empty.map(|(word, _)| MapOp::DeleteNodePorts(word)).collect()
    }

    pub(crate) fn waits(&self) -> bool {
        self.image.waits()
    }

    /// See [`ArrayImage::differing`].
    pub(crate) fn differing(&self, word: u32, found: u64) -> Option<u64> {
        self.image.differing(word, found)
    }
}

//! What becomes of a bind(2).

use skep_abi::node_port::node_port_bit;
use skep_abi::{Counter, PortBe, Protocol};

/// Multipath TCP, which has the ports of TCP.
const MPTCP: u32 = 262;

/// What a bind depends on.
pub trait BindTables {
    /// Whether the socket lives in the node's own network namespace.
    fn in_node_network(&self) -> bool;
    /// An element of NODE_PORTS.
    fn node_ports(&self, word: u32) -> u64;
}

/// Whether the port may be had: not in the node's own network if it is a node port, whose packets never would come
/// to the socket. `protocol` is the socket's, of which there are more than a packet can have.
///
/// # Errors
/// EADDRINUSE, for this reason.
#[inline(always)]
pub fn bind<T: BindTables>(tables: &T, protocol: u32, port: PortBe) -> Result<(), Counter> {
    let protocol = match protocol {
        MPTCP => Protocol::TCP,
        #[expect(clippy::cast_possible_truncation, reason = "checked by the guard")]
        other if other <= 0xff => Protocol(other as u8),
        _ => return Ok(()),
    };
    match node_port_bit(protocol, port) {
        Some((word, bit)) if tables.node_ports(word) & bit != 0 && tables.in_node_network() => {
            Err(Counter::SocketNodePort)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Node {
        word: u32,
        bits: u64,
        own_network: bool,
    }

    impl BindTables for Node {
        fn in_node_network(&self) -> bool {
            self.own_network
        }

        fn node_ports(&self, word: u32) -> u64 {
            if word == self.word { self.bits } else { 0 }
        }
    }

    #[test]
    fn node_ports_of_the_protocol_are_taken_on_the_node_and_free_in_pods() {
        let port = PortBe::from_host(30_080);
        let (word, bits) = node_port_bit(Protocol::TCP, port).unwrap();
        let mut node = Node {
            word,
            bits,
            own_network: true,
        };
        let (tcp, udp) = (u32::from(Protocol::TCP.0), u32::from(Protocol::UDP.0));
        assert_eq!(bind(&node, tcp, port), Err(Counter::SocketNodePort));
        assert_eq!(bind(&node, MPTCP, port), Err(Counter::SocketNodePort));
        assert_eq!(bind(&node, udp, port), Ok(()));
        assert_eq!(bind(&node, tcp + 512, port), Ok(()), "another protocol's number");
        assert_eq!(bind(&node, tcp, PortBe::from_host(30_081)), Ok(()));
        node.own_network = false;
        assert_eq!(bind(&node, tcp, port), Ok(()));
    }
}

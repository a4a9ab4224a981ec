//! Node ports, which no program of the node can take.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use skep_abi::node_port::node_port_bit;
use skep_abi::{Counter, PortBe, Protocol};

use crate::machine::Netns;
use crate::node::Node;

const NODE_PORT: u16 = 30_080;
const ADDRESSES: [&str; 4] = ["0.0.0.0", "[::]", "127.0.0.1", "[::1]"];

/// Binds TCP and UDP on every kind of address; what failed, and how.
fn refused(netns: &Netns, port: u16) -> Vec<(&'static str, Protocol)> {
    let mut refused = Vec::new();
    netns.run(|| {
        for address in ADDRESSES {
            let at: SocketAddr = format!("{address}:{port}").parse().unwrap();
            for (protocol, result) in [
                (Protocol::TCP, TcpListener::bind(at).map(drop)),
                (Protocol::UDP, UdpSocket::bind(at).map(drop)),
            ] {
                if let Err(error) = result {
                    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{at} {protocol}: {error}");
                    refused.push((address, protocol));
                }
            }
        }
    });
    refused
}

#[test]
fn node_ports_are_taken_on_the_node_and_free_in_pods() {
    let netns = Netns::new();
    let node = Node::open(&netns, |_| {});
    let maps = node.dataplane().service_maps();
    assert_eq!(refused(&netns, NODE_PORT), []);
    let before = netns.run(|| TcpListener::bind(("127.0.0.1", NODE_PORT)).unwrap());
    let (word, bits) = node_port_bit(Protocol::TCP, PortBe::from_host(NODE_PORT)).unwrap();
    maps.node_ports().put(&word, &bits).unwrap();
    // Who has it keeps it.
    netns.run(|| drop(std::net::TcpStream::connect(("127.0.0.1", NODE_PORT)).unwrap()));
    drop(before.accept().unwrap());
    drop(before);

    let tcp = ADDRESSES.map(|address| (address, Protocol::TCP));
    assert_eq!(refused(&netns, NODE_PORT), tcp);
    assert_eq!(node.counter(Counter::SocketNodePort), 4);
    assert_eq!(refused(&netns, NODE_PORT + 1), []);
    // A pod: another namespace, in the same cgroup.
    assert_eq!(refused(&Netns::new(), NODE_PORT), []);
    netns.run(|| {
        assert_ne!(
            TcpListener::bind("0.0.0.0:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port(),
            NODE_PORT
        )
    });

    let (word, bits) = node_port_bit(Protocol::UDP, PortBe::from_host(NODE_PORT)).unwrap();
    maps.node_ports().put(&word, &bits).unwrap();
    assert_eq!(refused(&netns, NODE_PORT).len(), 8);
    for (word, _) in maps.node_ports().entries().unwrap() {
        maps.node_ports().delete(&word).unwrap();
    }
    assert_eq!(refused(&netns, NODE_PORT), []);
}

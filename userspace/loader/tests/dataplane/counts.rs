//! What the kernel counts of each service port, to the last packet and byte.

use std::net::{SocketAddr, TcpStream, UdpSocket};

use skep_abi::{FrontendFlags, Protocol, ServiceId, ServiceSerial, ServiceStats, ServiceValue};

use crate::lan::{Addresses, Lan, NODE_PORT};
use crate::machine::Netns;
use crate::node::{Node, Services};
use crate::server::{Server, ask_udp, udp_socket};

const FRONTEND: &str = "10.96.0.10:80";
const EMPTY: &str = "10.96.0.20:80";
const BACKEND: &str = "10.200.0.1:8080";

/// A node with a service that has a backend, and one that has none.
fn scene() -> (Node, Server, [ServiceId; 2]) {
    let netns = Netns::new();
    netns.ip("addr add 10.200.0.1/32 dev lo");
    let backend: SocketAddr = BACKEND.parse().unwrap();
    let node = Node::open(&netns, |_| {});
    let server = Server::start(&netns, "backend", backend);
    let mut services = node.services();
    let kind = FrontendFlags::CLUSTER_IP;
    let (udp, _) = services.add(Protocol::UDP, kind, &[FRONTEND], &[backend], &[]);
    let (empty, _) = services.add(Protocol::TCP, kind, &[EMPTY], &[], &[]);
    (node, server, [udp, empty])
}

#[test]
fn sockets_are_counted_exactly() {
    let (node, _server, [udp, empty]) = scene();
    node.netns.run(|| {
        for _ in 0..7 {
            UdpSocket::bind("0.0.0.0:0").unwrap().connect(FRONTEND).unwrap();
        }
        // Many datagrams of one socket are one choice.
        let socket = udp_socket(FRONTEND.parse().unwrap());
        for _ in 0..5 {
            ask_udp(&socket, FRONTEND.parse().unwrap()).unwrap();
        }
        for _ in 0..3 {
            TcpStream::connect(EMPTY).unwrap_err();
        }
    });
    let connected = ServiceStats {
        socket_connections: 8,
        ..ServiceStats::default()
    };
    let refused = ServiceStats {
        socket_refusals: 3,
        ..ServiceStats::default()
    };
    assert_eq!([node.counted(udp), node.counted(empty)], [connected, refused]);
}

#[test]
fn packets_and_bytes_are_counted_exactly_each_way() {
    let at = Addresses::v4();
    for pod in [at.pod1, at.pod2] {
        let lan = Lan::new();
        let (service, _) = lan.expose(Protocol::UDP, NODE_PORT, &[pod]);
        let (other, _) = lan.expose(Protocol::UDP, NODE_PORT + 1, &[]);
        let mut answered = 0;
        lan.client.run(|| {
            let socket = udp_socket(at.node_port());
            for _ in 0..4 {
                let (answer, _) = ask_udp(&socket, at.node_port()).unwrap();
                // "<server> <client>", behind headers of 28 bytes.
                answered += 28 + u64::try_from(format!("{} {}", answer.server, answer.client).len()).unwrap();
            }
            udp_socket(at.node_port())
                .send_to(b"who", SocketAddr::new(at.node1, NODE_PORT + 1))
                .unwrap();
        });
        let expected = ServiceStats {
            flows: 1,
            packets_in: 4,
            bytes_in: 4 * 31,
            packets_out: 4,
            bytes_out: answered,
            ..ServiceStats::default()
        };
        assert_eq!(lan.node.counted(service), expected, "{pod}");
        let refused = ServiceStats {
            flow_refusals: 1,
            ..ServiceStats::default()
        };
        assert_eq!(lan.node.counted(other), refused, "{pod}");
    }
}

#[test]
fn a_reused_id_is_counted_anew_and_old_flows_do_not_count_for_it() {
    let lan = Lan::new();
    let at = Addresses::v4();
    let (service, _) = lan.expose(Protocol::UDP, NODE_PORT, &[at.pod1]);
    lan.client.run(|| {
        let socket = udp_socket(at.node_port());
        ask_udp(&socket, at.node_port()).unwrap();
        // Another Service gets the id, and the backend of the flow that goes on.
        let maps = lan.node.dataplane().service_maps();
        let (old, new) = (Services::serial(service), ServiceSerial(5));
        maps.service_counts().start(new).unwrap();
        let value = maps.services().get(&service).unwrap().unwrap();
        maps.services()
            .put(&service, &ServiceValue { serial: new, ..value })
            .unwrap();
        let count = |serial| {
            let counts = maps.service_counts().entries().unwrap();
            counts
                .into_iter()
                .find(|(found, _)| *found == serial)
                .map(|(_, stats)| stats)
        };
        ask_udp(&socket, at.node_port()).unwrap();
        assert_eq!(count(old).unwrap().packets_in, 2);
        assert_eq!(count(new), Some(ServiceStats::default()));
        // What is not counted any more breaks nothing.
        maps.service_counts().stop(old).unwrap();
        ask_udp(&socket, at.node_port()).unwrap();
        assert_eq!([count(old), count(new)], [None, Some(ServiceStats::default())]);
        ask_udp(&udp_socket(at.node_port()), at.node_port()).unwrap();
        assert_eq!(count(new).unwrap().flows, 1);
    });
}

//! What sockets hear of packets that get nowhere, and of packets in pieces.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use skep_abi::{Counter, FrontendFlags, Protocol};

use crate::lan::{Addresses, Lan, NODE_PORT};
use crate::server::udp_socket;

/// What a connected socket hears after it sent to where nobody listens.
fn refusal(to: SocketAddr) -> ErrorKind {
    let socket = udp_socket(to);
    socket.connect(to).unwrap();
    socket.send(b"who").unwrap();
    socket.recv(&mut [0; 16]).unwrap_err().kind()
}

#[test]
fn unreachable_backend_is_reported_to_the_clients_socket() {
    let lan = Lan::new();
    let mut services = lan.node.services();
    let mut port = NODE_PORT;
    for at in Addresses::both() {
        for pod in [at.pod1, at.pod2] {
            port += 1;
            let frontend = SocketAddr::new(at.node1, port);
            // Nobody listens there.
            let backend = SocketAddr::new(pod, 9);
            services.add(
                Protocol::UDP,
                FrontendFlags::NODE_PORT,
                &[&frontend.to_string()],
                &[backend],
                &[at.pod1],
            );
            assert_eq!(
                lan.client.run(|| refusal(frontend)),
                ErrorKind::ConnectionRefused,
                "{pod}"
            );
        }
    }
    assert!(lan.node.counter(Counter::PacketError) >= 4);
}

#[test]
fn closed_port_in_the_world_is_reported_to_the_pods_socket() {
    let lan = Lan::new();
    for at in Addresses::both() {
        let nobody = SocketAddr::new(at.client, 9);
        assert_eq!(lan.pod1.run(|| refusal(nobody)), ErrorKind::ConnectionRefused);
    }
    assert_eq!(lan.node.counter(Counter::PacketError), 2);
}

#[test]
fn external_ip_without_backends_is_refused() {
    let lan = Lan::new();
    let mut services = lan.node.services();
    let frontends = ["203.0.113.9:80", "[2001:db8:9::9]:80"];
    for protocol in [Protocol::TCP, Protocol::UDP] {
        services.add(protocol, FrontendFlags::EXTERNAL_IP, &frontends, &[], &[]);
    }
    lan.client.ip("route add 203.0.113.9 via 172.31.0.11");
    lan.client.ip("route add 2001:db8:9::9 via fd00:31::11");
    for frontend in frontends {
        let to = frontend.parse().unwrap();
        lan.client.run(|| {
            let refused = TcpStream::connect_timeout(&to, Duration::from_secs(2)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{to}");
            assert_eq!(refusal(to), ErrorKind::ConnectionRefused, "{to}");
        });
    }
    assert_eq!(lan.node.counter(Counter::PacketReset), 2);
    assert_eq!(lan.node.counter(Counter::PacketUnreachable), 2);
}

/// Sends a datagram of several fragments to an echo server and hears it back.
fn echo_large(to: SocketAddr) {
    let socket: UdpSocket = udp_socket(to);
    let mut message: Vec<u8> = (0..251).cycle().take(5_000).collect();
    message[..4].copy_from_slice(b"echo");
    socket.send_to(&message, to).unwrap();
    let mut back = vec![0; 10_000];
    let (length, from) = socket.recv_from(&mut back).unwrap();
    assert_eq!(from, to);
    assert!(back[..length] == message, "the echo differs");
}

#[test]
fn datagrams_in_fragments_go_there_and_back() {
    let lan = Lan::new();
    for at in Addresses::both() {
        for pod in [at.pod1, at.pod2] {
            lan.expose(Protocol::UDP, NODE_PORT, &[pod]);
            lan.client.run(|| echo_large(at.node_port()));
        }
        lan.pod1.run(|| echo_large(SocketAddr::new(at.client, 9090)));
    }
    assert!(lan.node.counter(Counter::PacketFragmentFollowed) > 0);
    assert_eq!(lan.node.counter(Counter::PacketFragment), 0);
}

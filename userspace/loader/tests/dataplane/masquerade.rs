//! Pods that speak to the world outside the cluster, and to the cluster.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::FromRawFd as _;
use std::time::Duration;

use skep_abi::Counter;
use skep_loader::DataplaneConfig;

use crate::lan::{Addresses, Lan};
use crate::server::{ask_tcp, ask_udp, udp_socket};

#[test]
fn pod_leaves_the_cluster_with_the_nodes_address() {
    let lan = Lan::new();
    for at in Addresses::both() {
        let outside = SocketAddr::new(at.client, 9090);
        let seen = lan.pod1.run(|| {
            let tcp = ask_tcp(outside).unwrap();
            let (udp, from) = ask_udp(&udp_socket(outside), outside).unwrap();
            assert_eq!(from, outside);
            [tcp, udp]
        });
        for answer in seen {
            assert_eq!((answer.server.as_str(), answer.client.ip()), ("client", at.node1));
            let (first, last) = DataplaneConfig::SOURCE_PORTS;
            assert!((first..=last).contains(&answer.client.port()), "{answer:?}");
        }
    }
    assert_eq!(lan.node.counter(Counter::PacketMasqueraded), 4);
}

#[test]
fn pods_and_nodes_of_the_cluster_see_the_pods_address() {
    let lan = Lan::new();
    for at in Addresses::both() {
        for to in [SocketAddr::new(at.pod2, 8080), SocketAddr::new(at.node2, 9090)] {
            let answer = lan.pod1.run(|| ask_tcp(to).unwrap());
            assert_eq!(answer.client.ip(), at.pod1, "{to}");
        }
    }
    assert_eq!(lan.node.counter(Counter::PacketMasqueraded), 0);
}

#[test]
fn outside_reaches_a_pod_directly_and_hears_from_it() {
    let lan = Lan::new();
    let at = Addresses::v4();
    lan.client.ip("route add 10.200.1.0/24 via 172.31.0.11");
    let answer = lan
        .client
        .run(|| ask_tcp(SocketAddr::new(at.pod1, 8080)).unwrap());
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("pod1", at.client));
}

#[test]
fn flows_never_share_a_port_and_exhaustion_is_counted() {
    // Eight ports: nine flows to one remote are one too many.
    let lan = Lan::with_source_ports((20_000, 20_007));
    let outside = SocketAddr::new(Addresses::v4().client, 9090);
    lan.pod1.ip("addr add 10.200.1.3/24 dev eth0");
    lan.pod1.run(|| {
        // Both pods use the same ports of their own.
        let bind = |n: u16| {
            let from = SocketAddr::new(
                if n.is_multiple_of(2) {
                    "10.200.1.2"
                } else {
                    "10.200.1.3"
                }
                .parse()
                .unwrap(),
                5000 + n / 2,
            );
            let socket = UdpSocket::bind(from).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket
        };
        let sockets: Vec<UdpSocket> = (0..8).map(bind).collect();
        let ask = |socket: &UdpSocket| ask_udp(socket, outside).unwrap().0.client;
        let ports: Vec<SocketAddr> = sockets.iter().map(ask).collect();
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 8, "{ports:?}");
        let refused = ask_udp(&bind(8), outside).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
        let again: Vec<SocketAddr> = sockets.iter().map(ask).collect();
        assert_eq!(again, ports);
    });
    assert_eq!(lan.node.counter(Counter::PacketMasqueraded), 8);
    assert_eq!(lan.node.counter(Counter::DropSourcePortsExhausted), 1);
}

/// A socket that sends ICMP echo requests; the kernel fills in identifier and checksum.
fn ping_socket(family: libc::c_int, protocol: libc::c_int) -> UdpSocket {
    // SAFETY: plain arguments; the descriptor is new and owned by nobody else.
    let socket = unsafe {
        let descriptor = libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, protocol);
        assert!(descriptor >= 0, "{}", std::io::Error::last_os_error());
        UdpSocket::from_raw_fd(descriptor)
    };
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

#[test]
fn pings_of_pods_are_answered() {
    let lan = Lan::new();
    lan.pod1.sysctl("net.ipv4.ping_group_range=0 2147483647");
    for (at, family, protocol, request, reply) in [
        (Addresses::both()[0], libc::AF_INET, libc::IPPROTO_ICMP, 8, 0),
        (
            Addresses::both()[1],
            libc::AF_INET6,
            libc::IPPROTO_ICMPV6,
            128,
            129,
        ),
    ] {
        lan.pod1.run(|| {
            let socket = ping_socket(family, protocol);
            let mut message = [0; 24];
            message[0] = request;
            socket.send_to(&message, SocketAddr::new(at.client, 0)).unwrap();
            let mut answer = [0; 64];
            let (length, from) = socket.recv_from(&mut answer).unwrap();
            assert_eq!((length, from.ip(), answer[0]), (24, at.client, reply));
        });
    }
    assert_eq!(lan.node.counter(Counter::PacketMasqueraded), 2);
}

#[test]
fn packets_to_service_addresses_do_not_leave_the_node() {
    let lan = Lan::new();
    // The pods' processes are not in the node's cgroup here, so their sockets know no Services.
    let to: [IpAddr; 2] = ["10.96.0.10".parse().unwrap(), "fd00:96::10".parse().unwrap()];
    lan.node.netns.ip("route add default via 172.31.0.100");
    lan.node.netns.ip("route add default via fd00:31::100");
    for to in to {
        let target = SocketAddr::new(to, 80);
        let error = lan
            .pod1
            .run(|| TcpStream::connect_timeout(&target, Duration::from_millis(200)));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    }
    assert!(lan.node.counter(Counter::DropNoService) >= 2);
}

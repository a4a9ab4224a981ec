//! Frontends that only some clients may use.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use skep_abi::{Counter, FrontendFlags, Protocol};
use skep_datapath::frame::Frame;
use skep_datapath::packet::TCP_SYN;

use crate::machine::Netns;
use crate::node::Node;
use crate::server::{Server, ask_udp, dial, udp_socket};

const PASS: i32 = -1;
const DROP: i32 = 2;
const RESTRICTED: FrontendFlags = FrontendFlags::LOAD_BALANCER.with(FrontendFlags::RESTRICTED);

#[test]
fn packets_pass_by_their_source() {
    let netns = Netns::new();
    netns.ip("link add eth0 type veth peer name peer0");
    netns.ip("link set peer0 up");
    netns.ip("link set eth0 up");
    let node = Node::open_apart(&netns, |config| {
        config.devices = vec!["eth0".to_owned()];
        config.node_addresses = vec!["172.31.0.11".parse().unwrap(), "fd00:31::11".parse().unwrap()];
        config.pod_cidrs = vec![
            "10.200.1.0/24".parse().unwrap(),
            "fd00:200:1::/64".parse().unwrap(),
        ];
    });
    let mut services = node.services();
    for protocol in [Protocol::TCP, Protocol::UDP] {
        for (frontend, backend, ranges) in [
            (
                "198.51.100.1:80",
                "10.200.1.2:8080",
                ["192.0.2.0/28", "203.0.113.7/32"],
            ),
            (
                "[2001:db8:1::1]:80",
                "[fd00:200:1::2]:8080",
                ["2001:db8:2::/48", "2001:db8:3::3/128"],
            ),
            // Another Service with other clients.
            (
                "198.51.100.2:80",
                "10.200.1.2:8080",
                ["192.0.2.16/28", "0.0.0.0/32"],
            ),
        ] {
            let backends = [backend.parse().unwrap()];
            let (service, _) = services.add(protocol, RESTRICTED, &[frontend], &backends, &[]);
            services.admit(service, &ranges);
        }
    }
    let mut dropped = 0;
    for (from, to, verdict) in [
        ("192.0.2.1", "198.51.100.1", PASS),
        ("192.0.2.15", "198.51.100.1", PASS),
        ("192.0.2.16", "198.51.100.1", DROP),
        ("203.0.113.7", "198.51.100.1", PASS),
        ("203.0.113.6", "198.51.100.1", DROP),
        ("192.0.2.16", "198.51.100.2", PASS),
        ("192.0.2.15", "198.51.100.2", DROP),
        ("2001:db8:2:9::1", "2001:db8:1::1", PASS),
        ("2001:db8:3::3", "2001:db8:1::1", PASS),
        ("2001:db8:3::2", "2001:db8:1::1", DROP),
    ] {
        for protocol in [Protocol::TCP, Protocol::UDP] {
            let frame = Frame::with_flags(protocol, (from, 4000), (to, 80), b"who", TCP_SYN);
            let run = node.run_program("tcx_ingress@eth0", &frame.bytes);
            assert_eq!(run.verdict.cast_signed(), verdict, "{protocol} {from} > {to}");
            dropped += u64::from(verdict == DROP);
        }
    }
    assert_eq!(node.counter(Counter::DropSourceRange), dropped);
}

/// Opens a connection and sends a datagram; whether both went through, and neither, or it panics.
fn passes(netns: &Netns, to: &str) -> bool {
    let to: SocketAddr = to.parse().unwrap();
    netns.run(|| {
        let stream = dial(to);
        let datagram = ask_udp(&udp_socket(to), to);
        for error in [stream.as_ref().err(), datagram.as_ref().err()]
            .into_iter()
            .flatten()
        {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}: {error}");
        }
        assert_eq!(stream.is_ok(), datagram.is_ok(), "{to}");
        stream.is_ok()
    })
}

#[test]
fn sockets_pass_by_the_address_of_their_node_or_pod() {
    let netns = Netns::new();
    let pods = [Netns::new(), Netns::new(), Netns::new()];
    let backends = ["10.200.0.1:8080", "[fd00:200::1]:8080"].map(|at| at.parse::<SocketAddr>().unwrap());
    // Each namespace has the backends for itself: what is looked at is who may dial.
    let mut servers = Vec::new();
    let node = Node::open(&netns, |config| {
        config.node_addresses = vec!["172.31.0.11".parse().unwrap(), "fd00:31::11".parse().unwrap()];
    });
    for place in pods.iter().chain([&netns]) {
        for backend in backends {
            let length = if backend.is_ipv4() { 32 } else { 128 };
            place.ip(&format!("addr add {}/{length} dev lo", backend.ip()));
            servers.push(Server::start(place, "server", backend));
        }
    }
    let addresses: [[IpAddr; 2]; 2] = [
        ["10.200.1.1".parse().unwrap(), "fd00:200:1::1".parse().unwrap()],
        ["10.200.1.2".parse().unwrap(), "fd00:200:1::2".parse().unwrap()],
    ];
    // The third is a namespace that nobody told of.
    for (pod, addresses) in pods.iter().zip(addresses) {
        for address in addresses {
            node.dataplane().add_pod(pod.handle().as_fd(), address).unwrap();
        }
    }
    let mut services = node.services();
    for protocol in [Protocol::TCP, Protocol::UDP] {
        for (frontend, backend, ranges) in [
            ("198.51.100.1:80", backends[0], ["10.200.1.1/32", "192.0.2.0/24"]),
            ("198.51.100.2:80", backends[0], ["172.31.0.0/24", "192.0.2.0/24"]),
            (
                "[2001:db8:1::1]:80",
                backends[1],
                ["fd00:200:1::1/128", "2001:db8::/64"],
            ),
            (
                "[2001:db8:1::2]:80",
                backends[1],
                ["fd00:31::/64", "2001:db8::/64"],
            ),
        ] {
            let (service, _) = services.add(protocol, RESTRICTED, &[frontend], &[backend], &[]);
            services.admit(service, &ranges);
        }
    }
    for (to_pod, to_node) in [
        ("198.51.100.1:80", "198.51.100.2:80"),
        ("[2001:db8:1::1]:80", "[2001:db8:1::2]:80"),
    ] {
        for (place, pod_passes, node_passes) in [
            (&pods[0], true, false),
            (&pods[1], false, false),
            (&pods[2], false, false),
            (&netns, false, true),
        ] {
            assert_eq!(passes(place, to_pod), pod_passes, "{to_pod}");
            assert_eq!(passes(place, to_node), node_passes, "{to_node}");
        }
    }
    assert_eq!(node.counter(Counter::SocketSourceRange), 2 * 2 * 6);
    // The address moves to the other pod.
    node.dataplane()
        .add_pod(pods[1].handle().as_fd(), addresses[0][0])
        .unwrap();
    assert!(passes(&pods[1], "198.51.100.1:80") && !passes(&pods[0], "198.51.100.1:80"));
    assert!(passes(&pods[0], "[2001:db8:1::1]:80"), "its other address stays");
    node.dataplane().remove_pod(addresses[0][0]).unwrap();
    assert!(!passes(&pods[1], "198.51.100.1:80"));
}

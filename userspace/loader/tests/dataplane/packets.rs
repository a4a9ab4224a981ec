//! Single packets through the programs in the kernel: packet in, verdict and packet out.

use skep_abi::{Counter, FrontendFlags, Protocol};
use skep_datapath::frame::Frame;
use skep_datapath::packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

use crate::machine::Netns;
use crate::node::Node;

const PASS: i32 = -1;
const DROP: i32 = 2;
const REDIRECT: i32 = 7;

const CLIENT: &str = "172.31.0.100";
const NODE: &str = "172.31.0.11";
const CLIENT6: &str = "fd00:31::100";
const NODE6: &str = "fd00:31::11";

/// A node with local pods 10.200.1.0/24 and a service of each kind.
fn node() -> Node {
    let netns = Netns::new();
    netns.ip("link add eth0 type veth peer name peer0");
    netns.ip("link set peer0 up");
    netns.ip("link set eth0 up");
    netns.ip("addr add 172.31.0.11/24 dev eth0");
    netns.ip("addr add fd00:31::11/64 dev eth0 nodad");
    netns.ip("route add 10.200.2.0/24 via 172.31.0.12");
    netns.ip("route add fd00:200:2::/64 via fd00:31::12");
    let node = Node::open_apart(&netns, |config| {
        config.devices = vec!["eth0".to_owned()];
        config.node_addresses = vec![NODE.parse().unwrap(), NODE6.parse().unwrap()];
        config.pod_cidrs = vec![
            "10.200.1.0/24".parse().unwrap(),
            "fd00:200:1::/64".parse().unwrap(),
        ];
        config.cluster_pod_cidrs = vec!["10.200.0.0/16".parse().unwrap(), "fd00:200::/32".parse().unwrap()];
    });
    let mut services = node.services();
    let local = ["10.200.1.2", NODE, "fd00:200:1::2"].map(|text| text.parse().unwrap());
    let node_port = FrontendFlags::NODE_PORT;
    for protocol in [Protocol::TCP, Protocol::UDP] {
        for (kind, frontend, backend) in [
            (node_port, "172.31.0.11:30001", Some("10.200.1.2:8080")),
            (node_port, "172.31.0.11:30002", Some("10.200.2.2:8080")),
            (node_port, "172.31.0.11:30003", None),
            (node_port, "172.31.0.11:30006", Some("172.31.0.11:8080")),
            (node_port, "172.31.0.11:30004", Some("10.250.0.1:8080")),
            (node_port, "[fd00:31::11]:30001", Some("[fd00:200:1::2]:8080")),
            (node_port, "[fd00:31::11]:30002", Some("[fd00:200:2::2]:8080")),
            (
                FrontendFlags::CLUSTER_IP,
                "10.96.0.10:80",
                Some("10.200.1.2:8080"),
            ),
            (FrontendFlags::EXTERNAL_IP, "203.0.113.9:80", None),
            (node_port, "172.31.0.11:30008", Some("10.200.1.9:8080")),
            (node_port, "[fd00:31::11]:30008", Some("[fd00:200:1::9]:8080")),
            (node_port, "127.0.0.1:30007", Some("10.200.1.2:8080")),
            (
                node_port.with(FrontendFlags::LOCAL_ONLY),
                "172.31.0.11:30005",
                None,
            ),
        ] {
            let backends: Vec<_> = backend.iter().map(|text| text.parse().unwrap()).collect();
            services.add(protocol, kind, &[frontend], &backends, &local);
        }
    }
    node
}

/// What a packet comes out as.
#[derive(Debug)]
enum Out {
    /// As it went in.
    Unchanged,
    /// With this tuple, where `*` stands for a port of the node's range; and with right checksums.
    Tuple(&'static str),
}

/// Runs a frame and compares; returns the frame that came out.
fn check(node: &Node, name: &str, hook: &str, frame: &Frame, verdict: i32, out: &Out) -> Frame {
    let run = node.run_program(hook, &frame.bytes);
    let result = Frame { bytes: run.packet };
    assert_eq!(run.verdict.cast_signed(), verdict, "{name}: verdict");
    match out {
        Out::Unchanged => assert_eq!(&result, frame, "{name}: packet"),
        Out::Tuple(expected) => {
            assert!(result.checksums_hold(), "{name}: checksums of {result:?}");
            let tuple = result.tuple();
            match expected.split_once('*') {
                None => assert_eq!(&tuple, expected, "{name}: tuple"),
                Some((start, end)) => {
                    assert!(
                        tuple.starts_with(start) && tuple.ends_with(end),
                        "{name}: {tuple}"
                    );
                }
            }
        }
    }
    result
}

fn tcp(from: (&str, u16), to: (&str, u16), flags: u8) -> Frame {
    Frame::with_flags(Protocol::TCP, from, to, b"payload", flags)
}

fn udp(from: (&str, u16), to: (&str, u16)) -> Frame {
    Frame::new(Protocol::UDP, from, to, b"payload")
}

/// The answer to a frame: its tuple reversed.
fn answer(frame: &Frame) -> Frame {
    let (from, to) = (frame.destination(), frame.source());
    let protocol = frame.header().tuple.protocol;
    Frame::with_flags(
        protocol,
        (&from.0, from.1),
        (&to.0, to.1),
        b"answer",
        TCP_SYN | TCP_ACK,
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, one packet a row")]
fn flows_are_translated_there_and_back() {
    let node = node();
    let (ingress, egress) = ("tcx_ingress@eth0", "tcx_egress@eth0");
    let mut padded = Frame::new(Protocol::UDP, (CLIENT, 4009), (NODE, 30001), b"");
    padded.pad(18);
    // First packet, verdict, tuple; the answer's hook, verdict, tuple.
    for (name, first, verdict, there, back_hook, back_verdict, back) in [
        (
            "TCP local",
            tcp((CLIENT, 4000), (NODE, 30001), TCP_SYN),
            PASS,
            "172.31.0.100:4000 > 10.200.1.2:8080",
            egress,
            PASS,
            "172.31.0.11:30001 > 172.31.0.100:4000",
        ),
        (
            "UDP local",
            udp((CLIENT, 4000), (NODE, 30001)),
            PASS,
            "172.31.0.100:4000 > 10.200.1.2:8080",
            egress,
            PASS,
            "172.31.0.11:30001 > 172.31.0.100:4000",
        ),
        (
            "TCP to the node's own network",
            tcp((CLIENT, 4000), (NODE, 30006), TCP_SYN),
            PASS,
            "172.31.0.100:4000 > 172.31.0.11:8080",
            egress,
            PASS,
            "172.31.0.11:30006 > 172.31.0.100:4000",
        ),
        (
            "TCP remote",
            tcp((CLIENT, 4000), (NODE, 30002), TCP_SYN),
            REDIRECT,
            "172.31.0.11:* > 10.200.2.2:8080",
            ingress,
            REDIRECT,
            "172.31.0.11:30002 > 172.31.0.100:4000",
        ),
        (
            "UDP remote",
            udp((CLIENT, 4000), (NODE, 30002)),
            REDIRECT,
            "172.31.0.11:* > 10.200.2.2:8080",
            ingress,
            REDIRECT,
            "172.31.0.11:30002 > 172.31.0.100:4000",
        ),
        (
            "TCPv6 local",
            tcp((CLIENT6, 4000), (NODE6, 30001), TCP_SYN),
            PASS,
            "[fd00:31::100]:4000 > [fd00:200:1::2]:8080",
            egress,
            PASS,
            "[fd00:31::11]:30001 > [fd00:31::100]:4000",
        ),
        (
            "UDPv6 remote",
            udp((CLIENT6, 4000), (NODE6, 30002)),
            REDIRECT,
            "[fd00:31::11]:* > [fd00:200:2::2]:8080",
            ingress,
            REDIRECT,
            "[fd00:31::11]:30002 > [fd00:31::100]:4000",
        ),
        (
            "endpoint without a node, in the node's range",
            tcp((CLIENT, 4000), (NODE, 30008), TCP_SYN),
            PASS,
            "172.31.0.100:4000 > 10.200.1.9:8080",
            egress,
            PASS,
            "172.31.0.11:30008 > 172.31.0.100:4000",
        ),
        (
            "IPv6 endpoint without a node, in the node's range",
            tcp((CLIENT6, 4000), (NODE6, 30008), TCP_SYN),
            PASS,
            "[fd00:31::100]:4000 > [fd00:200:1::9]:8080",
            egress,
            PASS,
            "[fd00:31::11]:30008 > [fd00:31::100]:4000",
        ),
        (
            "padded",
            padded,
            PASS,
            "172.31.0.100:4009 > 10.200.1.2:8080",
            egress,
            PASS,
            "172.31.0.11:30001 > 172.31.0.100:4009",
        ),
        (
            "shared backend tuple",
            tcp((CLIENT, 4000), (NODE, 30001), TCP_SYN),
            PASS,
            "172.31.0.100:4000 > 10.200.1.2:8080",
            egress,
            PASS,
            "172.31.0.11:30001 > 172.31.0.100:4000",
        ),
    ] {
        let out = check(&node, name, ingress, &first, verdict, &Out::Tuple(there));
        assert_eq!(
            out.header().hop_limit,
            if verdict == REDIRECT { 63 } else { 64 },
            "{name}"
        );
        check(
            &node,
            name,
            back_hook,
            &answer(&out),
            back_verdict,
            &Out::Tuple(back),
        );
    }
}

#[test]
fn pods_are_masqueraded_there_and_back() {
    let node = node();
    let (pod, outside) = (("10.200.1.2", 5000), ("198.51.100.7", 443));
    for (name, first, there, back) in [
        (
            "TCP",
            tcp(pod, outside, TCP_SYN),
            "172.31.0.11:* > 198.51.100.7:443",
            "198.51.100.7:443 > 10.200.1.2:5000",
        ),
        (
            "UDP",
            udp(pod, outside),
            "172.31.0.11:* > 198.51.100.7:443",
            "198.51.100.7:443 > 10.200.1.2:5000",
        ),
        (
            "UDPv6",
            udp(("fd00:200:1::2", 5000), ("2001:db8::7", 53)),
            "[fd00:31::11]:* > [2001:db8::7]:53",
            "[2001:db8::7]:53 > [fd00:200:1::2]:5000",
        ),
        (
            "ping",
            Frame::new(Protocol::ICMP, pod, ("198.51.100.7", 0), b"x"),
            "172.31.0.11:* > 198.51.100.7:0",
            "",
        ),
    ] {
        let out = check(&node, name, "tcx_egress@eth0", &first, PASS, &Out::Tuple(there));
        if !back.is_empty() {
            check(
                &node,
                name,
                "tcx_ingress@eth0",
                &answer(&out),
                PASS,
                &Out::Tuple(back),
            );
        }
    }
    assert_eq!(node.counter(Counter::PacketMasqueraded), 4);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, one packet a row")]
fn everything_else_is_passed_unchanged_or_dropped() {
    let node = node();
    let mut fragment = udp((CLIENT, 4000), (NODE, 30001));
    fragment.bytes[14 + 6] = 0x20;
    let mut fragment6 = udp((CLIENT6, 4000), (NODE6, 30001));
    fragment6.insert_extension(44);
    let mut icmp_error = Frame::new(Protocol::ICMP, (CLIENT, 1), (NODE, 0), b"inner packet");
    icmp_error.bytes[14 + 20] = 3;
    let mut last_hop = udp((CLIENT, 4000), (NODE, 30002));
    last_hop.set_hop_limit(1);
    let mut truncated = tcp((CLIENT, 4000), (NODE, 30001), TCP_SYN);
    truncated.bytes.truncate(14 + 20 + 10);
    let mut arp = tcp((CLIENT, 4000), (NODE, 30001), TCP_SYN);
    arp.bytes[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut other_machine = tcp((CLIENT, 4000), (NODE, 30001), TCP_SYN);
    other_machine.bytes[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    let mut short_tcp = tcp((CLIENT, 4000), (NODE, 30001), TCP_SYN);
    short_tcp.bytes[14 + 20 + 12] = 0x40;
    let mut syn_and_fin = tcp((CLIENT, 4000), (NODE, 30001), TCP_SYN);
    syn_and_fin.bytes[14 + 20 + 13] = TCP_SYN | TCP_FIN;
    let mut too_long = udp((CLIENT, 4000), (NODE, 30001));
    too_long.bytes[14 + 3] += 1;
    let mut too_long6 = udp((CLIENT6, 4000), (NODE6, 30001));
    too_long6.bytes[14 + 5] += 1;
    let mut mapped = udp((CLIENT6, 4000), (NODE6, 30001));
    let client_octets = "172.31.0.100".parse::<std::net::Ipv4Addr>().unwrap();
    mapped.bytes[22..38].copy_from_slice(&client_octets.to_ipv6_mapped().octets());
    let ping = |from, to| Frame::new(Protocol::ICMP, (from, 7), (to, 0), b"x");
    let mut service_fragment = udp((CLIENT6, 4000), ("fd00:96::99", 80));
    service_fragment.insert_extension(44);
    let mut service_foreign = udp((CLIENT, 4000), ("10.96.0.10", 80));
    service_foreign.bytes[14 + 9] = 89;
    let (ingress, egress) = ("tcx_ingress@eth0", "tcx_egress@eth0");
    let pod = ("10.200.1.2", 5000);
    for (name, hook, frame, verdict, counter) in [
        (
            "other port",
            ingress,
            tcp((CLIENT, 4000), (NODE, 22), TCP_SYN),
            PASS,
            None,
        ),
        (
            "through the node",
            ingress,
            tcp((CLIENT, 4000), ("192.0.2.5", 80), TCP_SYN),
            PASS,
            None,
        ),
        (
            "no backend",
            ingress,
            tcp((CLIENT, 4000), (NODE, 30003), TCP_SYN),
            PASS,
            Some(Counter::PacketNoBackend),
        ),
        (
            "no backend, Local",
            ingress,
            tcp((CLIENT, 4000), (NODE, 30005), TCP_SYN),
            DROP,
            Some(Counter::DropNoBackend),
        ),
        (
            "no backend, not ours",
            ingress,
            udp((CLIENT, 4000), ("203.0.113.9", 80)),
            DROP,
            Some(Counter::DropNoBackend),
        ),
        (
            "ClusterIP",
            ingress,
            tcp((CLIENT, 4000), ("10.96.0.10", 80), TCP_SYN),
            DROP,
            Some(Counter::DropNoService),
        ),
        (
            "service range",
            ingress,
            udp((CLIENT, 4000), ("10.96.0.99", 80)),
            DROP,
            Some(Counter::DropNoService),
        ),
        (
            "stray ACK",
            ingress,
            tcp((CLIENT, 4001), (NODE, 30001), TCP_ACK),
            PASS,
            Some(Counter::PacketStray),
        ),
        (
            "stray RST",
            ingress,
            tcp((CLIENT, 4002), (NODE, 30001), TCP_RST),
            PASS,
            Some(Counter::PacketStray),
        ),
        (
            "stray FIN",
            ingress,
            tcp((CLIENT, 4003), (NODE, 30002), TCP_FIN | TCP_ACK),
            PASS,
            Some(Counter::PacketStray),
        ),
        ("fragment", ingress, fragment, PASS, Some(Counter::PacketFragment)),
        (
            "IPv6 fragment",
            ingress,
            fragment6,
            PASS,
            Some(Counter::PacketFragment),
        ),
        ("ICMP error", ingress, icmp_error, PASS, None),
        (
            "ping to the node",
            ingress,
            Frame::new(Protocol::ICMP, (CLIENT, 7), (NODE, 0), b"x"),
            PASS,
            None,
        ),
        ("last hop", ingress, last_hop, DROP, Some(Counter::DropHopLimit)),
        (
            "truncated",
            ingress,
            truncated,
            PASS,
            Some(Counter::PacketMalformed),
        ),
        ("ARP", ingress, arp, PASS, None),
        ("other machine's frame", ingress, other_machine, PASS, None),
        (
            "TCP header of 16",
            ingress,
            short_tcp,
            PASS,
            Some(Counter::PacketMalformed),
        ),
        (
            "SYN and FIN",
            ingress,
            syn_and_fin,
            PASS,
            Some(Counter::PacketMalformed),
        ),
        (
            "longer than it is",
            ingress,
            too_long,
            PASS,
            Some(Counter::PacketMalformed),
        ),
        (
            "IPv6, longer than it is",
            ingress,
            too_long6,
            PASS,
            Some(Counter::PacketMalformed),
        ),
        (
            "mapped address on the wire",
            ingress,
            mapped,
            PASS,
            Some(Counter::PacketMalformed),
        ),
        (
            "from the loopback",
            ingress,
            udp(("127.0.0.1", 4000), (NODE, 30001)),
            PASS,
            Some(Counter::PacketMartian),
        ),
        (
            "from the IPv6 loopback",
            ingress,
            udp(("::1", 4000), (NODE6, 30001)),
            PASS,
            Some(Counter::PacketMartian),
        ),
        (
            "from the node itself",
            ingress,
            udp((NODE, 4000), (NODE, 30001)),
            PASS,
            Some(Counter::PacketMartian),
        ),
        (
            "to the loopback",
            ingress,
            udp((CLIENT, 4000), ("127.0.0.1", 30007)),
            PASS,
            Some(Counter::PacketMartian),
        ),
        (
            "ping to a service",
            ingress,
            ping(CLIENT, "10.96.0.10"),
            DROP,
            Some(Counter::DropNoService),
        ),
        (
            "other protocol to a service",
            ingress,
            service_foreign.clone(),
            DROP,
            Some(Counter::DropNoService),
        ),
        (
            "IPv6 fragment to a service",
            ingress,
            service_fragment.clone(),
            DROP,
            Some(Counter::DropNoService),
        ),
        (
            "ping to a service, out",
            egress,
            ping(NODE, "10.96.0.10"),
            DROP,
            Some(Counter::DropNoService),
        ),
        (
            "other protocol to a service, out",
            egress,
            service_foreign,
            DROP,
            Some(Counter::DropNoService),
        ),
        (
            "IPv6 fragment to a service, out",
            egress,
            service_fragment,
            DROP,
            Some(Counter::DropNoService),
        ),
        (
            "node to a service",
            egress,
            tcp((NODE, 4000), ("10.96.0.10", 80), TCP_SYN),
            DROP,
            Some(Counter::DropNoService),
        ),
        (
            "node's own",
            egress,
            tcp((NODE, 4000), ("198.51.100.7", 80), TCP_SYN),
            PASS,
            None,
        ),
        (
            "pod to pod",
            egress,
            tcp(pod, ("10.200.2.2", 80), TCP_SYN),
            PASS,
            None,
        ),
        (
            "pod to service",
            egress,
            udp(pod, ("10.96.0.10", 80)),
            DROP,
            Some(Counter::DropNoService),
        ),
        (
            "pod answers outside",
            egress,
            tcp(pod, (CLIENT, 4000), TCP_SYN | TCP_ACK),
            PASS,
            None,
        ),
        (
            "ping to outside from the node",
            egress,
            Frame::new(Protocol::ICMP, (NODE, 7), (CLIENT, 0), b"x"),
            PASS,
            None,
        ),
    ] {
        let before = counter.map(|counter| node.counter(counter));
        check(&node, name, hook, &frame, verdict, &Out::Unchanged);
        if let (Some(counter), Some(before)) = (counter, before) {
            assert_eq!(node.counter(counter), before + 1, "{name}: {counter:?}");
        }
    }
    assert_eq!(
        node.counter(Counter::PacketFlowOpened),
        0,
        "nothing that is dropped spends a flow"
    );
}

#[test]
fn backend_without_a_route_is_dropped_and_counted() {
    let node = node();
    let frame = tcp((CLIENT, 4000), (NODE, 30004), TCP_SYN);
    let run = node.run_program("tcx_ingress@eth0", &frame.bytes);
    assert_eq!(run.verdict.cast_signed(), DROP);
    assert_eq!(node.counter(Counter::DropNoRoute), 1);
    assert_eq!(node.counter(Counter::PacketFlowOpened), 0);
}

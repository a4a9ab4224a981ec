//! Packets of pods on their way out.

use skep_abi::{Counter, Protocol};

use super::egress;
use crate::Verdict;
use crate::fake::World;
use crate::frame::Frame;
use crate::ingress::ingress;
use crate::packet::TCP_ACK;

const POD: &str = "10.128.0.5";

fn go_out(world: &World, frame: &mut Frame) -> Verdict {
    let family = frame.family();
    let verdict = egress(world, frame, family, 14);
    assert!(frame.checksums_hold(), "{frame:?}");
    verdict
}

#[test]
fn pod_leaves_the_cluster_with_the_nodes_address_and_gets_its_answers() {
    for protocol in [Protocol::TCP, Protocol::UDP, Protocol::ICMP] {
        let world = World::new();
        let to_port = if protocol == Protocol::ICMP { 0 } else { 443 };
        let mut frame = Frame::new(protocol, (POD, 4000), ("198.51.100.2", to_port), b"hello");
        assert_eq!(go_out(&world, &mut frame), Verdict::Translated);
        let (node, port) = frame.source();
        assert_eq!(node, "172.29.0.11");
        assert_eq!(frame.destination().0, "198.51.100.2");
        let mut back = Frame::with_flags(
            protocol,
            ("198.51.100.2", to_port),
            ("172.29.0.11", port),
            b"",
            TCP_ACK,
        );
        if protocol == Protocol::ICMP {
            back = Frame::new(protocol, ("198.51.100.2", port), ("172.29.0.11", 0), b"");
            back.bytes[14 + 20] = 0;
            back.set_hop_limit(64);
        }
        let family = back.family();
        assert_eq!(ingress(&world, &mut back, family, 14), Verdict::Translated);
        assert!(back.checksums_hold());
        assert_eq!(back.destination(), (POD.to_owned(), 4000));
        assert_eq!(back.source().0, "198.51.100.2");
    }
}

#[test]
fn pods_and_nodes_see_the_pods_address() {
    let world = World::new();
    for to in ["10.128.7.7", "172.29.0.12"] {
        let mut frame = Frame::new(Protocol::TCP, (POD, 4000), (to, 80), b"");
        let before = frame.clone();
        assert_eq!(go_out(&world, &mut frame), Verdict::Pass);
        assert_eq!(frame, before);
    }
    let mut own = Frame::new(Protocol::TCP, ("172.29.0.11", 4000), ("198.51.100.2", 80), b"");
    assert_eq!(go_out(&world, &mut own), Verdict::Pass);
}

#[test]
fn service_addresses_never_reach_the_wire() {
    for from in [POD, "10.128.7.7", "172.29.0.11"] {
        let mut frame = Frame::new(Protocol::UDP, (from, 4000), ("10.64.0.10", 53), b"");
        let dropped = Verdict::Drop(Counter::DropNoService);
        assert_eq!(go_out(&World::new(), &mut frame), dropped, "{from}");
    }
}

#[test]
fn answer_to_a_connection_from_outside_keeps_the_pods_address() {
    let flags = crate::packet::TCP_SYN | TCP_ACK;
    let mut frame = Frame::with_flags(Protocol::TCP, (POD, 80), ("198.51.100.2", 4000), b"", flags);
    assert_eq!(go_out(&World::new(), &mut frame), Verdict::Pass);
}

#[test]
fn family_without_node_address_is_dropped() {
    let mut world = World::new();
    world.config.ipv6 = skep_abi::Address::UNSPECIFIED;
    let mut frame = Frame::new(Protocol::UDP, ("fd00:128::5", 4000), ("2001:db8::1", 53), b"");
    assert_eq!(
        go_out(&world, &mut frame),
        Verdict::Drop(Counter::DropNoNodeAddress)
    );
}

#[test]
fn idle_datagram_flow_opens_anew() {
    let world = World::new();
    let datagram = || Frame::new(Protocol::UDP, (POD, 4000), ("198.51.100.2", 53), b"");
    go_out(&world, &mut datagram());
    world.clock_s.set(20);
    go_out(&world, &mut datagram());
    assert_eq!(world.counted(Counter::PacketMasqueraded), 1);
    world.clock_s.set(20 + 31);
    go_out(&world, &mut datagram());
    assert_eq!(world.counted(Counter::PacketMasqueraded), 2);
    assert_eq!(world.flows.borrow().len(), 2);
}

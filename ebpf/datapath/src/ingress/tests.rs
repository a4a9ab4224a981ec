//! Packets from outside, through ingress and egress, over the maps in memory.

use proptest::prelude::*;
use skep_abi::{Counter, FrontendFlags, Protocol, ServiceId};

use super::ingress;
use crate::Verdict;
use crate::account::Event;
use crate::egress::egress;
use crate::fake::World;
use crate::frame::Frame;
use crate::packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use crate::tables::ServiceTables;

const CLIENT: &str = "192.0.2.1";
const NODE: &str = "172.29.0.11";

fn world_with(backends: &[&str]) -> World {
    let mut world = World::new();
    let service = world.add_service(backends);
    for protocol in [Protocol::TCP, Protocol::UDP] {
        world.add_frontend("172.29.0.11:30080", protocol, service, FrontendFlags::NODE_PORT);
        world.add_frontend("172.29.0.11:30081", protocol, service, FrontendFlags::NODE_PORT);
        world.add_frontend("10.64.0.10:80", protocol, service, FrontendFlags::CLUSTER_IP);
        world.add_frontend("203.0.113.9:80", protocol, service, FrontendFlags::EXTERNAL_IP);
    }
    world
}

fn come_in(world: &World, frame: &mut Frame) -> Verdict {
    let family = frame.family();
    let verdict = ingress(world, frame, family, 14);
    assert!(frame.checksums_hold(), "{frame:?}");
    verdict
}

fn go_out(world: &World, frame: &mut Frame) -> Verdict {
    let family = frame.family();
    let verdict = egress(world, frame, family, 14);
    assert!(frame.checksums_hold(), "{frame:?}");
    verdict
}

/// The answer to a frame: its tuple reversed.
fn answer(frame: &Frame, flags: u8) -> Frame {
    let (from, to) = (frame.destination(), frame.source());
    let protocol = frame.header().tuple.protocol;
    Frame::with_flags(protocol, (&from.0, from.1), (&to.0, to.1), b"answer", flags)
}

#[test]
fn local_backend_sees_the_client_and_the_client_sees_the_node_port() {
    for protocol in [Protocol::TCP, Protocol::UDP] {
        let world = world_with(&["10.128.0.5:8080"]);
        let mut frame = Frame::new(protocol, (CLIENT, 4000), (NODE, 30080), b"hello");
        assert_eq!(come_in(&world, &mut frame), Verdict::Translated);
        assert_eq!(frame.tuple(), "192.0.2.1:4000 > 10.128.0.5:8080");
        let mut back = answer(&frame, TCP_ACK);
        assert_eq!(go_out(&world, &mut back), Verdict::Translated);
        assert_eq!(back.tuple(), "172.29.0.11:30080 > 192.0.2.1:4000");
    }
}

#[test]
fn remote_backend_is_reached_from_the_node_and_answers_through_it() {
    for protocol in [Protocol::TCP, Protocol::UDP] {
        let world = world_with(&["10.128.1.7:8080"]);
        let mut frame = Frame::new(protocol, (CLIENT, 4000), (NODE, 30080), b"hello");
        assert_eq!(come_in(&world, &mut frame), Verdict::Forwarded);
        assert_eq!(frame.source().0, NODE);
        assert_eq!(frame.header().hop_limit, 63);
        assert!(frame.tuple().ends_with("> 10.128.1.7:8080"));
        let mut back = answer(&frame, TCP_ACK);
        assert_eq!(come_in(&world, &mut back), Verdict::Forwarded);
        assert_eq!(back.tuple(), "172.29.0.11:30080 > 192.0.2.1:4000");
        assert_eq!(world.forwards.borrow().len(), 2);
    }
}

#[test]
fn ipv6_goes_the_same_way() {
    let mut world = World::new();
    let service = world.add_service(&["[fd00:128::5]:8080"]);
    world.add_frontend(
        "[fd00:29::11]:30080",
        Protocol::TCP,
        service,
        FrontendFlags::NODE_PORT,
    );
    let mut frame = Frame::new(
        Protocol::TCP,
        ("2001:db8::1", 4000),
        ("fd00:29::11", 30080),
        b"hello",
    );
    assert_eq!(come_in(&world, &mut frame), Verdict::Translated);
    assert_eq!(frame.tuple(), "[2001:db8::1]:4000 > [fd00:128::5]:8080");
    let mut back = answer(&frame, TCP_ACK);
    assert_eq!(go_out(&world, &mut back), Verdict::Translated);
    assert_eq!(back.tuple(), "[fd00:29::11]:30080 > [2001:db8::1]:4000");
}

#[test]
fn restricted_frontend_drops_who_is_in_none_of_its_ranges() {
    let mut world = world_with(&["10.128.0.5:8080"]);
    let service = ServiceId(1);
    let restricted = FrontendFlags::LOAD_BALANCER.with(FrontendFlags::RESTRICTED);
    let frontends = ["198.51.100.1:80", "[2001:db8:1::1]:80"];
    for at in frontends {
        world.add_frontend(at, Protocol::TCP, service, restricted);
    }
    world.add_source_range(service, "192.0.2.0", 28);
    world.add_source_range(ServiceId(2), "192.0.2.16", 28);
    let come = |from: &str, to: &str| {
        let mut frame = Frame::with_flags(Protocol::TCP, (from, 4000), (to, 80), b"", TCP_SYN);
        come_in(&world, &mut frame)
    };
    assert_eq!(come("192.0.2.15", "198.51.100.1"), Verdict::Translated);
    for from in ["192.0.2.16", "192.0.3.1", "172.29.0.12"] {
        let dropped = Verdict::Drop(Counter::DropSourceRange);
        assert_eq!(come(from, "198.51.100.1"), dropped, "{from}");
    }
    let dropped = Verdict::Drop(Counter::DropSourceRange);
    assert_eq!(
        come("2001:db8::1", "2001:db8:1::1"),
        dropped,
        "no range of the family"
    );
    assert_eq!(
        come("192.0.3.1", "203.0.113.9"),
        Verdict::Translated,
        "others are open"
    );
}

#[test]
fn one_client_port_on_two_node_ports_of_one_backend_stays_two_flows() {
    let world = world_with(&["10.128.0.5:8080"]);
    let mut first = Frame::new(Protocol::TCP, (CLIENT, 4000), (NODE, 30080), b"");
    let mut second = Frame::new(Protocol::TCP, (CLIENT, 4000), (NODE, 30081), b"");
    come_in(&world, &mut first);
    come_in(&world, &mut second);
    assert_ne!(first.tuple(), second.tuple());
    let (mut back_first, mut back_second) = (answer(&first, TCP_ACK), answer(&second, TCP_ACK));
    go_out(&world, &mut back_first);
    go_out(&world, &mut back_second);
    assert_eq!(back_first.tuple(), "172.29.0.11:30080 > 192.0.2.1:4000");
    assert_eq!(back_second.tuple(), "172.29.0.11:30081 > 192.0.2.1:4000");
}

#[test]
fn empty_service_is_left_to_the_node_or_answered() {
    let world = world_with(&[]);
    let mut to_node = Frame::new(Protocol::TCP, (CLIENT, 4000), (NODE, 30080), b"");
    let before = to_node.clone();
    assert_eq!(come_in(&world, &mut to_node), Verdict::Pass);
    assert_eq!(to_node, before);
    let mut to_external = Frame::new(Protocol::TCP, (CLIENT, 4000), ("203.0.113.9", 80), b"");
    assert_eq!(
        come_in(&world, &mut to_external),
        Verdict::Answered(Counter::PacketReset)
    );
}

#[test]
fn cluster_ip_from_outside_is_dropped_and_other_traffic_passes() {
    let world = world_with(&["10.128.0.5:8080"]);
    let verdict = |to: &str, port| {
        come_in(
            &world,
            &mut Frame::new(Protocol::TCP, (CLIENT, 4000), (to, port), b""),
        )
    };
    assert_eq!(verdict("10.64.0.10", 80), Verdict::Drop(Counter::DropNoService));
    assert_eq!(verdict("10.64.0.99", 80), Verdict::Drop(Counter::DropNoService));
    assert_eq!(verdict(NODE, 22), Verdict::Pass);
    let mut ping = Frame::new(Protocol::ICMP, (CLIENT, 7), (NODE, 0), b"");
    assert_eq!(come_in(&world, &mut ping), Verdict::Pass);
}

/// One packet of every kind that is not looked up, from `source` to `destination`.
fn packets_not_looked_up(source: &str, destination: &str) -> Vec<Frame> {
    let v6 = destination.contains(':');
    let icmp = if v6 { Protocol::ICMPV6 } else { Protocol::ICMP };
    let new = |protocol| Frame::new(protocol, (source, 4000), (destination, 0), b"payload");
    let ping = new(icmp);
    let mut error = new(icmp);
    error.bytes[if v6 { 54 } else { 34 }] = 3;
    let mut foreign = new(Protocol::UDP);
    foreign.bytes[if v6 { 20 } else { 23 }] = 89;
    let mut fragment = new(Protocol::UDP);
    if v6 {
        fragment.insert_extension(44);
    } else {
        fragment.bytes[20] = 0x20;
    }
    let mut malformed = new(Protocol::TCP);
    malformed.bytes[if v6 { 66 } else { 46 }] = 0;
    vec![ping, error, foreign, fragment, malformed]
}

#[test]
fn nothing_to_the_service_range_passes_in_either_direction() {
    let world = world_with(&["10.128.0.5:8080"]);
    let dropped = Verdict::Drop(Counter::DropNoService);
    for (source, service, other) in [
        (CLIENT, "10.64.0.10", NODE),
        ("2001:db8::1", "fd00:64::10", "fd00:29::11"),
    ] {
        for (to, verdict) in [(service, dropped), (other, Verdict::Pass)] {
            for mut frame in packets_not_looked_up(source, to) {
                let family = frame.family();
                let seen = ingress(&world, &mut frame, family, 14);
                assert_eq!(seen, verdict, "in, to {to}: {frame:?}");
                let seen = egress(&world, &mut frame, family, 14);
                assert_eq!(seen, verdict, "out, to {to}: {frame:?}");
            }
        }
    }
}

#[test]
fn martians_meet_no_frontend() {
    let mut world = world_with(&["10.128.0.5:8080"]);
    let service = ServiceId(1);
    let v6 = world.add_service(&["[fd00:128::5]:8080"]);
    world.add_frontend(
        "127.0.0.1:30080",
        Protocol::UDP,
        service,
        FrontendFlags::NODE_PORT,
    );
    world.add_frontend("[fd00:29::11]:30080", Protocol::UDP, v6, FrontendFlags::NODE_PORT);
    for (source, destination) in [
        ("127.0.0.1", NODE),
        ("224.0.0.1", NODE),
        ("0.0.0.0", NODE),
        (NODE, NODE),
        (CLIENT, "127.0.0.1"),
        ("::1", "fd00:29::11"),
        ("::", "fd00:29::11"),
        ("ff02::1", "fd00:29::11"),
        ("fd00:29::11", "fd00:29::11"),
    ] {
        let mut frame = Frame::new(Protocol::UDP, (source, 4000), (destination, 30080), b"");
        assert_eq!(
            come_in(&world, &mut frame),
            Verdict::Pass,
            "{source} > {destination}"
        );
    }
    assert_eq!(world.counted(Counter::PacketMartian), 9);
    assert!(world.flows.borrow().is_empty());
}

#[test]
fn backend_is_local_by_its_address_as_well_as_by_its_node() {
    use skep_abi::BackendFlags as Flags;
    for (backend, flags, local) in [
        ("10.128.0.5:8080", Flags::NONE, true),
        ("[fd00:128::5]:8080", Flags::NONE, true),
        ("172.29.0.11:8080", Flags::HOST_NETWORK, true),
        ("[fd00:29::11]:8080", Flags::HOST_NETWORK, true),
        ("192.0.2.77:8080", Flags::LOCAL, true),
        ("10.128.1.5:8080", Flags::NONE, false),
        ("[fd00:128:1::5]:8080", Flags::NONE, false),
        ("172.29.0.12:8080", Flags::NONE, false),
    ] {
        let mut world = World::new();
        let service = world.add_service(&[backend]);
        let only = world.slots[0];
        world.backends.get_mut(&only).unwrap().flags = Flags::PRESENT.with(flags);
        world.add_frontend(
            "172.29.0.11:30080",
            Protocol::TCP,
            service,
            FrontendFlags::NODE_PORT,
        );
        world.add_frontend(
            "[fd00:29::11]:30080",
            Protocol::TCP,
            service,
            FrontendFlags::NODE_PORT,
        );
        let (from, to) = if backend.starts_with('[') {
            ("2001:db8::1", "fd00:29::11")
        } else {
            (CLIENT, NODE)
        };
        let mut frame = Frame::new(Protocol::TCP, (from, 4000), (to, 30080), b"");
        let expected = if local {
            Verdict::Translated
        } else {
            Verdict::Forwarded
        };
        assert_eq!(come_in(&world, &mut frame), expected, "{backend}");
        assert_eq!(frame.source().0 == from, local, "{backend}");
    }
}

#[test]
fn only_outside_is_bound_by_the_external_policy() {
    let mut world = World::new();
    let all = world.add_service(&["10.128.1.7:8080"]);
    let local = world.add_service(&[]);
    let kind = FrontendFlags::NODE_PORT;
    world.add_frontend(
        "172.29.0.11:30080",
        Protocol::TCP,
        all,
        kind.with(FrontendFlags::SPLIT),
    );
    let flags = kind.with(FrontendFlags::LOCAL_ONLY);
    world.add_external_frontend("172.29.0.11:30080", Protocol::TCP, local, flags);
    let from = |source| Frame::new(Protocol::TCP, (source, 4000), (NODE, 30080), b"");
    assert_eq!(come_in(&world, &mut from("10.128.2.9")), Verdict::Forwarded);
    let dropped = Verdict::Drop(Counter::DropNoBackend);
    assert_eq!(come_in(&world, &mut from(CLIENT)), dropped);
}

#[test]
fn stray_segments_are_left_to_the_node() {
    let world = world_with(&["10.128.0.5:8080"]);
    let mut stray = Frame::with_flags(Protocol::TCP, (CLIENT, 4000), (NODE, 30080), b"", TCP_ACK);
    assert_eq!(come_in(&world, &mut stray), Verdict::Pass);
    assert_eq!(world.counted(Counter::PacketStray), 1);
    assert!(world.flows.borrow().is_empty());
}

#[test]
fn established_connection_outlives_its_backends_removal_unless_flagged_dead() {
    let mut world = world_with(&["10.128.0.5:8080"]);
    come_in(
        &world,
        &mut Frame::new(Protocol::TCP, (CLIENT, 4000), (NODE, 30080), b""),
    );
    let data = || Frame::with_flags(Protocol::TCP, (CLIENT, 4000), (NODE, 30080), b"data", TCP_ACK);
    let backend = world.slots[0];
    let kept = *world.backend(backend).unwrap();
    world.backends.remove(&backend);
    assert_eq!(come_in(&world, &mut data()), Verdict::Translated);
    // A new connection of the same client goes nowhere near it.
    world.refill_slots();
    let mut opening = Frame::new(Protocol::TCP, (CLIENT, 4000), (NODE, 30080), b"");
    assert_eq!(come_in(&world, &mut opening), Verdict::Pass);
    assert_eq!(world.counted(Counter::PacketNoBackend), 1);
    world.backends.insert(backend, kept);
    world.refill_slots();
    come_in(&world, &mut opening);
    let mut dead = kept;
    dead.flags = dead.flags.with(skep_abi::BackendFlags::DEAD);
    world.backends.insert(backend, dead);
    assert_eq!(
        come_in(&world, &mut data()),
        Verdict::Drop(Counter::DropBackendDead)
    );
}

#[test]
fn datagrams_move_to_a_live_backend() {
    let mut world = world_with(&["10.128.0.5:53", "10.128.0.6:53"]);
    let datagram = || Frame::new(Protocol::UDP, (CLIENT, 4000), (NODE, 30080), b"query");
    let mut first = datagram();
    come_in(&world, &mut first);
    for _ in 0..20 {
        let mut next = datagram();
        come_in(&world, &mut next);
        assert_eq!(next.tuple(), first.tuple());
    }
    let gone = first.header().tuple.destination;
    world.backends.retain(|_, backend| backend.address != gone);
    world.refill_slots();
    let mut moved = datagram();
    assert_eq!(come_in(&world, &mut moved), Verdict::Translated);
    assert_ne!(moved.header().tuple.destination, gone);
    assert_eq!(world.flows.borrow().len(), 2);
}

#[test]
fn client_port_is_a_new_connection_once_the_old_one_has_ended() {
    let world = world_with(&["10.128.0.5:8080"]);
    let segment = |flags| Frame::with_flags(Protocol::TCP, (CLIENT, 4000), (NODE, 30080), b"", flags);
    let mut first = Frame::new(Protocol::TCP, (CLIENT, 4000), (NODE, 30080), b"");
    come_in(&world, &mut first);
    come_in(&world, &mut segment(TCP_FIN | TCP_ACK));
    go_out(&world, &mut answer(&first, TCP_FIN | TCP_ACK));
    assert_eq!(world.counted(Counter::PacketFlowOpened), 1);
    let again = || Frame::new(Protocol::TCP, (CLIENT, 4000), (NODE, 30080), b"");
    assert_eq!(come_in(&world, &mut again()), Verdict::Translated);
    assert_eq!(world.counted(Counter::PacketFlowOpened), 2);
    // A repeated SYN of a living connection is not a new one.
    come_in(&world, &mut again());
    assert_eq!(world.counted(Counter::PacketFlowOpened), 2);
    come_in(&world, &mut segment(TCP_RST));
    come_in(&world, &mut again());
    assert_eq!(world.counted(Counter::PacketFlowOpened), 3);
}

#[test]
fn evicted_half_of_a_flow_comes_back() {
    let world = world_with(&["10.128.0.5:8080"]);
    let mut first = Frame::new(Protocol::TCP, (CLIENT, 4000), (NODE, 30080), b"");
    come_in(&world, &mut first);
    world
        .flows
        .borrow_mut()
        .retain(|key, _| key.hook == skep_abi::Hook::INGRESS);
    world.clock_s.set(5);
    come_in(
        &world,
        &mut Frame::with_flags(Protocol::TCP, (CLIENT, 4000), (NODE, 30080), b"", TCP_ACK),
    );
    assert_eq!(world.counted(Counter::PacketFlowRestored), 1);
    let mut back = answer(&first, TCP_ACK);
    assert_eq!(go_out(&world, &mut back), Verdict::Translated);
    assert_eq!(back.tuple(), "172.29.0.11:30080 > 192.0.2.1:4000");
}

#[test]
fn forwarding_stops_when_hops_run_out() {
    let world = world_with(&["10.128.1.7:8080"]);
    let mut frame = Frame::new(Protocol::UDP, (CLIENT, 4000), (NODE, 30080), b"");
    frame.set_hop_limit(1);
    let family = frame.family();
    assert_eq!(
        ingress(&world, &mut frame, family, 14),
        Verdict::Answered(Counter::PacketHopLimit)
    );
    assert!(world.flows.borrow().is_empty());
}

#[test]
fn packets_without_a_way_spend_no_flow() {
    let mut world = world_with(&["10.128.1.7:8080"]);
    for reason in [Counter::DropNoRoute, Counter::DropTooBig] {
        world.no_way = Some(reason.into());
        let mut frame = Frame::new(Protocol::UDP, (CLIENT, 4000), (NODE, 30080), b"");
        assert_eq!(come_in(&world, &mut frame), Verdict::Drop(reason));
        assert!(world.flows.borrow().is_empty());
    }
}

#[test]
fn service_pointing_nowhere_is_dropped() {
    let mut world = world_with(&[]);
    world.add_frontend(
        "172.29.0.11:30090",
        Protocol::TCP,
        ServiceId(77),
        FrontendFlags::NODE_PORT,
    );
    let mut frame = Frame::new(Protocol::TCP, (CLIENT, 4000), (NODE, 30090), b"");
    assert_eq!(come_in(&world, &mut frame), Verdict::Drop(Counter::DropTableHole));
}

proptest! {
    #[test]
    fn every_client_gets_its_own_answers(
        clients in proptest::collection::hash_set((1_u8..20, 1000_u16..1200, any::<bool>()), 1..120),
    ) {
        let world = world_with(&["10.128.0.5:8080", "10.128.0.6:8080", "10.128.1.7:8080", "10.128.1.8:8080"]);
        let mut sent = Vec::new();
        for (host, port, second) in clients {
            let client = format!("192.0.2.{host}");
            let node_port = if second { 30081 } else { 30080 };
            let mut frame = Frame::new(Protocol::UDP, (&client, port), (NODE, node_port), b"q");
            prop_assert!(matches!(come_in(&world, &mut frame), Verdict::Translated | Verdict::Forwarded));
            sent.push((format!("{NODE}:{node_port} > {client}:{port}"), frame));
        }
        for (expected, frame) in sent {
            let mut back = answer(&frame, 0);
            let local = frame.destination().0.starts_with("10.128.0.");
            let verdict = if local { go_out(&world, &mut back) } else { come_in(&world, &mut back) };
            prop_assert!(matches!(verdict, Verdict::Translated | Verdict::Forwarded), "{verdict:?}");
            prop_assert_eq!(back.tuple(), expected);
        }
    }
}

#[test]
fn flows_are_counted_for_their_service() {
    for (backend, goes) in [
        ("10.128.0.5:8080", Verdict::Translated),
        ("10.128.1.7:8080", Verdict::Forwarded),
    ] {
        let world = world_with(&[backend]);
        let mut frame = Frame::new(Protocol::UDP, (CLIENT, 4000), (NODE, 30080), b"hello");
        let mut more = frame.clone();
        assert_eq!(come_in(&world, &mut frame), goes);
        assert_eq!(come_in(&world, &mut more), goes);
        let mut back = answer(&frame, 0);
        if goes == Verdict::Translated {
            go_out(&world, &mut back);
        } else {
            come_in(&world, &mut back);
        }
        let serial = World::serial_of(ServiceId(1));
        let events = [
            Event::FlowOpened,
            Event::PacketIn { bytes: 33 },
            Event::PacketIn { bytes: 33 },
            Event::PacketOut { bytes: 34 },
        ];
        assert_eq!(
            *world.events.borrow(),
            events.map(|event| (serial, event)),
            "{backend}"
        );
    }
}

#[test]
fn refused_flows_and_masquerade_are_told_apart() {
    let world = world_with(&[]);
    come_in(
        &world,
        &mut Frame::new(Protocol::TCP, (CLIENT, 4000), (NODE, 30080), b""),
    );
    let serial = World::serial_of(ServiceId(1));
    assert_eq!(*world.events.borrow(), [(serial, Event::FlowRefused)]);
    let mut out = Frame::new(Protocol::UDP, ("10.128.0.9", 4000), (CLIENT, 53), b"who");
    assert_eq!(go_out(&world, &mut out), Verdict::Translated);
    assert_eq!(world.events.borrow().len(), 1);
}

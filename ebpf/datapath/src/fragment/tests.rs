//! Fragmented packets of every way, over the maps in memory.

use skep_abi::{Counter, FrontendFlags, Protocol};

use super::FRAGMENTS_S;
use crate::Verdict;
use crate::egress::egress;
use crate::fake::World;
use crate::frame::Frame;
use crate::ingress::ingress;

const CLIENT: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const NODE: [&str; 2] = ["172.29.0.11", "fd00:29::11"];

fn world() -> World {
    let mut world = World::new();
    for (backend, frontend) in [
        ("10.128.0.5:8080", "172.29.0.11:30080"),
        ("[fd00:128::5]:8080", "[fd00:29::11]:30080"),
        ("10.128.1.7:8080", "172.29.0.11:30081"),
        ("[fd00:128:1::7]:8080", "[fd00:29::11]:30081"),
    ] {
        let service = world.add_service(&[backend]);
        world.add_frontend(frontend, Protocol::UDP, service, FrontendFlags::NODE_PORT);
    }
    world
}

fn come_in(world: &World, frame: &mut Frame) -> Verdict {
    let family = frame.family();
    ingress(world, frame, family, 14)
}

fn go_out(world: &World, frame: &mut Frame) -> Verdict {
    let family = frame.family();
    egress(world, frame, family, 14)
}

const PAYLOAD: &[u8] = &[0x5a; 300];
const PARTS: [core::ops::Range<usize>; 3] = [0..104, 104..200, 200..400];

/// That the parts of `whole` become those of `expected`.
fn assert_parts_become(whole: &Frame, expected: &Frame, mut send: impl FnMut(&mut Frame)) {
    for part in PARTS {
        let mut fragment = whole.fragment(7, part.clone());
        send(&mut fragment);
        assert_eq!(fragment, expected.fragment(7, part));
    }
}

#[test]
fn fragments_follow_their_first_there_and_back() {
    for (client, node) in CLIENT.into_iter().zip(NODE) {
        let world = world();
        let pod = if node == NODE[0] {
            "10.128.0.5"
        } else {
            "fd00:128::5"
        };
        let sent = Frame::new(Protocol::UDP, (client, 4000), (node, 30080), PAYLOAD);
        let seen = Frame::new(Protocol::UDP, (client, 4000), (pod, 8080), PAYLOAD);
        assert_parts_become(&sent, &seen, |part| {
            assert_eq!(come_in(&world, part), Verdict::Translated);
        });
        let answer = Frame::new(Protocol::UDP, (pod, 8080), (client, 4000), PAYLOAD);
        let heard = Frame::new(Protocol::UDP, (node, 30080), (client, 4000), PAYLOAD);
        assert_parts_become(&answer, &heard, |part| {
            assert_eq!(go_out(&world, part), Verdict::Translated);
        });
        assert_eq!(world.counted(Counter::PacketFlowOpened), 1);
        assert_eq!(world.counted(Counter::PacketFragmentFollowed), 4);
    }
}

#[test]
fn fragments_are_sent_on_to_a_remote_backend() {
    for (client, node) in CLIENT.into_iter().zip(NODE) {
        let world = world();
        let pod = if node == NODE[0] {
            "10.128.1.7"
        } else {
            "fd00:128:1::7"
        };
        let sent = Frame::new(Protocol::UDP, (client, 4000), (node, 30081), PAYLOAD);
        let mut first = sent.fragment(7, 0..104);
        assert_eq!(come_in(&world, &mut first), Verdict::Forwarded);
        let port = world
            .flows
            .borrow()
            .keys()
            .map(|key| key.destination_port.to_host())
            .max();
        let port = port.filter(|port| *port != 30081).unwrap_or_else(|| {
            let flows = world.flows.borrow();
            flows
                .keys()
                .map(|key| key.destination_port.to_host())
                .min()
                .unwrap()
        });
        let mut seen = Frame::new(Protocol::UDP, (node, port), (pod, 8080), PAYLOAD);
        seen.set_hop_limit(63);
        assert_parts_become(&sent, &seen, |part| {
            assert_eq!(come_in(&world, part), Verdict::Forwarded);
        });
    }
}

#[test]
fn pods_fragments_are_masqueraded_pings_as_well() {
    for (protocol, to_port) in [(Protocol::UDP, 53), (Protocol::ICMP, 0)] {
        let world = World::new();
        let sent = Frame::new(protocol, ("10.128.0.5", 4000), ("198.51.100.2", to_port), PAYLOAD);
        let mut first = sent.fragment(7, 0..104);
        assert_eq!(go_out(&world, &mut first), Verdict::Translated);
        let port = u16::from_be_bytes(if protocol == Protocol::UDP {
            [first.bytes[34], first.bytes[35]]
        } else {
            [first.bytes[38], first.bytes[39]]
        });
        let seen = Frame::new(
            protocol,
            ("172.29.0.11", port),
            ("198.51.100.2", to_port),
            PAYLOAD,
        );
        assert_parts_become(&sent, &seen, |part| {
            assert_eq!(go_out(&world, part), Verdict::Translated);
        });
    }
}

#[test]
fn fragment_before_its_first_is_not_translated() {
    let world = world();
    let sent = Frame::new(Protocol::UDP, (CLIENT[0], 4000), (NODE[0], 30080), PAYLOAD);
    let mut early = sent.fragment(7, 104..200);
    let before = early.clone();
    assert_eq!(come_in(&world, &mut early), Verdict::Pass);
    assert_eq!(early, before);
    assert_eq!(world.counted(Counter::PacketFragment), 1);
    come_in(&world, &mut sent.fragment(7, 0..104));
    // That of another packet is no first of it.
    assert_eq!(come_in(&world, &mut sent.fragment(8, 104..200)), Verdict::Pass);
    assert_eq!(
        come_in(&world, &mut sent.fragment(7, 104..200)),
        Verdict::Translated
    );
    world.clock_s.set(FRAGMENTS_S + 1);
    assert_eq!(come_in(&world, &mut sent.fragment(7, 200..400)), Verdict::Pass);
    let to_service = Frame::new(Protocol::UDP, (CLIENT[0], 4000), ("10.64.0.10", 53), PAYLOAD);
    let dropped = Verdict::Drop(Counter::DropNoService);
    assert_eq!(come_in(&world, &mut to_service.fragment(9, 104..200)), dropped);
}

#[test]
fn fragments_that_are_no_services_pass() {
    let world = world();
    let sent = Frame::new(Protocol::UDP, (CLIENT[0], 4000), (NODE[0], 9999), PAYLOAD);
    assert_parts_become(&sent, &sent, |part| {
        assert_eq!(come_in(&world, part), Verdict::Pass);
    });
    assert!(world.flows.borrow().is_empty());
}

//! Errors in both directions of every kind of flow, over the maps in memory.

use proptest::prelude::*;
use skep_abi::{Counter, FrontendFlags, Protocol};

use crate::Verdict;
use crate::egress::egress;
use crate::fake::World;
use crate::frame::Frame;
use crate::ingress::ingress;

struct Ends {
    client: &'static str,
    node: &'static str,
    local_pod: &'static str,
    remote_pod: &'static str,
    outside: &'static str,
    router: &'static str,
    errors: [(u8, u8); 4],
    /// Length of an IP header.
    header: usize,
}

const FAMILIES: [Ends; 2] = [
    Ends {
        client: "192.0.2.1",
        node: "172.29.0.11",
        local_pod: "10.128.0.5",
        remote_pod: "10.128.1.7",
        outside: "198.51.100.2",
        router: "203.0.113.77",
        errors: [(3, 3), (3, 4), (11, 0), (12, 0)],
        header: 20,
    },
    Ends {
        client: "2001:db8::1",
        node: "fd00:29::11",
        local_pod: "fd00:128::5",
        remote_pod: "fd00:128:1::7",
        outside: "2001:db8:2::2",
        router: "2001:db8:77::1",
        errors: [(1, 4), (2, 0), (3, 0), (4, 1)],
        header: 40,
    },
];

const PROTOCOLS: [Protocol; 2] = [Protocol::TCP, Protocol::UDP];

fn end(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

fn world(ends: &Ends, pod: &str) -> World {
    let mut world = World::new();
    let service = world.add_service(&[&end(pod, 8080)]);
    for protocol in PROTOCOLS {
        world.add_frontend(
            &end(ends.node, 30080),
            protocol,
            service,
            FrontendFlags::NODE_PORT,
        );
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

/// Source and destination of an error.
fn way(error: &Frame) -> (String, String) {
    let header = error.known_l4();
    (
        header.tuple.source.to_string(),
        header.tuple.destination.to_string(),
    )
}

/// That an error looks as if it were about `sent`, in every bit but those of checksums; these are right.
fn assert_about(error: &Frame, sent: &Frame, whole: bool) {
    assert!(error.checksums_hold(), "{error:?}");
    let mut quoted = error.quoted();
    let mut expected = sent.clone();
    if whole {
        assert_eq!(quoted.tuple(), expected.tuple());
        assert!(quoted.checksums_hold(), "{quoted:?}");
        quoted.clear_checksums();
        expected.clear_checksums();
        assert_eq!(quoted, expected);
    } else {
        let l4 = sent.header().l4_offset as usize;
        assert_eq!(quoted.bytes[26..l4 + 4], sent.bytes[26..l4 + 4]);
    }
}

/// Errors of every kind about `seen`, whole and cut short after eight bytes of L4; `how` sends each on its way.
fn for_each_error(ends: &Ends, from: &str, seen: &Frame, mut how: impl FnMut(Frame, bool)) {
    let to = seen.source().0;
    for kind in ends.errors {
        for (length, whole) in [(1_000, true), (ends.header + 8, false)] {
            how(Frame::error(kind, from, &to, seen, length), whole);
        }
    }
}

#[test]
fn clients_side_reports_to_a_local_backend() {
    for (ends, protocol) in FAMILIES.iter().flat_map(|ends| PROTOCOLS.map(|p| (ends, p))) {
        let world = world(ends, ends.local_pod);
        let mut request = Frame::new(protocol, (ends.client, 4000), (ends.node, 30080), b"hello");
        come_in(&world, &mut request);
        let sent = Frame::with_flags(
            protocol,
            (ends.local_pod, 8080),
            (ends.client, 4000),
            b"answer",
            16,
        );
        let mut seen = sent.clone();
        assert_eq!(go_out(&world, &mut seen), Verdict::Translated);
        for from in [ends.router, ends.client] {
            for_each_error(ends, from, &seen, |mut error, whole| {
                assert_eq!(come_in(&world, &mut error), Verdict::Translated);
                assert_eq!(way(&error), (from.to_owned(), ends.local_pod.to_owned()));
                assert_about(&error, &sent, whole);
            });
        }
        assert_eq!(world.counted(Counter::PacketError), 16);
    }
}

#[test]
fn local_backends_side_reports_to_the_client_as_the_service() {
    for (ends, protocol) in FAMILIES.iter().flat_map(|ends| PROTOCOLS.map(|p| (ends, p))) {
        let world = world(ends, ends.local_pod);
        let sent = Frame::new(protocol, (ends.client, 4000), (ends.node, 30080), b"hello");
        let mut seen = sent.clone();
        come_in(&world, &mut seen);
        for from in [ends.local_pod, "10.128.0.1", "fd00:128::1"] {
            if from.contains(':') != ends.client.contains(':') {
                continue;
            }
            for_each_error(ends, from, &seen, |mut error, whole| {
                assert_eq!(go_out(&world, &mut error), Verdict::Translated);
                assert_eq!(way(&error), (ends.node.to_owned(), ends.client.to_owned()));
                assert_about(&error, &sent, whole);
            });
        }
    }
}

#[test]
fn remote_backends_side_reports_to_the_client_through_the_node() {
    for (ends, protocol) in FAMILIES.iter().flat_map(|ends| PROTOCOLS.map(|p| (ends, p))) {
        let world = world(ends, ends.remote_pod);
        let sent = Frame::new(protocol, (ends.client, 4000), (ends.node, 30080), b"hello");
        let mut seen = sent.clone();
        assert_eq!(come_in(&world, &mut seen), Verdict::Forwarded);
        // The backend's side saw one hop less.
        let mut one_hop_less = sent.clone();
        one_hop_less.set_hop_limit(63);
        for from in [ends.router, ends.remote_pod] {
            for_each_error(ends, from, &seen, |mut error, whole| {
                assert_eq!(come_in(&world, &mut error), Verdict::Forwarded);
                assert_eq!(way(&error), (ends.node.to_owned(), ends.client.to_owned()));
                assert_eq!(error.known_l4().hop_limit, 63);
                assert_about(&error, &one_hop_less, whole);
            });
        }
    }
}

#[test]
fn clients_side_reports_to_a_remote_backend_as_the_node() {
    for (ends, protocol) in FAMILIES.iter().flat_map(|ends| PROTOCOLS.map(|p| (ends, p))) {
        let world = world(ends, ends.remote_pod);
        let mut request = Frame::new(protocol, (ends.client, 4000), (ends.node, 30080), b"hello");
        come_in(&world, &mut request);
        let port = request.source().1;
        let mut sent = Frame::with_flags(
            protocol,
            (ends.remote_pod, 8080),
            (ends.node, port),
            b"answer",
            16,
        );
        let mut seen = sent.clone();
        assert_eq!(come_in(&world, &mut seen), Verdict::Forwarded);
        sent.set_hop_limit(63);
        for from in [ends.router, ends.client] {
            for_each_error(ends, from, &seen, |mut error, whole| {
                assert_eq!(come_in(&world, &mut error), Verdict::Forwarded);
                assert_eq!(way(&error), (ends.node.to_owned(), ends.remote_pod.to_owned()));
                assert_about(&error, &sent, whole);
            });
        }
    }
}

#[test]
fn the_world_reports_to_a_masqueraded_pod_and_the_pod_to_the_world() {
    for (ends, protocol) in FAMILIES.iter().flat_map(|ends| PROTOCOLS.map(|p| (ends, p))) {
        let world = World::new();
        let sent = Frame::new(protocol, (ends.local_pod, 5000), (ends.outside, 443), b"hello");
        let mut seen = sent.clone();
        assert_eq!(go_out(&world, &mut seen), Verdict::Translated);
        for from in [ends.router, ends.outside] {
            for_each_error(ends, from, &seen, |mut error, whole| {
                assert_eq!(come_in(&world, &mut error), Verdict::Translated);
                assert_eq!(way(&error), (from.to_owned(), ends.local_pod.to_owned()));
                assert_about(&error, &sent, whole);
            });
        }
        let port = seen.source().1;
        let answer = Frame::with_flags(protocol, (ends.outside, 443), (ends.node, port), b"answer", 16);
        let mut arrived = answer.clone();
        assert_eq!(come_in(&world, &mut arrived), Verdict::Translated);
        for_each_error(ends, ends.local_pod, &arrived, |mut error, whole| {
            assert_eq!(go_out(&world, &mut error), Verdict::Translated);
            assert_eq!(way(&error), (ends.node.to_owned(), ends.outside.to_owned()));
            assert_about(&error, &answer, whole);
        });
    }
}

#[test]
fn pings_of_masqueraded_pods_get_their_errors() {
    for (ends, protocol) in FAMILIES.iter().zip([Protocol::ICMP, Protocol::ICMPV6]) {
        let world = World::new();
        let sent = Frame::new(protocol, (ends.local_pod, 77), (ends.outside, 0), b"ping");
        let mut seen = sent.clone();
        assert_eq!(go_out(&world, &mut seen), Verdict::Translated);
        for_each_error(ends, ends.router, &seen, |mut error, whole| {
            assert_eq!(come_in(&world, &mut error), Verdict::Translated);
            assert_eq!(way(&error).1, ends.local_pod);
            assert_about(&error, &sent, whole);
        });
    }
}

#[test]
fn errors_about_no_flow_are_left_alone() {
    let ends = &FAMILIES[0];
    let world = world(ends, ends.local_pod);
    let mut seen = Frame::new(Protocol::UDP, (ends.client, 4000), (ends.node, 30080), b"hello");
    come_in(&world, &mut seen);
    let other = Frame::new(Protocol::UDP, (ends.node, 30080), (ends.client, 4001), b"answer");
    // It went to the client, but this error does not go back to its source.
    let answer = Frame::new(Protocol::UDP, (ends.node, 30080), (ends.client, 4000), b"answer");
    for (about, to) in [(&other, ends.node), (&answer, "172.29.0.12")] {
        let mut error = Frame::error((3, 3), ends.client, to, about, 100);
        let before = error.clone();
        assert_eq!(come_in(&world, &mut error), Verdict::Pass);
        assert_eq!(error, before);
    }
    let mut to_service = Frame::error((3, 3), ends.client, "10.64.0.10", &answer, 100);
    let dropped = Verdict::Drop(Counter::DropNoService);
    assert_eq!(come_in(&world, &mut to_service), dropped);
    assert_eq!(world.counted(Counter::PacketError), 0);
}

#[test]
fn errors_are_sent_on_only_while_hops_and_routes_last() {
    let ends = &FAMILIES[0];
    let mut world = world(ends, ends.remote_pod);
    let mut seen = Frame::new(Protocol::UDP, (ends.client, 4000), (ends.node, 30080), b"hello");
    come_in(&world, &mut seen);
    let mut error = Frame::error((3, 3), ends.remote_pod, ends.node, &seen, 100);
    let mut last_hop = error.clone();
    last_hop.set_hop_limit(1);
    assert_eq!(
        come_in(&world, &mut last_hop),
        Verdict::Drop(Counter::DropHopLimit)
    );
    world.no_way = Some(Counter::DropNoRoute.into());
    assert_eq!(come_in(&world, &mut error), Verdict::Drop(Counter::DropNoRoute));
}

#[test]
fn quoted_datagram_without_checksum_stays_without() {
    let ends = &FAMILIES[0];
    let world = world(ends, ends.local_pod);
    let mut seen = Frame::new(Protocol::UDP, (ends.client, 4000), (ends.node, 30080), b"hello");
    seen.clear_checksums();
    come_in(&world, &mut seen);
    let mut error = Frame::error((3, 3), ends.local_pod, ends.client, &seen, 100);
    assert_eq!(go_out(&world, &mut error), Verdict::Translated);
    assert!(error.checksums_hold());
    assert_eq!(error.quoted().bytes[14 + 20 + 6..14 + 20 + 8], [0, 0]);
}

proptest! {
    /// Whatever is quoted, an error is never half rewritten: its checksum holds, and it passes or is translated.
    #[test]
    fn hostile_quotes_do_no_harm(at in 0_usize..60, value in any::<u8>(), cut in 0_usize..80) {
        let ends = &FAMILIES[0];
        let world = world(ends, ends.local_pod);
        let mut seen = Frame::new(Protocol::TCP, (ends.client, 4000), (ends.node, 30080), b"hello");
        come_in(&world, &mut seen);
        let last = seen.bytes.len() - 1;
        seen.bytes[(14 + at).min(last)] = value;
        let mut error = Frame::error((3, 3), ends.local_pod, ends.client, &seen, cut);
        let verdict = go_out(&world, &mut error);
        prop_assert!(matches!(verdict, Verdict::Pass | Verdict::Translated));
        prop_assert!(error.checksums_hold());
    }
}

//! Packets answered from here, over the maps in memory.

use skep_abi::{Counter, FrontendFlags, Protocol, ReportBudget};

use super::{Answer, REPORTS_PER_SECOND, Refusal, take};
use crate::Verdict;
use crate::fake::{World, address};
use crate::frame::Frame;
use crate::ingress::ingress;
use crate::packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

const CLIENT: &str = "192.0.2.1";
const EXTERNAL: &str = "203.0.113.9";
const CLIENT6: &str = "2001:db8::1";
const EXTERNAL6: &str = "2001:db8:9::9";
const ENDS: [[&str; 3]; 2] = [
    [CLIENT, EXTERNAL, "172.29.0.11"],
    [CLIENT6, EXTERNAL6, "fd00:29::11"],
];

fn world() -> World {
    let mut world = World::new();
    let empty = world.add_service(&[]);
    let remote = world.add_service(&["10.128.1.7:8080"]);
    let remote6 = world.add_service(&["[fd00:128:1::7]:8080"]);
    let kind = FrontendFlags::EXTERNAL_IP;
    for protocol in [Protocol::TCP, Protocol::UDP] {
        for (frontend, service, flags) in [
            ("203.0.113.9:80", empty, kind),
            ("[2001:db8:9::9]:80", empty, kind),
            ("203.0.113.9:81", remote, kind),
            ("[2001:db8:9::9]:81", remote6, kind),
            ("203.0.113.9:82", empty, kind.with(FrontendFlags::LOCAL_ONLY)),
        ] {
            world.add_frontend(frontend, protocol, service, flags);
        }
    }
    world
}

fn come_in(world: &World, frame: &mut Frame) -> Verdict {
    let family = frame.family();
    ingress(world, frame, family, 14)
}

/// Sequence number, acknowledgement number and flags of a TCP frame.
fn numbers(frame: &Frame) -> (u32, u32, u8) {
    let at = frame.header().l4_offset as usize;
    let word = |at: usize| u32::from_be_bytes(frame.bytes[at..at + 4].try_into().unwrap());
    (word(at + 4), word(at + 8), frame.bytes[at + 13])
}

#[test]
fn connections_to_nobody_are_reset() {
    for [client, external, _] in ENDS {
        // The frames' sequence number is 1, their acknowledgement number 2.
        for (flags, port, payload, expected) in [
            (TCP_SYN, 80, 0, (0, 2, TCP_RST | TCP_ACK)),
            (TCP_SYN, 80, 100, (0, 102, TCP_RST | TCP_ACK)),
            (TCP_ACK, 81, 100, (2, 0, TCP_RST)),
            (TCP_FIN | TCP_ACK, 81, 0, (2, 0, TCP_RST)),
            (TCP_FIN, 81, 7, (0, 9, TCP_RST | TCP_ACK)),
        ] {
            let world = world();
            let payload = vec![7; payload];
            let mut frame =
                Frame::with_flags(Protocol::TCP, (client, 4000), (external, port), &payload, flags);
            frame.pad(3);
            assert_eq!(
                come_in(&world, &mut frame),
                Verdict::Answered(Counter::PacketReset)
            );
            assert!(frame.checksums_hold(), "{frame:?}");
            assert_eq!(frame.source(), (external.to_owned(), port));
            assert_eq!(frame.destination(), (client.to_owned(), 4000));
            assert_eq!(numbers(&frame), expected);
            assert_eq!(frame.bytes.len(), frame.header().l4_offset as usize + 20);
            let (from, to) = world.forwards.borrow()[0];
            assert_eq!(
                (from.to_string(), to.to_string()),
                (external.to_owned(), client.to_owned())
            );
        }
    }
}

#[test]
fn a_reset_is_not_answered() {
    let world = world();
    let mut frame = Frame::with_flags(Protocol::TCP, (CLIENT, 4000), (EXTERNAL, 81), b"", TCP_RST);
    assert_eq!(come_in(&world, &mut frame), Verdict::Drop(Counter::DropStray));
}

#[test]
fn datagrams_to_nobody_are_unreachable() {
    for ([client, external, _], kind) in ENDS.into_iter().zip([(3, 3), (1, 4)]) {
        for payload in [0, 4, 500] {
            let world = world();
            let sent = Frame::new(Protocol::UDP, (client, 4000), (external, 80), &vec![7; payload]);
            let mut frame = sent.clone();
            assert_eq!(
                come_in(&world, &mut frame),
                Verdict::Answered(Counter::PacketUnreachable)
            );
            let header = sent.header().l4_offset as usize - 14;
            assert_eq!(frame, Frame::error(kind, external, client, &sent, header + 8));
        }
    }
}

#[test]
fn who_sends_too_far_or_too_much_is_told_by_the_node() {
    for (answer, kinds, counter) in [
        (Answer::HopLimit, [(11, 0), (3, 0)], Counter::PacketHopLimit),
        (Answer::TooBig, [(3, 4), (2, 0)], Counter::PacketTooBig),
    ] {
        for (index, [client, external, node]) in ENDS.into_iter().enumerate() {
            let mut world = world();
            let mut sent = Frame::new(Protocol::UDP, (client, 4000), (external, 81), b"payload");
            let header = sent.header().l4_offset as usize - 14;
            if answer == Answer::HopLimit {
                sent.set_hop_limit(1);
            } else {
                world.no_way_to = Some(address(["10.128.1.7", "fd00:128:1::7"][index]));
                world.no_way = Some(Refusal {
                    mtu: 1400,
                    ..Refusal::told(Counter::DropTooBig, answer)
                });
            }
            let mut expected = Frame::error(kinds[index], node, client, &sent, header + 8);
            if answer != Answer::HopLimit {
                expected.set_mtu(1400);
            }
            let mut frame = sent.clone();
            assert_eq!(come_in(&world, &mut frame), Verdict::Answered(counter));
            assert_eq!(frame, expected);
            assert!(world.flows.borrow().is_empty());
        }
    }
}

#[test]
fn local_policy_options_and_later_fragments_are_met_with_silence() {
    let world = world();
    let dropped = Verdict::Drop(Counter::DropNoBackend);
    let new = |protocol, port| Frame::new(protocol, (CLIENT, 4000), (EXTERNAL, port), b"payload");
    for protocol in [Protocol::TCP, Protocol::UDP] {
        assert_eq!(come_in(&world, &mut new(protocol, 82)), dropped);
        let mut with_options = new(protocol, 80);
        with_options.insert_options(&[1, 1, 1, 0]);
        assert_eq!(come_in(&world, &mut with_options), dropped);
    }
    let whole = Frame::new(Protocol::UDP, (CLIENT, 4000), (EXTERNAL, 80), &[7; 300]);
    assert_eq!(
        come_in(&world, &mut whole.fragment(7, 0..104)),
        Verdict::Answered(Counter::PacketUnreachable)
    );
    assert_eq!(come_in(&world, &mut whole.fragment(7, 104..200)), Verdict::Pass);
}

#[test]
fn errors_are_limited_and_resets_are_not() {
    let world = world();
    let send = |protocol| {
        let mut frame = Frame::new(protocol, (CLIENT, 4000), (EXTERNAL, 80), b"");
        come_in(&world, &mut frame)
    };
    for _ in 0..REPORTS_PER_SECOND {
        assert_eq!(send(Protocol::UDP), Verdict::Answered(Counter::PacketUnreachable));
    }
    assert_eq!(send(Protocol::UDP), Verdict::Drop(Counter::DropNoBackend));
    assert_eq!(send(Protocol::TCP), Verdict::Answered(Counter::PacketReset));
    world.clock_s.set(1);
    assert_eq!(send(Protocol::UDP), Verdict::Answered(Counter::PacketUnreachable));
}

#[test]
fn a_second_without_reports_starts_with_a_whole_budget() {
    let mut budget = ReportBudget {
        second_s: 5,
        sent: REPORTS_PER_SECOND,
    };
    assert!(!take(&mut budget, 5));
    assert!(take(&mut budget, 9));
    assert_eq!(budget, ReportBudget { second_s: 9, sent: 1 });
}

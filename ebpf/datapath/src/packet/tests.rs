//! Headers of every kind, and hostile ones.

use proptest::prelude::*;

use super::*;
use crate::fake::address;
use crate::frame::Frame;

#[test]
fn tuple_of_each_protocol_and_family() {
    for (source, destination) in [("192.0.2.1", "198.51.100.2"), ("2001:db8::1", "2001:db8::2")] {
        for protocol in [Protocol::TCP, Protocol::UDP] {
            let frame = Frame::new(protocol, (source, 4000), (destination, 80), b"x");
            let header = frame.header();
            assert_eq!(
                (header.tuple.source, header.tuple.destination),
                (address(source), address(destination))
            );
            assert_eq!(
                (
                    header.tuple.source_port.to_host(),
                    header.tuple.destination_port.to_host()
                ),
                (4000, 80)
            );
            assert_eq!(header.is_tcp_opening(), protocol == Protocol::TCP);
        }
    }
}

#[test]
fn extension_headers_are_skipped_and_fragments_seen() {
    let mut frame = Frame::new(Protocol::UDP, ("2001:db8::1", 4000), ("2001:db8::2", 53), b"x");
    frame.insert_extension(0);
    frame.insert_extension(60);
    assert_eq!(frame.header().tuple.destination_port.to_host(), 53);
    // A fragment header of a packet that is in one piece (RFC 6946).
    frame.insert_extension(44);
    assert_eq!(frame.parse(), Parsed::Known);
    frame.bytes[14 + 40 + 3] = 1;
    assert_eq!(frame.parse(), Parsed::FirstFragment);
    frame.bytes[14 + 40 + 3] = 8;
    assert_eq!(frame.parse(), Parsed::LaterFragment);
    let mut frame = Frame::new(Protocol::UDP, ("192.0.2.1", 4000), ("192.0.2.2", 53), b"x");
    frame.bytes[14 + 6] = 0x20;
    assert_eq!(frame.parse(), Parsed::FirstFragment);
    frame.bytes[14 + 7] = 1;
    assert_eq!(frame.parse(), Parsed::LaterFragment);
}

#[test]
fn endless_extension_headers_are_left_alone() {
    let mut frame = Frame::new(Protocol::UDP, ("2001:db8::1", 4000), ("2001:db8::2", 53), b"x");
    (0..MAX_EXTENSION_HEADERS).for_each(|_| frame.insert_extension(60));
    assert_eq!(frame.header().tuple.destination_port.to_host(), 53);
    frame.insert_extension(60);
    assert_eq!(frame.parse(), Parsed::Foreign);
}

const ENDS: [[&str; 2]; 2] = [["192.0.2.1", "192.0.2.2"], ["2001:db8::1", "2001:db8::2"]];

/// A frame whose headers say `change`, found malformed.
fn is_malformed(protocol: Protocol, ends: [&str; 2], change: impl FnOnce(&mut [u8], usize)) -> bool {
    let mut frame = Frame::new(protocol, (ends[0], 4000), (ends[1], 80), b"payload");
    let l4_offset = frame.header().l4_offset as usize;
    change(&mut frame.bytes, l4_offset);
    frame.parse() == Parsed::Malformed
}

#[test]
fn lengths_that_contradict_each_other_are_malformed() {
    for ends in ENDS {
        let low_byte = if ends[0].contains(':') { 14 + 5 } else { 14 + 3 };
        for protocol in [Protocol::TCP, Protocol::UDP] {
            assert!(!is_malformed(protocol, ends, |_, _| ()));
            // One byte more than there is; and so few that the ports would be read from padding.
            assert!(is_malformed(protocol, ends, |bytes, _| bytes[low_byte] += 1));
            assert!(is_malformed(protocol, ends, |bytes, l4| bytes[low_byte] -=
                u8::try_from(bytes.len() - l4).unwrap()));
        }
        assert!(is_malformed(Protocol::TCP, ends, |bytes, l4| bytes[l4 + 12] = 0x40));
        assert!(is_malformed(Protocol::TCP, ends, |bytes, l4| bytes[l4 + 12] = 0xf0));
        assert!(is_malformed(Protocol::UDP, ends, |bytes, l4| bytes[l4 + 5] = 7));
        assert!(is_malformed(Protocol::UDP, ends, |bytes, l4| bytes[l4 + 5] += 1));
    }
}

#[test]
fn padding_is_no_part_of_the_packet() {
    for [from, to] in ENDS {
        let mut frame = Frame::new(Protocol::UDP, (from, 4000), (to, 53), b"");
        frame.pad(18);
        assert_eq!(frame.header().tuple.destination_port.to_host(), 53);
        assert!(frame.checksums_hold());
    }
}

#[test]
fn segments_too_large_for_the_length_field_are_known() {
    for ends in ENDS {
        let at = if ends[0].contains(':') { 14 + 4 } else { 14 + 2 };
        let mut frame = Frame::new(Protocol::TCP, (ends[0], 4000), (ends[1], 80), b"");
        frame.bytes[at..at + 2].fill(0);
        assert_eq!(frame.parse(), Parsed::Malformed);
        frame.bytes.resize(70_000, 1);
        assert_eq!(frame.parse(), Parsed::Known);
    }
}

#[test]
fn opening_and_ending_at_once_is_malformed() {
    for flags in [TCP_SYN | TCP_FIN, TCP_SYN | TCP_RST, TCP_SYN | TCP_FIN | TCP_ACK] {
        assert!(is_malformed(Protocol::TCP, ENDS[0], |bytes, l4| bytes[l4 + 13] = flags));
    }
}

#[test]
fn ipv4_address_in_an_ipv6_header_is_malformed() {
    for at in [14 + 8, 14 + 24] {
        let mapped = address("192.0.2.1").octets();
        assert!(is_malformed(Protocol::TCP, ENDS[1], |bytes, _| bytes
            [at..at + 16]
            .copy_from_slice(&mapped)));
    }
}

#[test]
fn icmp_errors_are_told_from_echoes_and_the_rest() {
    let mut frame = Frame::new(Protocol::ICMP, ("192.0.2.1", 7), ("192.0.2.2", 0), b"x");
    assert_eq!(frame.header().tuple.source_port.to_host(), 7);
    frame.bytes[14 + 20] = 3;
    assert_eq!(frame.parse(), Parsed::Error);
    frame.bytes[14 + 20] = 5;
    assert_eq!(frame.parse(), Parsed::Foreign);
}

/// What a quote of the first `length` bytes of a packet is found to be about.
fn quoted_tuple(about: &Frame, length: usize) -> Option<FlowKey> {
    let mut header = Header::empty(about.family(), 14, Hook::INGRESS);
    let frame = Frame {
        bytes: about.bytes[..14 + length].to_vec(),
    };
    header.end = u32::try_from(frame.bytes.len()).unwrap();
    parse_quote(&frame, &mut header).then_some(header.tuple)
}

#[test]
fn quotes_count_as_far_as_they_reach() {
    for [from, to] in ENDS {
        let ip = if from.contains(':') { 40 } else { 20 };
        for protocol in [Protocol::TCP, Protocol::UDP] {
            let about = Frame::new(protocol, (from, 4000), (to, 80), b"payload");
            for length in ip + 8..ip + 15 {
                assert_eq!(quoted_tuple(&about, length), Some(about.header().tuple));
            }
            for length in [0, 1, ip - 1, ip, ip + 7] {
                assert_eq!(quoted_tuple(&about, length), None);
            }
        }
    }
}

#[test]
fn quotes_of_what_has_no_ports_are_not_understood() {
    let of = |change: fn(&mut [u8])| {
        let mut about = Frame::new(Protocol::UDP, ("192.0.2.1", 4000), ("192.0.2.2", 80), b"payload");
        change(&mut about.bytes);
        quoted_tuple(&about, 35)
    };
    assert!(of(|_| ()).is_some());
    // The first fragment has ports, later ones have not.
    assert!(of(|bytes| bytes[20] = 0x20).is_some());
    assert!(of(|bytes| bytes[21] = 1).is_none());
    assert!(of(|bytes| bytes[14] = 0x65).is_none());
    assert!(of(|bytes| bytes[14] = 0x44).is_none());
    assert!(of(|bytes| bytes[23] = 89).is_none());
    // An error is not to be answered with an error.
    assert!(of(|bytes| (bytes[23], bytes[34]) = (1, 3)).is_none());
}

proptest! {
    #[test]
    fn any_bytes_parse_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), v6 in any::<bool>()) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let frame = Frame { bytes };
        let mut header = Header::empty(family, 14, Hook::INGRESS);
        if parse(&frame, &mut header) == Parsed::Known {
            prop_assert!(header.l4_offset as usize + 8 <= frame.bytes.len());
        }
    }

    #[test]
    fn any_quote_parses_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), v6 in any::<bool>()) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let mut header = Header::empty(family, 14, Hook::INGRESS);
        header.end = u32::try_from(bytes.len()).unwrap();
        if parse_quote(&Frame { bytes }, &mut header) {
            prop_assert!(header.l4_offset + 8 <= header.end);
        }
    }

    #[test]
    fn every_truncation_is_malformed(cut in 0_usize..62) {
        let whole = Frame::new(Protocol::TCP, ("192.0.2.1", 4000), ("192.0.2.2", 80), b"12345678");
        let frame = Frame { bytes: whole.bytes[..cut].to_vec() };
        let parsed = parse(&frame, &mut Header::empty(Family::V4, 14, Hook::INGRESS));
        prop_assert_eq!(parsed, Parsed::Malformed);
    }
}

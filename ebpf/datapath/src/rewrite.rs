//! Giving a packet another tuple.

use skep_abi::{Address, FlowFlags, FlowValue, PortBe, Protocol};

use crate::checksum;
use crate::packet::{ChecksumUpdate, Family, Header, PacketMut, Unwritable};

/// Writes the tuple of `to` into the packet that `header` was parsed from, and takes one hop off when asked.
/// Checksums are updated by difference, so a checksum that was wrong stays wrong.
///
/// # Errors
/// [`Unwritable`]; the packet may be half written and must be dropped.
#[inline(never)]
pub fn rewrite<P: PacketMut>(
    packet: &mut P,
    header: &Header,
    to: &FlowValue,
    take_hop: bool,
) -> Result<(), Unwritable> {
    let addresses = rewrite_l3(packet, header, [&to.source, &to.destination], take_hop)?;
    if header.later_fragment {
        return Ok(());
    }
    rewrite_l4(packet, header, to, addresses)
}

/// Lets an ICMP error, whose header is `outer`, go the way of `to`, coming from `source`. What became of its quote
/// changes its checksum by `quoted`, see [`rewrite_quote`].
///
/// # Errors
/// As [`rewrite`].
#[inline(never)]
pub fn rewrite_error<P: PacketMut>(
    packet: &mut P,
    outer: &Header,
    source: &Address,
    to: &FlowValue,
    quoted: u32,
) -> Result<(), Unwritable> {
    let take_hop = to.flags.contains(FlowFlags::REDIRECT);
    let addresses = rewrite_l3(packet, outer, [source, &to.destination], take_hop)?;
    let offset = outer.l4_offset + 2;
    let ipv6 = outer.family == Family::V6;
    if ipv6 {
        packet.update_checksum(&ChecksumUpdate {
            offset,
            difference: addresses,
            pseudo_header: true,
            udp: false,
            ipv6,
        })?;
    }
    packet.update_checksum(&ChecksumUpdate {
        offset,
        difference: quoted,
        pseudo_header: false,
        udp: false,
        ipv6,
    })
}

/// Writes source and destination into the IP header and returns the difference that they make to an L4
/// checksum.
#[inline(always)]
fn rewrite_l3<P: PacketMut>(
    packet: &mut P,
    header: &Header,
    ends: [&Address; 2],
    take_hop: bool,
) -> Result<u32, Unwritable> {
    match header.family {
        Family::V4 => rewrite_v4(packet, header, ends, take_hop),
        Family::V6 => rewrite_v6(packet, header, ends, take_hop),
    }
}

#[inline(always)]
fn rewrite_v4<P: PacketMut>(
    packet: &mut P,
    header: &Header,
    [source, destination]: [&Address; 2],
    take_hop: bool,
) -> Result<u32, Unwritable> {
    let old = [header.tuple.source.ipv4_be(), header.tuple.destination.ipv4_be()];
    let new = [source.ipv4_be(), destination.ipv4_be()];
    let addresses = checksum::differences(old, new);
    let mut whole = addresses;
    if take_hop {
        let hops = |hop_limit: u8| u32::from_ne_bytes([hop_limit, header.tuple.protocol.0, 0, 0]);
        let left = header.hop_limit.wrapping_sub(1);
        whole = checksum::add(whole, checksum::difference(hops(header.hop_limit), hops(left)));
        packet.store(header.l3_offset + 8, &left)?;
    }
    packet.update_header_checksum(header.l3_offset + 10, whole)?;
    packet.store(header.l3_offset + 12, &new)?;
    Ok(addresses)
}

/// IPv6 has no header checksum.
#[inline(always)]
fn rewrite_v6<P: PacketMut>(
    packet: &mut P,
    header: &Header,
    [source, destination]: [&Address; 2],
    take_hop: bool,
) -> Result<u32, Unwritable> {
    if take_hop {
        packet.store(header.l3_offset + 7, &header.hop_limit.wrapping_sub(1))?;
    }
    let [source, destination] = [source.words_be(), destination.words_be()];
    packet.store(header.l3_offset + 8, &source)?;
    packet.store(header.l3_offset + 24, &destination)?;
    Ok(checksum::add(
        checksum::differences(header.tuple.source.words_be(), source),
        checksum::differences(header.tuple.destination.words_be(), destination),
    ))
}

/// Where a protocol's checksum lies in its header.
#[inline(always)]
const fn checksum_at(protocol: Protocol) -> u32 {
    match protocol {
        Protocol::TCP => 16,
        Protocol::UDP => 6,
        _ => 2,
    }
}

/// Rewrites ports (or the ICMP identifier) and the L4 checksum.
#[inline(always)]
fn rewrite_l4<P: PacketMut>(
    packet: &mut P,
    header: &Header,
    to: &FlowValue,
    addresses: u32,
) -> Result<(), Unwritable> {
    let ipv6 = header.family == Family::V6;
    let udp = header.tuple.protocol == Protocol::UDP;
    let offset = header.l4_offset + checksum_at(header.tuple.protocol);
    // ICMP for IPv4 is the only one whose checksum leaves the addresses out.
    if header.tuple.protocol != Protocol::ICMP {
        packet.update_checksum(&ChecksumUpdate {
            offset,
            difference: addresses,
            pseudo_header: true,
            udp,
            ipv6,
        })?;
    }
    let old = pair(header.tuple.source_port, header.tuple.destination_port);
    let new = pair(to.source_port, to.destination_port);
    if old == new {
        return Ok(());
    }
    packet.update_checksum(&ChecksumUpdate {
        offset,
        difference: checksum::difference(old, new),
        pseudo_header: false,
        udp,
        ipv6,
    })?;
    store_ports(packet, header, to.source_port, to.destination_port)
}

/// Writes ports, or the identifier of an ICMP echo.
#[inline(always)]
fn store_ports<P: PacketMut>(
    packet: &mut P,
    header: &Header,
    source: PortBe,
    destination: PortBe,
) -> Result<(), Unwritable> {
    if header.is_icmp() {
        // One of the two is the identifier, the other is zero.
        let identifier = source.to_be() | destination.to_be();
        return packet.store(header.l4_offset + 4, &identifier);
    }
    packet.store(header.l4_offset, &pair(source, destination))
}

/// Gives the packet that an ICMP error quotes the tuple of `to` reversed: then it is the packet that the receiver
/// of the error sent. `quote` is the quoted header, its tuple reversed. Leaves in `whole` the difference that all
/// of this makes to the error's checksum, changes of the quote's own checksums included.
///
/// # Errors
/// As [`rewrite`].
#[inline(never)]
pub fn rewrite_quote<P: PacketMut>(
    packet: &mut P,
    quote: &Header,
    to: &FlowValue,
    whole: &mut u32,
) -> Result<(), Unwritable> {
    let key = &quote.tuple;
    let addresses = checksum::add(
        checksum::differences(key.destination.words_be(), to.destination.words_be()),
        checksum::differences(key.source.words_be(), to.source.words_be()),
    );
    *whole = addresses;
    match quote.family {
        Family::V4 => {
            let change = renew(packet, quote.l3_offset + 10, addresses, false)?;
            *whole = checksum::add(*whole, change);
            packet.store(
                quote.l3_offset + 12,
                &[to.destination.ipv4_be(), to.source.ipv4_be()],
            )?;
        }
        Family::V6 => {
            packet.store(quote.l3_offset + 8, &to.destination.words_be())?;
            packet.store(quote.l3_offset + 24, &to.source.words_be())?;
        }
    }
    let ports = checksum::difference(
        pair(key.destination_port, key.source_port),
        pair(to.destination_port, to.source_port),
    );
    *whole = checksum::add(*whole, ports);
    let offset = quote.l4_offset + checksum_at(key.protocol);
    // Of TCP a quote may hold no more than ports and sequence number.
    if offset + 2 <= quote.end {
        let covered = if key.protocol == Protocol::ICMP {
            ports
        } else {
            checksum::add(addresses, ports)
        };
        let change = renew(packet, offset, covered, key.protocol == Protocol::UDP)?;
        *whole = checksum::add(*whole, change);
    }
    store_ports(packet, quote, to.destination_port, to.source_port)
}

/// Updates a checksum inside of a quote, which no hardware will touch, and returns the difference that its own
/// change makes.
#[inline(always)]
fn renew<P: PacketMut>(packet: &mut P, offset: u32, difference: u32, udp: bool) -> Result<u32, Unwritable> {
    let old = packet.load::<u16>(offset).ok_or(Unwritable)?;
    let new = checksum::update_field(old, difference, udp);
    packet.store(offset, &new)?;
    Ok(checksum::difference(u32::from(old), u32::from(new)))
}

/// Two ports as the first word of a header.
#[inline(always)]
fn pair(source: PortBe, destination: PortBe) -> u32 {
    let ([a, b], [c, d]) = (source.to_be().to_ne_bytes(), destination.to_be().to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fake::address;
    use crate::frame::Frame;

    fn protocols() -> impl Strategy<Value = Protocol> {
        prop_oneof![Just(Protocol::TCP), Just(Protocol::UDP), Just(Protocol::ICMP)]
    }

    proptest! {
        #[test]
        fn rewritten_packet_equals_one_built_anew(
            v6 in any::<bool>(),
            protocol in protocols(),
            take_hop in any::<bool>(),
            (from_port, to_port) in (1_u16.., 1_u16..),
            (new_from_port, new_to_port) in (1_u16.., 1_u16..),
            hosts in any::<[u8; 4]>(),
            payload in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let host = |n: u8| if v6 { format!("2001:db8::{n:x}") } else { format!("192.0.2.{n}") };
            let [from, to, new_from, new_to] = hosts.map(host);
            let icmp = protocol == Protocol::ICMP;
            let protocol = if icmp && v6 { Protocol::ICMPV6 } else { protocol };
            let (to_port, new_to_port) = if icmp { (0, 0) } else { (to_port, new_to_port) };
            let mut frame = Frame::new(protocol, (&from, from_port), (&to, to_port), &payload);
            let header = frame.header();
            let value = FlowValue {
                source: address(&new_from),
                destination: address(&new_to),
                source_port: PortBe::from_host(new_from_port),
                destination_port: PortBe::from_host(new_to_port),
                ..FlowValue::default()
            };
            rewrite(&mut frame, &header, &value, take_hop).unwrap();
            let mut expected =
                Frame::new(protocol, (&new_from, new_from_port), (&new_to, new_to_port), &payload);
            if take_hop {
                expected.set_hop_limit(63);
            }
            prop_assert!(frame.checksums_hold());
            frame.clear_checksums();
            expected.clear_checksums();
            prop_assert_eq!(frame.bytes, expected.bytes);
        }

        #[test]
        fn udp_without_checksum_stays_without(port in 1_u16..) {
            let mut frame = Frame::new(Protocol::UDP, ("192.0.2.1", port), ("192.0.2.2", 53), b"x");
            frame.clear_checksums();
            let header = frame.header();
            let value = FlowValue { source: address("192.0.2.9"), ..FlowValue::default() };
            rewrite(&mut frame, &header, &value, false).unwrap();
            prop_assert_eq!(&frame.bytes[14 + 20 + 6..14 + 20 + 8], &[0, 0]);
        }
    }
}

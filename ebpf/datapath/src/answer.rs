//! Packets that are answered from here, because the node itself cannot: it does not have the address they are sent
//! to, or they are sent on without its routing.
//!
//! The packet becomes its own answer and goes back by the routing table. Packets with IP options or extension
//! headers are not answered, nor are fragments but the first, nor what is an answer itself.

use skep_abi::{Address, Counter, Protocol, ReportBudget};

use crate::Verdict;
use crate::checksum;
use crate::ingress::node_address;
use crate::packet::{
    ChecksumUpdate, Family, Header, ICMP_HEADER, PacketMut, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, Unwritable,
};
use crate::tables::PacketWorld;

/// What the sender of a packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Silence,
    /// Nobody is there: RST or port unreachable.
    Refused,
    /// The way takes shorter packets only.
    TooBig,
    /// Its hops have run out.
    HopLimit,
}

/// Why a packet goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub counter: Counter,
    /// What its sender is told.
    pub answer: Answer,
    /// With [`Answer::TooBig`] the length that packets may have, IP header included; else 0. (Not in the variant: an
    /// eBPF verifier takes offence at the undefined bytes of the others.)
    pub mtu: u32,
}

impl Refusal {
    /// A refusal for this reason, told to the sender.
    #[inline(always)]
    pub const fn told(counter: Counter, answer: Answer) -> Self {
        Self {
            counter,
            answer,
            mtu: 0,
        }
    }
}

impl From<Counter> for Refusal {
    #[inline(always)]
    fn from(counter: Counter) -> Self {
        Self::told(counter, Answer::Silence)
    }
}

/// Length of an IP header without options.
const fn ip_header(family: Family) -> u32 {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// Hop limit of answers (RFC 1700).
const HOP_LIMIT: u8 = 64;
const TCP_HEADER: u32 = 20;

/// Answers a packet that goes no further, if it is to be answered. A function of its own for the sake of the eBPF
/// stack.
#[inline(never)]
pub fn answer<W: PacketWorld, P: PacketMut>(
    world: &W,
    packet: &mut P,
    header: &Header,
    refusal: &Refusal,
) -> Verdict {
    let plain = header.l4_offset == header.l3_offset + ip_header(header.family);
    if !plain || header.later_fragment || refusal.answer == Answer::Silence {
        return Verdict::Drop(refusal.counter);
    }
    let source = match (refusal.answer, world.config()) {
        (Answer::Refused, _) => &header.tuple.destination,
        (_, Some(config)) => node_address(config, &header.tuple.source),
        (_, None) => return Verdict::Drop(refusal.counter),
    };
    let written = if refusal.answer == Answer::Refused && header.tuple.protocol == Protocol::TCP {
        reset(packet, header, source)
    } else if source.is_unspecified() || !world.may_report() {
        Err(Unanswered)
    } else {
        report(packet, header, source, refusal)
    };
    // Last, because the way depends on the length.
    match (written, world.forward(source, &header.tuple.source)) {
        (Ok(()), Ok(())) => Verdict::Answered(told(refusal.answer, header.tuple.protocol)),
        _ => Verdict::Drop(refusal.counter),
    }
}

/// What an answer is counted as.
#[inline(always)]
fn told(answer: Answer, protocol: Protocol) -> Counter {
    match answer {
        Answer::TooBig => Counter::PacketTooBig,
        Answer::HopLimit => Counter::PacketHopLimit,
        _ if protocol == Protocol::TCP => Counter::PacketReset,
        _ => Counter::PacketUnreachable,
    }
}

/// A packet that cannot or must not be answered.
struct Unanswered;

impl From<Unwritable> for Unanswered {
    #[inline(always)]
    fn from(_: Unwritable) -> Self {
        Self
    }
}

/// Makes a TCP segment the RST that it deserves (RFC 9293, section 3.10.7.1).
#[inline(never)]
fn reset<P: PacketMut>(packet: &mut P, header: &Header, source: &Address) -> Result<(), Unanswered> {
    if header.tcp_flags & TCP_RST != 0 {
        return Err(Unanswered);
    }
    let Some(segment) = packet.load::<[u32; 4]>(header.l4_offset) else {
        return Err(Unanswered);
    };
    let [data_offset, ..] = segment[3].to_ne_bytes();
    let data = header.end - header.l4_offset - u32::from(data_offset >> 4) * 4;
    let counts = |flag: u8| u32::from(header.tcp_flags & flag != 0);
    let after = u32::from_be(segment[1])
        .wrapping_add(data)
        .wrapping_add(counts(TCP_SYN) + counts(TCP_FIN));
    let (sequence, acknowledged, flags) = if header.tcp_flags & TCP_ACK != 0 {
        (segment[2], 0, TCP_RST)
    } else {
        (0, after.to_be(), TCP_RST | TCP_ACK)
    };
    let [a, b, c, d] = segment[0].to_ne_bytes();
    let words = [
        u32::from_ne_bytes([c, d, a, b]),
        sequence,
        acknowledged,
        u32::from_ne_bytes([0x50, flags, 0, 0]),
    ];
    packet.resize(header.l4_offset + TCP_HEADER)?;
    write_ip(packet, header, source, TCP_HEADER, Protocol::TCP)?;
    packet.store(header.l4_offset, &words)?;
    // A checksum left to the hardware holds the sum of the pseudo header and covers the rest later. So that is what
    // is written first; the update then makes it the whole checksum, unless the hardware is to do so.
    let pseudo = pseudo_sum(header, source, TCP_HEADER, Protocol::TCP);
    let seed = checksum::fold(pseudo);
    packet.store(header.l4_offset + 16, &[seed, 0])?;
    let seed = u32::from(seed);
    let content = checksum::sum(&words);
    packet.update_checksum(&ChecksumUpdate {
        offset: header.l4_offset + 16,
        difference: checksum::add(checksum::add(seed, seed), content),
        pseudo_header: false,
        udp: false,
        ipv6: header.family == Family::V6,
    })?;
    Ok(())
}

/// Makes a packet the ICMP error about it.
#[inline(always)]
fn report<P: PacketMut>(
    packet: &mut P,
    header: &Header,
    source: &Address,
    refusal: &Refusal,
) -> Result<(), Unanswered> {
    let kinds = match refusal.answer {
        Answer::TooBig => [(3, 4), (2, 0)],
        Answer::HopLimit => [(11, 0), (3, 0)],
        _ => [(3, 3), (1, 4)],
    };
    let (kind, code) = match header.family {
        Family::V4 => kinds[0],
        Family::V6 => kinds[1],
    };
    let icmp = [u32::from_ne_bytes([kind, code, 0, 0]), refusal.mtu.to_be()];
    // The quote: the IP header and eight bytes, which hold the ports.
    match header.family {
        Family::V4 => write_report::<7, _>(packet, header, source, &icmp),
        Family::V6 => write_report::<12, _>(packet, header, source, &icmp),
    }
}

/// Writes an ICMP error that quotes the packet's first `N` words.
#[inline(never)]
fn write_report<const N: usize, P: PacketMut>(
    packet: &mut P,
    header: &Header,
    source: &Address,
    icmp: &[u32; 2],
) -> Result<(), Unanswered> {
    let Some(quote) = packet.load::<[u32; N]>(header.l3_offset) else {
        return Err(Unanswered);
    };
    #[expect(clippy::cast_possible_truncation, reason = "a dozen words")]
    let length = ICMP_HEADER + 4 * N as u32;
    packet.resize(header.l4_offset + length)?;
    let protocol = match header.family {
        Family::V4 => Protocol::ICMP,
        Family::V6 => Protocol::ICMPV6,
    };
    write_ip(packet, header, source, length, protocol)?;
    let pseudo = match header.family {
        Family::V4 => 0,
        Family::V6 => pseudo_sum(header, source, length, protocol),
    };
    let sum = checksum::add(pseudo, checksum::add(checksum::sum(icmp), checksum::sum(&quote)));
    packet.store(header.l4_offset, icmp)?;
    packet.store(header.l4_offset + 2, &!checksum::fold(sum))?;
    packet.store(header.l4_offset + ICMP_HEADER, &quote)?;
    Ok(())
}

/// Writes the IP header of an answer from `source` to the packet's sender.
#[inline(always)]
fn write_ip<P: PacketMut>(
    packet: &mut P,
    header: &Header,
    source: &Address,
    length: u32,
    protocol: Protocol,
) -> Result<(), Unwritable> {
    let destination = &header.tuple.source;
    match header.family {
        Family::V4 => {
            let [_, _, a, b] = (length + 20).to_be_bytes();
            let mut ip = [
                u32::from_ne_bytes([0x45, 0, a, b]),
                0,
                u32::from_ne_bytes([HOP_LIMIT, protocol.0, 0, 0]),
                source.ipv4_be(),
                destination.ipv4_be(),
            ];
            let [a, b] = (!checksum::fold(checksum::sum(&ip))).to_ne_bytes();
            ip[2] = u32::from_ne_bytes([HOP_LIMIT, protocol.0, a, b]);
            packet.store(header.l3_offset, &ip)
        }
        Family::V6 => {
            let [_, _, a, b] = length.to_be_bytes();
            let start = [
                u32::from_ne_bytes([0x60, 0, 0, 0]),
                u32::from_ne_bytes([a, b, protocol.0, HOP_LIMIT]),
            ];
            packet.store(header.l3_offset, &start)?;
            packet.store(header.l3_offset + 8, &source.words_be())?;
            packet.store(header.l3_offset + 24, &destination.words_be())
        }
    }
}

/// The sum of the pseudo header of an answer. The prefix 0xffff that IPv4 addresses are held with adds nothing.
#[inline(always)]
fn pseudo_sum(header: &Header, source: &Address, length: u32, protocol: Protocol) -> u32 {
    let [_, _, a, b] = length.to_be_bytes();
    let start = u32::from_ne_bytes([0, protocol.0, a, b]);
    let ends = checksum::add(
        checksum::sum(&source.words_be()),
        checksum::sum(&header.tuple.source.words_be()),
    );
    checksum::add(start, ends)
}

/// ICMP errors that the programs may send in a second, as many as Linux sends (net.ipv4.icmp_msgs_per_sec).
pub const REPORTS_PER_SECOND: u32 = 1_000;

/// Takes one of this second's ICMP errors from the budget, if one is left: who sends them must limit them (RFC 1812,
/// section 4.3.2.8; RFC 4443, section 2.4).
#[inline(always)]
pub fn take(budget: &mut ReportBudget, now_s: u32) -> bool {
    if budget.second_s != now_s {
        *budget = ReportBudget {
            second_s: now_s,
            sent: 0,
        };
    }
    if budget.sent >= REPORTS_PER_SECOND {
        return false;
    }
    budget.sent += 1;
    true
}

#[cfg(test)]
mod tests;

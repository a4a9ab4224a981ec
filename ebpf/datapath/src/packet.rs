//! Reading a packet's addresses and ports, with every bound checked.

use skep_abi::{Address, FlowKey, Hook, Plain, PortBe, Protocol};

/// Bytes that can be read at an offset. In the kernel an skb, on the host a slice.
pub trait Bytes {
    /// The bytes at `offset` as they lie in the packet; `None` beyond the end. Arrays of words rather than of
    /// bytes let the eBPF compiler handle four at a time.
    fn load<T: Plain>(&self, offset: u32) -> Option<T>;

    /// How many bytes there are, whatever the headers say.
    fn length(&self) -> u32;
}

/// How an L4 checksum field is to be updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumUpdate {
    /// Where the field lies.
    pub offset: u32,
    /// Difference of the sum, see [`crate::checksum::difference`].
    pub difference: u32,
    /// Whether what changed belongs to the pseudo header (the only part that a checksum left to the
    /// hardware covers yet).
    pub pseudo_header: bool,
    /// UDP: zero means "no checksum" and stays, and a sum that comes out as zero is written as 0xffff.
    pub udp: bool,
    /// IPv6, which has no header checksum of its own that would even the change out.
    pub ipv6: bool,
}

/// The packet could not be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritable;

/// A packet that can be rewritten.
pub trait PacketMut: Bytes {
    /// Writes bytes without touching any checksum.
    ///
    /// # Errors
    /// [`Unwritable`] beyond the end, or when memory is short.
    fn store<T: Plain>(&mut self, offset: u32, value: &T) -> Result<(), Unwritable>;

    /// Cuts the packet off at `length`, or lengthens it by bytes that are to be written.
    ///
    /// # Errors
    /// [`Unwritable`] when that is impossible or memory is short.
    fn resize(&mut self, length: u32) -> Result<(), Unwritable>;

    /// Adds `difference` to the IPv4 header checksum at `offset`.
    ///
    /// # Errors
    /// As [`PacketMut::store`].
    fn update_header_checksum(&mut self, offset: u32, difference: u32) -> Result<(), Unwritable>;

    /// Updates an L4 checksum.
    ///
    /// # Errors
    /// As [`PacketMut::store`].
    fn update_checksum(&mut self, update: &ChecksumUpdate) -> Result<(), Unwritable>;
}

/// The network protocol of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// TCP's FIN flag.
pub const TCP_FIN: u8 = 1;
/// TCP's SYN flag.
pub const TCP_SYN: u8 = 2;
/// TCP's RST flag.
pub const TCP_RST: u8 = 4;
/// TCP's ACK flag.
pub const TCP_ACK: u8 = 16;

const ICMP_ECHO_REPLY: u8 = 0;
const ICMP_ECHO_REQUEST: u8 = 8;
const ICMPV6_ECHO_REQUEST: u8 = 128;
const ICMPV6_ECHO_REPLY: u8 = 129;

const ICMP_UNREACHABLE: u8 = 3;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETER_PROBLEM: u8 = 12;
const ICMPV6_UNREACHABLE: u8 = 1;
const ICMPV6_TOO_BIG: u8 = 2;
const ICMPV6_TIME_EXCEEDED: u8 = 3;
const ICMPV6_PARAMETER_PROBLEM: u8 = 4;

/// Length of an ICMP header, after which an error quotes the packet that it is about.
pub(crate) const ICMP_HEADER: u32 = 8;

/// IPv6 extension headers followed before giving up.
const MAX_EXTENSION_HEADERS: u32 = 4;

/// What the dataplane needs of a packet's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Addresses, ports and protocol (TCP, UDP or ICMP echo), as the key of the packet's flow. An ICMP echo
    /// request has its identifier as source port, a reply as destination port; the other one is 0.
    pub tuple: FlowKey,
    /// Network protocol.
    pub family: Family,
    /// TCP's flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// Hops left, this one included.
    pub hop_limit: u8,
    /// A fragment other than the first: there is no L4 header.
    pub later_fragment: bool,
    /// Where the IP header starts.
    pub l3_offset: u32,
    /// Where the TCP, UDP or ICMP header starts.
    pub l4_offset: u32,
    /// Where the packet ends by its own account; what follows is padding.
    pub end: u32,
    /// Of a fragment: which packet it is part of, as it lies there.
    pub identification: u32,
}

/// What a packet turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// TCP, UDP or ICMP echo: the header is filled in.
    Known,
    /// An ICMP error about another packet, which it quotes after its own header. The header is filled in but
    /// for the ports.
    Error,
    /// Another protocol: none of our business.
    Foreign,
    /// As `Known`, and the first fragment of a packet.
    FirstFragment,
    /// A fragment other than the first: the header is filled in as far as that is possible without ports and,
    /// for IPv6, protocol.
    LaterFragment,
    /// The headers contradict themselves or end early.
    Malformed,
}

impl Header {
    /// A header to be filled in by [`parse`].
    #[inline(always)]
    pub const fn empty(family: Family, l3_offset: u32, hook: Hook) -> Self {
        let tuple = FlowKey {
            source: Address::UNSPECIFIED,
            destination: Address::UNSPECIFIED,
            source_port: PortBe::from_be(0),
            destination_port: PortBe::from_be(0),
            protocol: Protocol(0),
            hook,
            reserved: 0,
        };
        Self {
            tuple,
            family,
            tcp_flags: 0,
            hop_limit: 0,
            later_fragment: false,
            l3_offset,
            l4_offset: 0,
            end: 0,
            identification: 0,
        }
    }

    /// Whether this packet opens a TCP connection.
    #[inline(always)]
    pub fn is_tcp_opening(&self) -> bool {
        self.tuple.protocol == Protocol::TCP && self.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN
    }

    /// Whether this is an ICMP echo request or reply of either family.
    #[inline(always)]
    pub fn is_icmp(&self) -> bool {
        self.tuple.protocol == Protocol::ICMP || self.tuple.protocol == Protocol::ICMPV6
    }
}

/// Parses the packet whose IP header starts at `header.l3_offset`. The header is filled in place, and this is
/// a function of its own, because the eBPF stack has room for neither a copy nor the buffers besides.
#[inline(never)]
pub fn parse<B: Bytes>(bytes: &B, header: &mut Header) -> Parsed {
    match header.family {
        Family::V4 => parse_v4(bytes, header),
        Family::V6 => parse_v6(bytes, header),
    }
}

#[inline(always)]
fn parse_v4<B: Bytes>(bytes: &B, header: &mut Header) -> Parsed {
    let Some(ip) = bytes.load::<[u32; 5]>(header.l3_offset) else {
        return Parsed::Malformed;
    };
    let [version_and_length, _, length @ ..] = ip[0].to_ne_bytes();
    let header_length = u32::from(version_and_length & 0x0f) * 4;
    if version_and_length >> 4 != 4 || header_length < 20 {
        return Parsed::Malformed;
    }
    header.tuple.source = Address::from_ipv4_be(ip[3]);
    header.tuple.destination = Address::from_ipv4_be(ip[4]);
    let Some(end) = end_of(bytes, header.l3_offset, 0, u16::from_be_bytes(length)) else {
        return Parsed::Malformed;
    };
    header.end = end;
    let [hop_limit, protocol, ..] = ip[2].to_ne_bytes();
    header.l4_offset = header.l3_offset + header_length;
    header.hop_limit = hop_limit;
    header.tuple.protocol = Protocol(protocol);
    header.identification = ip[1] & u32::from_ne_bytes([0xff, 0xff, 0, 0]);
    if ip[1] & u32::from_ne_bytes([0, 0, 0x1f, 0xff]) != 0 {
        header.later_fragment = true;
        return Parsed::LaterFragment;
    }
    let more = ip[1] & u32::from_ne_bytes([0, 0, 0x20, 0]) != 0;
    parse_l4(bytes, header, more)
}

#[inline(always)]
fn parse_v6<B: Bytes>(bytes: &B, header: &mut Header) -> Parsed {
    let Some(ip) = bytes.load::<[u32; 10]>(header.l3_offset) else {
        return Parsed::Malformed;
    };
    let [version, ..] = ip[0].to_ne_bytes();
    let [length @ .., next_header, hop_limit] = ip[1].to_ne_bytes();
    if version >> 4 != 6 {
        return Parsed::Malformed;
    }
    header.hop_limit = hop_limit;
    header.tuple.source = Address::from_words_be([ip[2], ip[3], ip[4], ip[5]]);
    header.tuple.destination = Address::from_words_be([ip[6], ip[7], ip[8], ip[9]]);
    // An IPv4 address in an IPv6 header would be taken for that of an IPv4 packet (RFC 4942, section 2.2).
    if header.tuple.source.is_ipv4() || header.tuple.destination.is_ipv4() {
        return Parsed::Malformed;
    }
    let Some(end) = end_of(bytes, header.l3_offset, 40, u16::from_be_bytes(length)) else {
        return Parsed::Malformed;
    };
    header.end = end;
    match skip_extensions(bytes, header, next_header) {
        Ok(more) => parse_l4(bytes, header, more),
        Err(parsed) => parsed,
    }
}

/// Where the packet ends by its own account: what follows is padding. `None` when it claims more than there
/// is. A claim of 0 is that of a segment too large for the field (BIG TCP), which only devices of this machine
/// hand over.
#[inline(always)]
fn end_of<B: Bytes>(bytes: &B, l3_offset: u32, fixed: u32, claimed: u16) -> Option<u32> {
    let there = bytes.length().saturating_sub(l3_offset);
    let length = if claimed == 0 && there > 0xffff {
        there
    } else {
        fixed + u32::from(claimed)
    };
    if length <= there {
        Some(l3_offset + length)
    } else {
        None
    }
}

/// Follows hop-by-hop, routing, fragment and destination options headers (RFC 8200, section 4) to the L4 header,
/// whose place and protocol it fills in. Says whether more fragments follow.
#[inline(always)]
fn skip_extensions<B: Bytes>(bytes: &B, header: &mut Header, first: u8) -> Result<bool, Parsed> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let (mut next, mut offset, mut more) = (first, header.l3_offset + 40, false);
    for _ in 0..=MAX_EXTENSION_HEADERS {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let Some(extension) = bytes.load::<u16>(offset) else {
                    return Err(Parsed::Malformed);
                };
                let [following, length] = extension.to_ne_bytes();
                next = following;
                offset += (u32::from(length) + 1) * 8;
            }
            FRAGMENT => {
                let Some(fragment) = bytes.load::<[u32; 2]>(offset) else {
                    return Err(Parsed::Malformed);
                };
                let [following, ..] = fragment[0].to_ne_bytes();
                header.identification = fragment[1];
                if fragment[0] & u32::from_ne_bytes([0, 0, 0xff, 0xf8]) != 0 {
                    header.later_fragment = true;
                    return Err(Parsed::LaterFragment);
                }
                more = fragment[0] & u32::from_ne_bytes([0, 0, 0, 1]) != 0;
                next = following;
                offset += 8;
            }
            _ => {
                header.tuple.protocol = Protocol(next);
                header.l4_offset = offset;
                return Ok(more);
            }
        }
    }
    Err(Parsed::Foreign)
}

/// Of a packet of which more fragments follow only the first is looked at, and an error is none of our business.
#[inline(always)]
fn parse_l4<B: Bytes>(bytes: &B, header: &mut Header, more: bool) -> Parsed {
    let length = header.end.saturating_sub(header.l4_offset);
    match (header.tuple.protocol, header.family) {
        (Protocol::TCP, _) => {
            let Some(tcp) = bytes.load::<[u32; 5]>(header.l4_offset) else {
                return Parsed::Malformed;
            };
            set_ports(header, tcp[0]);
            let [data_offset, flags, ..] = tcp[3].to_ne_bytes();
            let header_length = u32::from(data_offset >> 4) * 4;
            if header_length < 20 || header_length > length || opens_and_ends(flags) {
                return Parsed::Malformed;
            }
            header.tcp_flags = flags;
        }
        (Protocol::UDP, _) => {
            let Some(udp) = bytes.load::<[u32; 2]>(header.l4_offset) else {
                return Parsed::Malformed;
            };
            set_ports(header, udp[0]);
            let [a, b, ..] = udp[1].to_ne_bytes();
            let claimed = u32::from(u16::from_be_bytes([a, b]));
            if claimed < 8 || (claimed > length && !more) {
                return Parsed::Malformed;
            }
        }
        (Protocol::ICMP, Family::V4) | (Protocol::ICMPV6, Family::V6) => {
            let Some(icmp) = bytes.load::<[u32; 2]>(header.l4_offset) else {
                return Parsed::Malformed;
            };
            if length < 8 {
                return Parsed::Malformed;
            }
            let [kind, ..] = icmp[0].to_ne_bytes();
            if is_error(header.family, kind) && !more {
                return Parsed::Error;
            }
            if !set_identifier(header, icmp) {
                return Parsed::Foreign;
            }
        }
        _ => return Parsed::Foreign,
    }
    if more {
        Parsed::FirstFragment
    } else {
        Parsed::Known
    }
}

/// Whether a segment opens and ends a connection at once, which no TCP sends.
#[inline(always)]
const fn opens_and_ends(flags: u8) -> bool {
    flags & TCP_SYN != 0 && flags & (TCP_FIN | TCP_RST) != 0
}

/// Whether an ICMP type is an error about a packet: unreachable, too big, time exceeded, parameter problem.
/// Redirects are for the node itself.
#[inline(always)]
const fn is_error(family: Family, kind: u8) -> bool {
    match family {
        Family::V4 => matches!(
            kind,
            ICMP_UNREACHABLE | ICMP_TIME_EXCEEDED | ICMP_PARAMETER_PROBLEM
        ),
        Family::V6 => matches!(
            kind,
            ICMPV6_UNREACHABLE | ICMPV6_TOO_BIG | ICMPV6_TIME_EXCEEDED | ICMPV6_PARAMETER_PROBLEM
        ),
    }
}

/// Takes the identifier of an ICMP echo; false when it is none.
#[inline(always)]
fn set_identifier(header: &mut Header, icmp: [u32; 2]) -> bool {
    let [kind, ..] = icmp[0].to_ne_bytes();
    let [a, b, ..] = icmp[1].to_ne_bytes();
    let identifier = PortBe::from_be(u16::from_ne_bytes([a, b]));
    match (header.family, kind) {
        (Family::V4, ICMP_ECHO_REQUEST) | (Family::V6, ICMPV6_ECHO_REQUEST) => {
            header.tuple.source_port = identifier;
        }
        (Family::V4, ICMP_ECHO_REPLY) | (Family::V6, ICMPV6_ECHO_REPLY) => {
            header.tuple.destination_port = identifier;
        }
        _ => return false,
    }
    true
}

/// Parses the packet that an ICMP error quotes from `header.l3_offset` up to `header.end`. The quote may be cut
/// short and its lengths are those of the whole packet; false when it does not reach to the ports.
#[inline(never)]
pub fn parse_quote<B: Bytes>(bytes: &B, header: &mut Header) -> bool {
    let found = match header.family {
        Family::V4 => find_quoted_l4_v4(bytes, header),
        Family::V6 => find_quoted_l4_v6(bytes, header),
    };
    if !found || header.l4_offset + 8 > header.end {
        return false;
    }
    let Some(l4) = bytes.load::<[u32; 2]>(header.l4_offset) else {
        return false;
    };
    match (header.tuple.protocol, header.family) {
        (Protocol::TCP | Protocol::UDP, _) => set_ports(header, l4[0]),
        (Protocol::ICMP, Family::V4) | (Protocol::ICMPV6, Family::V6) => return set_identifier(header, l4),
        _ => return false,
    }
    true
}

#[inline(always)]
fn find_quoted_l4_v4<B: Bytes>(bytes: &B, header: &mut Header) -> bool {
    let Some(ip) = bytes.load::<[u32; 5]>(header.l3_offset) else {
        return false;
    };
    let [version_and_length, ..] = ip[0].to_ne_bytes();
    let header_length = u32::from(version_and_length & 0x0f) * 4;
    // A fragment other than the first has no ports.
    let offset = ip[1] & u32::from_ne_bytes([0, 0, 0x1f, 0xff]);
    if version_and_length >> 4 != 4 || header_length < 20 || offset != 0 {
        return false;
    }
    let [_, protocol, ..] = ip[2].to_ne_bytes();
    header.tuple.protocol = Protocol(protocol);
    header.tuple.source = Address::from_ipv4_be(ip[3]);
    header.tuple.destination = Address::from_ipv4_be(ip[4]);
    header.l4_offset = header.l3_offset + header_length;
    true
}

#[inline(always)]
fn find_quoted_l4_v6<B: Bytes>(bytes: &B, header: &mut Header) -> bool {
    let Some(ip) = bytes.load::<[u32; 10]>(header.l3_offset) else {
        return false;
    };
    let [version, ..] = ip[0].to_ne_bytes();
    let [_, _, next_header, _] = ip[1].to_ne_bytes();
    header.tuple.source = Address::from_words_be([ip[2], ip[3], ip[4], ip[5]]);
    header.tuple.destination = Address::from_words_be([ip[6], ip[7], ip[8], ip[9]]);
    if version >> 4 != 6 || header.tuple.source.is_ipv4() || header.tuple.destination.is_ipv4() {
        return false;
    }
    skip_extensions(bytes, header, next_header).is_ok()
}

/// Takes both ports from the first word of a TCP or UDP header.
#[inline(always)]
fn set_ports(header: &mut Header, word: u32) {
    let [a, b, c, d] = word.to_ne_bytes();
    header.tuple.source_port = PortBe::from_be(u16::from_ne_bytes([a, b]));
    header.tuple.destination_port = PortBe::from_be(u16::from_ne_bytes([c, d]));
}

#[cfg(test)]
mod tests;

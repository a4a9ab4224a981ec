//! Addresses, ports and protocols in the form every map uses.

use core::cmp::Ordering;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::plain::{Plain, Scribe};

/// Third word of a v4-mapped IPv6 address (`::ffff:0:0/96`), in memory order.
const MAPPED_PREFIX: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// An IPv6 address in network byte order; IPv4 is held v4-mapped (`::ffff:a.b.c.d`).
///
/// Kept as four words because eBPF code compares and copies words, not bytes.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Address {
    words_be: [u32; 4],
}

const _: () = assert!(size_of::<Address>() == 16, "size changed");

// SAFETY: repr(C) over an array of integers.
unsafe impl Plain for Address {
    const LAYOUT: u64 = <[u32; 4]>::LAYOUT;

    fn describe(&self, scribe: &mut dyn Scribe) {
        scribe.text(self);
    }
}

impl Address {
    /// `::`, which never is a valid endpoint.
    pub const UNSPECIFIED: Self = Self { words_be: [0; 4] };

    /// From four words as they lie in a packet or a socket context (each in network byte order).
    #[inline(always)]
    pub const fn from_words_be(words_be: [u32; 4]) -> Self {
        Self { words_be }
    }

    /// From an IPv4 address word as it lies in a packet (network byte order).
    #[inline(always)]
    pub const fn from_ipv4_be(word_be: u32) -> Self {
        Self {
            words_be: [0, 0, MAPPED_PREFIX, word_be],
        }
    }

    /// The words as they lie in a packet.
    #[inline(always)]
    pub const fn words_be(&self) -> [u32; 4] {
        self.words_be
    }

    /// The IPv4 word as it lies in a packet; meaningful only if [`Address::is_ipv4`].
    #[inline(always)]
    pub const fn ipv4_be(&self) -> u32 {
        self.words_be[3]
    }

    /// Whether this is a v4-mapped address.
    #[inline(always)]
    pub const fn is_ipv4(&self) -> bool {
        self.words_be[0] == 0 && self.words_be[1] == 0 && self.words_be[2] == MAPPED_PREFIX
    }

    /// Whether this is 127.0.0.0/8 or ::1.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_ipv4() {
            return self.words_be[3] & u32::from_ne_bytes([0xff, 0, 0, 0])
                == u32::from_ne_bytes([127, 0, 0, 0]);
        }
        self.words_be[0] == 0
            && self.words_be[1] == 0
            && self.words_be[2] == 0
            && self.words_be[3] == u32::from_ne_bytes([0, 0, 0, 1])
    }

    /// Whether this is 224.0.0.0/4 or ff00::/8.
    #[inline(always)]
    pub const fn is_multicast(&self) -> bool {
        let [first_of_v4, ..] = self.words_be[3].to_ne_bytes();
        let [first, ..] = self.words_be[0].to_ne_bytes();
        if self.is_ipv4() {
            first_of_v4 & 0xf0 == 0xe0
        } else {
            first == 0xff
        }
    }

    /// Whether a wire may lead to this address: it is not loopback, multicast, `::` or `0.0.0.0`.
    #[inline(always)]
    pub const fn is_on_wire(&self) -> bool {
        let nothing = self.is_unspecified() || self.is_ipv4() && self.words_be[3] == 0;
        !(nothing || self.is_loopback() || self.is_multicast())
    }

    /// Whether this is `::`, that is: absent.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        self.words_be[0] == 0 && self.words_be[1] == 0 && self.words_be[2] == 0 && self.words_be[3] == 0
    }

    /// The sixteen bytes in network byte order.
    pub fn octets(&self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (chunk, word) in octets.chunks_exact_mut(4).zip(self.words_be) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        octets
    }

    /// From sixteen bytes in network byte order.
    #[inline(always)]
    pub const fn from_octets(o: [u8; 16]) -> Self {
        Self {
            words_be: [
                u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
                u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
                u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
                u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
            ],
        }
    }

    /// As the standard type; v4-mapped becomes IPv4.
    pub fn to_ip(&self) -> IpAddr {
        Ipv6Addr::from(self.octets()).to_canonical()
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_octets(address.to_ipv6_mapped().octets())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl Ord for Address {
    fn cmp(&self, other: &Self) -> Ordering {
        self.octets().cmp(&other.octets())
    }
}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

/// A port in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PortBe(u16);

// SAFETY: transparent over an integer.
unsafe impl Plain for PortBe {
    fn describe(&self, scribe: &mut dyn Scribe) {
        scribe.number(self.to_host().into());
    }
}

impl PortBe {
    /// From host byte order.
    #[inline(always)]
    pub const fn from_host(port: u16) -> Self {
        Self(port.to_be())
    }

    /// From the value as it lies in a packet.
    #[inline(always)]
    pub const fn from_be(port_be: u16) -> Self {
        Self(port_be)
    }

    /// In host byte order.
    #[inline(always)]
    pub const fn to_host(self) -> u16 {
        u16::from_be(self.0)
    }

    /// As it lies in a packet.
    #[inline(always)]
    pub const fn to_be(self) -> u16 {
        self.0
    }
}

impl Ord for PortBe {
    fn cmp(&self, other: &Self) -> Ordering {
        self.to_host().cmp(&other.to_host())
    }
}

impl PartialOrd for PortBe {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for PortBe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_host().fmt(f)
    }
}

impl fmt::Debug for PortBe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_host().fmt(f)
    }
}

/// An IP protocol number.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

// SAFETY: transparent over an integer.
unsafe impl Plain for Protocol {
    fn describe(&self, scribe: &mut dyn Scribe) {
        scribe.text(self);
    }
}

impl Protocol {
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// SCTP.
    pub const SCTP: Self = Self(132);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TCP => f.write_str("TCP"),
            Self::UDP => f.write_str("UDP"),
            Self::SCTP => f.write_str("SCTP"),
            Self::ICMP => f.write_str("ICMP"),
            Self::ICMPV6 => f.write_str("ICMPv6"),
            Self(number) => write!(f, "protocol {number}"),
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

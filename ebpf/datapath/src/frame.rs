//! Ethernet frames with right checksums, for tests of this crate and of whoever runs the programs (feature
//! `frames`).
#![expect(
    clippy::unwrap_used,
    reason = "a test that builds a wrong frame is to fail where it does"
)]

use std::net::{IpAddr, SocketAddr};

use skep_abi::{Address, Hook, Plain, PortBe, Protocol};

use crate::checksum;
use crate::packet::{self, Bytes, ChecksumUpdate, Family, Header, PacketMut, Parsed, Unwritable};

/// The Internet checksum of the parts, as it lies in memory. Odd parts may only come last.
pub fn checksum_of(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        let word = u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        sum = checksum::add(sum, u32::from(word));
    }
    !checksum::fold(sum)
}

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The whole frame.
    pub bytes: Vec<u8>,
}

const L3: usize = 14;

impl Frame {
    /// A whole frame with right checksums and hop limit 64; TCP with SYN, ICMP as echo request (the first
    /// port is its identifier).
    pub fn new(protocol: Protocol, from: (&str, u16), to: (&str, u16), payload: &[u8]) -> Self {
        Self::with_flags(protocol, from, to, payload, packet::TCP_SYN)
    }

    /// As [`Frame::new`] with these TCP flags.
    pub fn with_flags(
        protocol: Protocol,
        from: (&str, u16),
        to: (&str, u16),
        payload: &[u8],
        tcp_flags: u8,
    ) -> Self {
        let mut l4 = l4_header(protocol, from.1, to.1, payload.len(), tcp_flags);
        l4.extend_from_slice(payload);
        Self::with_l4(protocol, from.0, to.0, &l4)
    }

    /// An ICMP error of this type and code from `from` to `to` that quotes the first `length` bytes of a packet.
    pub fn error((kind, code): (u8, u8), from: &str, to: &str, about: &Self, length: usize) -> Self {
        let protocol = match about.family() {
            Family::V4 => Protocol::ICMP,
            Family::V6 => Protocol::ICMPV6,
        };
        let mut l4 = vec![kind, code, 0, 0, 0, 0, 0, 0];
        let end = about.end().min(about.bytes.len()).min(L3 + length);
        l4.extend_from_slice(&about.bytes[L3..end.max(L3)]);
        Self::with_l4(protocol, from, to, &l4)
    }

    /// The packet that an ICMP error quotes, as a frame of its own (cut short, if the quote is).
    pub fn quoted(&self) -> Self {
        let at = self.known_l4().l4_offset as usize + 8;
        Self {
            bytes: [&self.bytes[..L3], &self.bytes[at..self.end()]].concat(),
        }
    }

    /// An IP header before this content, which has a checksum to be filled in.
    fn with_l4(protocol: Protocol, from: &str, to: &str, l4: &[u8]) -> Self {
        let (source, destination) = (from.parse().unwrap(), to.parse().unwrap());
        let mut bytes = vec![0; 12];
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes.extend([0x08, 0x00, 0x45, 0]);
                bytes.extend(u16::try_from(20 + l4.len()).unwrap().to_be_bytes());
                bytes.extend([0, 0, 0, 0, 64, protocol.0, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                bytes.extend(u16::try_from(l4.len()).unwrap().to_be_bytes());
                bytes.extend([protocol.0, 64]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
            }
            _ => panic!("families differ"),
        }
        bytes.extend(l4);
        let mut frame = Self { bytes };
        frame.set_checksums();
        frame
    }

    /// The network protocol by the Ethernet type.
    pub fn family(&self) -> Family {
        if self.bytes[12] == 8 {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// What the dataplane takes it for.
    pub fn parse(&self) -> Parsed {
        packet::parse(self, &mut Header::empty(self.family(), 14, Hook::INGRESS))
    }

    /// The header, which must be one that the dataplane knows.
    pub fn header(&self) -> Header {
        let mut header = Header::empty(self.family(), 14, Hook::INGRESS);
        assert_eq!(packet::parse(self, &mut header), Parsed::Known);
        header
    }

    /// The header of a packet whose L4 header is known, be it that of an ICMP error.
    pub(crate) fn known_l4(&self) -> Header {
        let mut header = Header::empty(self.family(), 14, Hook::INGRESS);
        let parsed = packet::parse(self, &mut header);
        assert!(matches!(parsed, Parsed::Known | Parsed::Error), "{parsed:?}");
        header
    }

    /// Source address and port.
    pub fn source(&self) -> (String, u16) {
        let tuple = self.header().tuple;
        (tuple.source.to_string(), tuple.source_port.to_host())
    }

    /// Destination address and port.
    pub fn destination(&self) -> (String, u16) {
        let tuple = self.header().tuple;
        (tuple.destination.to_string(), tuple.destination_port.to_host())
    }

    /// `source:port > destination:port`.
    pub fn tuple(&self) -> String {
        let tuple = self.header().tuple;
        let end = |address: Address, port: PortBe| SocketAddr::new(address.to_ip(), port.to_host());
        let (from, to) = (
            end(tuple.source, tuple.source_port),
            end(tuple.destination, tuple.destination_port),
        );
        format!("{from} > {to}")
    }

    /// Puts an 8-byte IPv6 extension header of type `kind` first.
    pub fn insert_extension(&mut self, kind: u8) {
        let next = std::mem::replace(&mut self.bytes[L3 + 6], kind);
        let at = L3 + 40;
        self.bytes.splice(at..at, [next, 0, 0, 0, 0, 0, 0, 0]);
        let length: [u8; 2] = self.bytes[L3 + 4..L3 + 6].try_into().unwrap();
        let length = u16::from_be_bytes(length) + 8;
        self.bytes[L3 + 4..L3 + 6].copy_from_slice(&length.to_be_bytes());
    }

    /// Puts options of these bytes, a multiple of four, at the end of the IPv4 header.
    pub fn insert_options(&mut self, options: &[u8]) {
        let at = L3 + 20;
        self.bytes.splice(at..at, options.iter().copied());
        self.bytes[L3] += u8::try_from(options.len() / 4).unwrap();
        let length = u16::try_from(self.bytes.len() - L3).unwrap();
        self.bytes[L3 + 2..L3 + 4].copy_from_slice(&length.to_be_bytes());
        self.set_checksums();
    }

    /// Makes an ICMP echo request a reply.
    pub fn set_echo_reply(&mut self) {
        let at = self.known_l4().l4_offset as usize;
        self.bytes[at] = if self.family() == Family::V4 { 0 } else { 129 };
        self.set_checksums();
    }

    /// Gives a TCP segment these numbers, and no window.
    pub fn set_tcp_answer(&mut self, sequence: u32, acknowledged: u32) {
        let at = self.known_l4().l4_offset as usize;
        self.bytes[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
        self.bytes[at + 8..at + 12].copy_from_slice(&acknowledged.to_be_bytes());
        self.bytes[at + 14..at + 16].fill(0);
        self.set_checksums();
    }

    /// Writes the MTU that an ICMP error "too big" reports.
    pub fn set_mtu(&mut self, mtu: u16) {
        let at = self.known_l4().l4_offset as usize + 6;
        self.bytes[at..at + 2].copy_from_slice(&mtu.to_be_bytes());
        self.set_checksums();
    }

    /// The fragment of this packet that holds these bytes of its L4 content (in multiples of eight but at the
    /// end), without extension headers and options.
    pub fn fragment(&self, identification: u16, range: core::ops::Range<usize>) -> Self {
        let at = self.known_l4().l4_offset as usize;
        let (end, start) = (self.end().min(at + range.end), at + range.start);
        let more = u16::from(end < self.end());
        let part = &self.bytes[start..end];
        let offset = u16::try_from(range.start).unwrap();
        let mut bytes = self.bytes[..at].to_vec();
        match self.family() {
            Family::V4 => {
                bytes[L3 + 2..L3 + 4].copy_from_slice(&u16::try_from(20 + part.len()).unwrap().to_be_bytes());
                bytes[L3 + 4..L3 + 6].copy_from_slice(&identification.to_be_bytes());
                bytes[L3 + 6..L3 + 8].copy_from_slice(&(more << 13 | offset >> 3).to_be_bytes());
                bytes[L3 + 10..L3 + 12].fill(0);
                let sum = checksum_of(&[&bytes[L3..]]);
                bytes[L3 + 10..L3 + 12].copy_from_slice(&sum.to_ne_bytes());
            }
            Family::V6 => {
                bytes[L3 + 4..L3 + 6].copy_from_slice(&u16::try_from(8 + part.len()).unwrap().to_be_bytes());
                let next = std::mem::replace(&mut bytes[L3 + 6], 44);
                bytes.extend([next, 0]);
                bytes.extend((offset | more).to_be_bytes());
                bytes.extend(u32::from(identification).to_be_bytes());
            }
        }
        bytes.extend_from_slice(part);
        Self { bytes }
    }

    /// Appends bytes that no header counts, as short frames have on a wire.
    pub fn pad(&mut self, length: usize) {
        self.bytes.resize(self.bytes.len() + length, 0);
    }

    /// Where the packet ends and padding begins.
    fn end(&self) -> usize {
        let (at, fixed) = if self.family() == Family::V4 {
            (L3 + 2, L3)
        } else {
            (L3 + 4, L3 + 40)
        };
        fixed + usize::from(u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]))
    }

    /// Sets the hop limit and renews all checksums.
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        let at = if self.family() == Family::V4 {
            L3 + 8
        } else {
            L3 + 7
        };
        self.bytes[at] = hop_limit;
        self.set_checksums();
    }

    /// Writes zeroes for all checksums.
    pub fn clear_checksums(&mut self) {
        if self.family() == Family::V4 {
            self.bytes[L3 + 10..L3 + 12].fill(0);
        }
        self.clear_l4_checksum();
    }

    /// Writes zeroes for the L4 checksum: for UDP over IPv4, "none".
    pub fn clear_l4_checksum(&mut self) {
        let at = self.l4_checksum_at();
        self.bytes[at..at + 2].fill(0);
    }

    /// Whether all checksums are right.
    pub fn checksums_hold(&self) -> bool {
        let mut anew = self.clone();
        anew.set_checksums();
        // 0 and 0xffff are the same number, and incremental updates may end at either.
        let normal = |frame: &Self, at: usize| match &frame.bytes[at..at + 2] {
            [0xff, 0xff] => vec![0, 0],
            other => other.to_vec(),
        };
        let same = |at| normal(self, at) == normal(&anew, at);
        (self.family() == Family::V6 || same(L3 + 10)) && same(self.l4_checksum_at())
    }

    fn l4_checksum_at(&self) -> usize {
        let header = self.known_l4();
        header.l4_offset as usize
            + match header.tuple.protocol {
                Protocol::TCP => 16,
                Protocol::UDP => 6,
                _ => 2,
            }
    }

    fn set_checksums(&mut self) {
        self.clear_checksums();
        let header = self.known_l4();
        let l4 = &self.bytes[header.l4_offset as usize..self.end()];
        let length = u32::try_from(l4.len()).unwrap().to_be_bytes();
        let pseudo = [
            header.tuple.source.octets().as_slice(),
            header.tuple.destination.octets().as_slice(),
            &length,
            &[0, header.tuple.protocol.0],
        ]
        .concat();
        // The v4-mapped prefix 0xffff of both addresses adds nothing to a one's complement sum.
        let sum = match header.tuple.protocol {
            Protocol::ICMP => checksum_of(&[l4]),
            _ => checksum_of(&[&pseudo, l4]),
        };
        let sum = if sum == 0 && header.tuple.protocol == Protocol::UDP {
            0xffff
        } else {
            sum
        };
        let at = self.l4_checksum_at();
        self.bytes[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
        if self.family() == Family::V4 {
            let sum = checksum_of(&[&self.bytes[L3..header.l4_offset as usize]]);
            self.bytes[L3 + 10..L3 + 12].copy_from_slice(&sum.to_ne_bytes());
        }
    }
}

fn l4_header(protocol: Protocol, from: u16, to: u16, payload: usize, tcp_flags: u8) -> Vec<u8> {
    let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
    match protocol {
        Protocol::TCP => {
            vec![
                a, b, c, d, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, tcp_flags, 0xff, 0xff, 0, 0, 0, 0,
            ]
        }
        Protocol::UDP => {
            let [e, f] = u16::try_from(8 + payload).unwrap().to_be_bytes();
            vec![a, b, c, d, e, f, 0, 0]
        }
        Protocol::ICMP => vec![8, 0, 0, 0, a, b, 0, 1],
        Protocol::ICMPV6 => vec![128, 0, 0, 0, a, b, 0, 1],
        other => panic!("no header for {other}"),
    }
}

impl Bytes for Frame {
    fn load<T: Plain>(&self, offset: u32) -> Option<T> {
        let offset = offset as usize;
        T::from_bytes(self.bytes.get(offset..offset + size_of::<T>())?)
    }

    fn length(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap()
    }
}

impl Frame {
    fn update(&mut self, offset: u32, difference: u32, udp: bool) -> Result<(), Unwritable> {
        let old: u16 = self.load(offset).ok_or(Unwritable)?;
        let new = checksum::update_field(old, difference, udp);
        self.store(offset, &new)
    }
}

impl PacketMut for Frame {
    fn store<T: Plain>(&mut self, offset: u32, value: &T) -> Result<(), Unwritable> {
        let range = offset as usize..offset as usize + size_of::<T>();
        self.bytes
            .get_mut(range)
            .ok_or(Unwritable)?
            .copy_from_slice(value.as_bytes());
        Ok(())
    }

    fn resize(&mut self, length: u32) -> Result<(), Unwritable> {
        self.bytes.resize(length as usize, 0);
        Ok(())
    }

    fn update_header_checksum(&mut self, offset: u32, difference: u32) -> Result<(), Unwritable> {
        self.update(offset, difference, false)
    }

    fn update_checksum(&mut self, update: &ChecksumUpdate) -> Result<(), Unwritable> {
        self.update(update.offset, update.difference, update.udp)
    }
}

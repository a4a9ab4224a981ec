//! How the tables write a packet: `udp client:4000 > node:30001 hops=1`.
//!
//! Names of ends stand for an address of either family, so that a conversation is written once. What may follow:
//! TCP flags (`SA`), `numbers=` (sequence and acknowledgement number, of a segment without
//! window), `bytes= of payload, `hops=`, `mtu=`, `options` (IPv4), `ext=0,60` (IPv6 extension headers),
//! `nosum` (no checksum), `frag=0-80#7` (these bytes of its content, as a fragment of packet 7), `pad=`,
//! `set=offset:hex` (from the IP header), `cut=` (bytes left of the IP packet), `ethertype=`, `elsewhere` (another
//! machine's link-layer address). An error ends with `quote=8 about <packet>`: the packet that it is about, and how
//! much of it is quoted after the IP header.

use skep_abi::Protocol;
use skep_datapath::Family;
use skep_datapath::frame::Frame;
use skep_datapath::packet::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

const L3: usize = 14;

/// Names of ends: IPv4, IPv6.
const ENDS: [(&str, &str, &str); 15] = [
    ("client", "172.31.0.100", "fd00:31::100"),
    ("node", "172.31.0.11", "fd00:31::11"),
    ("pod", "10.200.1.2", "fd00:200:1::2"),
    ("newcomer", "10.200.1.9", "fd00:200:1::9"),
    ("far", "10.200.2.2", "fd00:200:2::2"),
    ("narrow", "10.200.3.2", "fd00:200:3::2"),
    ("lost", "10.250.0.1", "fd00:250::1"),
    ("world", "198.51.100.7", "2001:db8::7"),
    ("router", "172.31.0.77", "fd00:31::77"),
    ("external", "203.0.113.9", "2001:db8:9::9"),
    ("balancer", "203.0.113.10", "2001:db8:9::10"),
    ("clusterip", "10.96.0.10", "fd00:96::10"),
    ("noservice", "10.96.0.99", "fd00:96::99"),
    ("loopback", "127.0.0.1", "::1"),
    ("nobody", "224.0.0.1", "ff02::1"),
];

/// The address that a name stands for; an address stands for itself.
pub(crate) fn address(family: Family, name: &str) -> String {
    let found = ENDS.iter().find(|(end, ..)| *end == name);
    match (found, family) {
        (Some((_, v4, _)), Family::V4) => (*v4).to_owned(),
        (Some((_, _, v6)), Family::V6) => (*v6).to_owned(),
        (None, _) => name.to_owned(),
    }
}

/// `name:port`, or a name alone with port 0.
pub(crate) fn end(family: Family, text: &str) -> (String, u16) {
    let (name, port) = text.split_once(':').unwrap_or((text, "0"));
    (address(family, name), port.parse().unwrap())
}

/// The frame that a text describes.
pub(crate) fn packet(family: Family, text: &str) -> Frame {
    let (own, about) = match text.split_once(" about ") {
        Some((own, about)) => (own, Some(packet(family, about))),
        None => (text, None),
    };
    let words: Vec<&str> = own.split_whitespace().collect();
    let [kind, from, ">", to, modifiers @ ..] = words.as_slice() else {
        panic!("not a packet: {text}");
    };
    let (from, to) = (end(family, from), end(family, to));
    let (from, to) = ((from.0.as_str(), from.1), (to.0.as_str(), to.1));
    let frame = match about {
        Some(about) => error(family, kind, from.0, to.0, &about, modifiers),
        None => plain(family, kind, from, to, modifiers),
    };
    modifiers.iter().fold(frame, modify)
}

/// The value of `name=value`.
fn value<'a>(modifiers: &[&'a str], name: &str) -> Option<&'a str> {
    modifiers
        .iter()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn plain(family: Family, kind: &str, from: (&str, u16), to: (&str, u16), modifiers: &[&str]) -> Frame {
    let echo = if family == Family::V4 {
        Protocol::ICMP
    } else {
        Protocol::ICMPV6
    };
    let payload: Vec<u8> = match value(modifiers, "bytes") {
        Some(length) => (0..251).cycle().take(length.parse().unwrap()).collect(),
        None => b"payload".to_vec(),
    };
    match kind {
        "tcp" => Frame::with_flags(Protocol::TCP, from, to, &payload, tcp_flags(modifiers)),
        "udp" => Frame::new(Protocol::UDP, from, to, &payload),
        "ping" => Frame::new(echo, from, (to.0, 0), &payload),
        "pong" => {
            let mut frame = Frame::new(echo, (from.0, to.1), (to.0, 0), &payload);
            frame.set_echo_reply();
            frame
        }
        other => panic!("no protocol: {other}"),
    }
}

fn tcp_flags(modifiers: &[&str]) -> u8 {
    let is_flags = |word: &&&str| word.chars().all(|c| "SAFR".contains(c));
    let flags = modifiers.iter().find(is_flags).copied().unwrap_or("A");
    let bit = |c| match c {
        'S' => TCP_SYN,
        'A' => TCP_ACK,
        'F' => TCP_FIN,
        _ => TCP_RST,
    };
    flags.chars().map(bit).fold(0, |all, flag| all | flag)
}

fn error(family: Family, kind: &str, from: &str, to: &str, about: &Frame, modifiers: &[&str]) -> Frame {
    let v4 = family == Family::V4;
    let kind = match kind {
        "unreachable" if v4 => (3, 3),
        "unreachable" => (1, 4),
        "toobig" if v4 => (3, 4),
        "toobig" => (2, 0),
        "hopless" if v4 => (11, 0),
        "hopless" => (3, 0),
        "problem" if v4 => (12, 0),
        "problem" => (4, 0),
        other => panic!("no error: {other}"),
    };
    let header = if v4 {
        usize::from(about.bytes[L3] & 0x0f) * 4
    } else {
        40
    };
    let quote = value(modifiers, "quote").map_or(1_000, |length| length.parse().unwrap());
    Frame::error(kind, from, to, about, header + quote)
}

fn modify(mut frame: Frame, word: &&str) -> Frame {
    let number = |text: &str| text.parse::<usize>().unwrap_or_else(|_| panic!("{word}"));
    match word.split_once('=').unwrap_or((word, "")) {
        ("hops", hops) => frame.set_hop_limit(hops.parse().unwrap()),
        ("numbers", numbers) => {
            let (sequence, acknowledged) = numbers.split_once(',').unwrap();
            frame.set_tcp_answer(sequence.parse().unwrap(), acknowledged.parse().unwrap());
        }
        ("mtu", mtu) => frame.set_mtu(mtu.parse().unwrap()),
        ("options", _) => frame.insert_options(&[1, 1, 1, 0]),
        ("ext", kinds) => kinds
            .split(',')
            .for_each(|kind| frame.insert_extension(kind.parse().unwrap())),
        ("nosum", _) => frame.clear_l4_checksum(),
        ("frag", which) => {
            let (range, identification) = which.split_once('#').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            frame = frame.fragment(identification.parse().unwrap(), number(start)..number(end));
        }
        ("pad", length) => frame.pad(number(length)),
        ("set", what) => {
            let (at, hex) = what.split_once(':').unwrap();
            for (index, pair) in hex.as_bytes().chunks(2).enumerate() {
                let byte = u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
                frame.bytes[L3 + number(at) + index] = byte;
            }
        }
        ("cut", length) => frame.bytes.truncate(L3 + number(length)),
        ("ethertype", hex) => {
            let kind = u16::from_str_radix(hex, 16).unwrap();
            frame.bytes[12..14].copy_from_slice(&kind.to_be_bytes());
        }
        ("elsewhere", _) => frame.bytes[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]),
        ("bytes" | "quote", _) => {}
        (flags, "") if flags.chars().all(|c| "SAFR".contains(c)) => {}
        _ => panic!("no modifier: {word}"),
    }
    frame
}

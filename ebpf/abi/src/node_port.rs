//! Which ports are node ports: NODE_PORTS, a bitmap in words.

use crate::address::{PortBe, Protocol};

/// Bits of a word.
const WORD_BITS: u16 = 64;
/// Words of one protocol.
const WORDS_PER_PROTOCOL: u32 = 65_536 / WORD_BITS as u32;

/// Elements of NODE_PORTS: the words of TCP, of UDP, of SCTP.
pub const NODE_PORT_WORDS: u32 = 3 * WORDS_PER_PROTOCOL;

/// Where the bit of a node port is: the word's index, and the bit in it. `None` for other protocols.
#[inline(always)]
pub const fn node_port_bit(protocol: Protocol, port: PortBe) -> Option<(u32, u64)> {
    let block = match protocol {
        Protocol::TCP => 0,
        Protocol::UDP => 1,
        Protocol::SCTP => 2,
        _ => return None,
    };
    let port = port.to_host();
    let word = block * WORDS_PER_PROTOCOL + (port / WORD_BITS) as u32;
    Some((word, 1 << (port % WORD_BITS)))
}

/// The node ports, in host byte order, whose bits are set in a word.
pub fn node_ports_of(word: u32, bits: u64) -> impl Iterator<Item = (Protocol, u16)> {
    let protocol = match word / WORDS_PER_PROTOCOL {
        0 => Protocol::TCP,
        1 => Protocol::UDP,
        _ => Protocol::SCTP,
    };
    let first = (word % WORDS_PER_PROTOCOL) as u16 * WORD_BITS;
    let set = (0..WORD_BITS).filter(move |bit| bits & 1 << bit != 0);
    set.map(move |bit| (protocol, first + bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ports_share_a_bit_and_all_lie_within() {
        let mut seen = [0_u64; NODE_PORT_WORDS as usize];
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
            for port in 0..=u16::MAX {
                let (word, bit) = node_port_bit(protocol, PortBe::from_host(port)).unwrap();
                assert_eq!(seen[word as usize] & bit, 0, "{protocol} {port}");
                assert!(node_ports_of(word, bit).eq([(protocol, port)]));
                seen[word as usize] |= bit;
            }
        }
        assert!(seen.iter().all(|word| *word == u64::MAX));
        assert_eq!(node_port_bit(Protocol::ICMP, PortBe::from_host(80)), None);
    }
}

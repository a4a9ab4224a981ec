//! IP fragments follow their first one, which has the ports.
//!
//! Nothing is held back and nothing reassembled: the first fragment's change of the checksum is right for the whole
//! packet, because that is a change by difference. A fragment that comes before its first one does not get to a
//! backend; its packet is lost, as when it came a whole timeout too early to a reassembly.

use skep_abi::{Counter, FragmentKey, FragmentValue, Protocol};

use crate::Verdict;
use crate::ingress::bypass;
use crate::packet::{Family, Header};
use crate::tables::PacketWorld;

/// How long the fragments of a packet may take: Linux' time for reassembly (net.ipv4.ipfrag_time).
pub const FRAGMENTS_S: u32 = 30;

#[inline(always)]
fn key(header: &Header) -> FragmentKey {
    FragmentKey {
        source: header.tuple.source,
        destination: header.tuple.destination,
        identification: header.identification,
        protocol: match header.family {
            Family::V4 => header.tuple.protocol,
            Family::V6 => Protocol(0),
        },
        hook: header.tuple.hook,
        reserved: 0,
    }
}

/// Remembers what a first fragment says of the others.
#[inline(never)]
pub fn remember<W: PacketWorld>(world: &W, header: &Header) {
    let value = FragmentValue {
        source_port: header.tuple.source_port,
        destination_port: header.tuple.destination_port,
        protocol: header.tuple.protocol,
        reserved: [0; 3],
        seen_s: world.now_s(),
    };
    world.put_fragment(&key(header), &value);
}

/// Completes the tuple of a later fragment.
///
/// # Errors
/// What becomes of one whose first one was not seen.
#[inline(never)]
pub fn recall<W: PacketWorld>(world: &W, header: &mut Header) -> Result<(), Verdict> {
    match world.fragment(&key(header)) {
        Some(first) if world.now_s().saturating_sub(first.seen_s) <= FRAGMENTS_S => {
            header.tuple.source_port = first.source_port;
            header.tuple.destination_port = first.destination_port;
            header.tuple.protocol = first.protocol;
            world.count(Counter::PacketFragmentFollowed);
            Ok(())
        }
        _ => {
            world.count(Counter::PacketFragment);
            Err(bypass(world, &header.tuple.destination))
        }
    }
}

#[cfg(test)]
mod tests;

//! ICMP errors about packets of translated flows.
//!
//! An error quotes the packet that it is about as that was where the error arose: with the tuple that it left
//! this node with. That tuple reversed is the one of a packet that goes the error's way, so the flow's entry for
//! such packets says what the error is to become. Errors renew no flow and open none: anybody can send one.

use core::mem::swap;

use skep_abi::{Counter, FlowFlags, FlowKey};

use crate::Verdict;
use crate::ingress::{bypass, find_way};
use crate::packet::{self, Header, ICMP_HEADER, PacketMut, Unwritable};
use crate::rewrite;
use crate::tables::PacketWorld;

/// Handles an ICMP error; `outer` is its header. A function of its own for the sake of the eBPF stack.
#[inline(never)]
pub fn translate<W: PacketWorld, P: PacketMut>(world: &W, packet: &mut P, outer: &Header) -> Verdict {
    let mut quote = Header::empty(outer.family, outer.l4_offset + ICMP_HEADER, outer.tuple.hook);
    quote.end = outer.end;
    // An error goes to who sent the packet that it is about; others are forged (RFC 5927, section 4.1).
    if !packet::parse_quote(packet, &mut quote) || quote.tuple.source != outer.tuple.destination {
        return bypass(world, &outer.tuple.destination);
    }
    reverse(&mut quote.tuple);
    let Some(value) = world.flow(&quote.tuple) else {
        return bypass(world, &outer.tuple.destination);
    };
    // An error is never answered with an error.
    if let Err(refusal) = find_way(world, outer, &value) {
        return Verdict::Drop(refusal.counter);
    }
    // A way that hides where packets come from hides who reports about them as well: a client is not to see what
    // is behind a service, nor the world a pod.
    let source = if value.source == quote.tuple.source {
        &outer.tuple.source
    } else {
        &value.source
    };
    let mut quoted = 0;
    let written = rewrite::rewrite_quote(packet, &quote, &value, &mut quoted)
        .and_then(|()| rewrite::rewrite_error(packet, outer, source, &value, quoted));
    match written {
        Err(Unwritable) => return Verdict::Drop(Counter::DropRewrite),
        Ok(()) => world.count(Counter::PacketError),
    }
    if value.flags.contains(FlowFlags::REDIRECT) {
        Verdict::Forwarded
    } else {
        Verdict::Translated
    }
}

/// Exchanges source and destination.
#[inline(always)]
fn reverse(tuple: &mut FlowKey) {
    swap(&mut tuple.source, &mut tuple.destination);
    swap(&mut tuple.source_port, &mut tuple.destination_port);
}

#[cfg(test)]
mod tests;

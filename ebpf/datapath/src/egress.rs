//! Packets that leave by a device: answers of local backends, which get the frontend's address back, and
//! pods' packets to the world outside the cluster, which leave with the node's address.

use skep_abi::{Counter, FlowFlags, FlowValue, Hook, PodRange, PortBe, Protocol};

use crate::Verdict;
use crate::account;
use crate::flow::{self, Opened, PortPolicy, Resumption};
use crate::ingress::{bypass, identify, node_address};
use crate::packet::{self, Family, Header, PacketMut};
use crate::rewrite;
use crate::tables::PacketWorld;

/// Handles one packet whose IP header starts at `l3_offset`.
#[inline(always)]
pub fn egress<W: PacketWorld, P: PacketMut>(
    world: &W,
    packet: &mut P,
    family: Family,
    l3_offset: u32,
) -> Verdict {
    let mut header = Header::empty(family, l3_offset, Hook::EGRESS);
    if let Err(verdict) = identify(world, packet, &mut header) {
        return verdict;
    }
    direct(world, packet, &header)
}

/// Handles a packet whose tuple is known. A function of its own for the sake of the eBPF stack.
#[inline(never)]
fn direct<W: PacketWorld, P: PacketMut>(world: &W, packet: &mut P, header: &Header) -> Verdict {
    let now_s = world.now_s();
    if let Some(value) = world.flow(&header.tuple) {
        match flow::resume(world, header, &value, now_s) {
            Resumption::Continue => return send(world, packet, header, &value),
            Resumption::Drop(counter) => return Verdict::Drop(counter),
            Resumption::Reopen => {}
        }
    }
    let mut value = FlowValue::default();
    match masquerade(world, header, now_s, &mut value) {
        Ok(()) => send(world, packet, header, &value),
        Err(verdict) => verdict,
    }
}

#[inline(always)]
fn send<W: PacketWorld, P: PacketMut>(
    world: &W,
    packet: &mut P,
    header: &Header,
    value: &FlowValue,
) -> Verdict {
    account::packet(world, header, value, packet.length());
    match rewrite::rewrite(packet, header, value, false) {
        Ok(()) => Verdict::Translated,
        Err(packet::Unwritable) => Verdict::Drop(Counter::DropRewrite),
    }
}

/// Opens a flow from the node's address for a pod that speaks to the outside.
#[inline(always)]
fn masquerade<W: PacketWorld>(
    world: &W,
    header: &Header,
    now_s: u32,
    value: &mut FlowValue,
) -> Result<(), Verdict> {
    let key = &header.tuple;
    // Sockets never send to a service address; what still does would be routed in circles.
    let passed = bypass(world, &key.destination);
    if passed != Verdict::Pass
        || header.later_fragment
        || !world.pod_range(&key.source).contains(PodRange::NODE)
        || world.keeps_source(&key.destination)
    {
        return Err(passed);
    }
    // The answer to a connection that was opened from outside, to the pod's own address.
    if header.tuple.protocol == Protocol::TCP && !header.is_tcp_opening() || is_echo_reply(header) {
        return Err(Verdict::Pass);
    }
    let Some(config) = world.config() else {
        return Err(Verdict::Drop(Counter::DropNoNodeAddress));
    };
    value.source = *node_address(config, &key.source);
    if value.source.is_unspecified() {
        return Err(Verdict::Drop(Counter::DropNoNodeAddress));
    }
    value.destination = key.destination;
    value.destination_port = key.destination_port;
    value.flags = FlowFlags::FORWARD;
    value.partner_hook = Hook::INGRESS;
    value.last_seen_s = now_s;
    let policy = PortPolicy {
        keep: false,
        first: config.source_port_first,
        last: config.source_port_last,
    };
    if flow::open(world, key, value, &policy).map_err(Verdict::Drop)? == Opened::New {
        world.count(Counter::PacketMasqueraded);
    }
    Ok(())
}

#[inline(always)]
fn is_echo_reply(header: &Header) -> bool {
    header.is_icmp() && header.tuple.source_port == PortBe::from_be(0)
}

#[cfg(test)]
mod tests;

//! Packets that come in from a device: answers to translated flows, and new flows to frontends.
//!
//! A local backend gets the packet with the client's address, through the node's routing. A remote one gets
//! it from this node's address, and answers to it; such packets carry a local source, which the node's input
//! path would refuse, so they are forwarded from here.

use skep_abi::{
    Address, BackendFlags, BackendId, BackendValue, Counter, FlowFlags, FlowKey, FlowValue, FrontendFlags,
    FrontendValue, Hook, NodeConfig, PodRange, Protocol,
};

use crate::Verdict;
use crate::account::{self, Event};
use crate::answer::{self, Answer, Refusal};
use crate::flow::{self, Opened, PortPolicy, Resumption};
use crate::fragment;
use crate::icmp;
use crate::lookup::{self, Lookup};
use crate::packet::{self, Family, Header, PacketMut, Parsed};
use crate::rewrite;
use crate::select::{self, Choice};
use crate::tables::{PacketWorld, ServiceTables};

/// Handles one packet whose IP header starts at `l3_offset`.
#[inline(always)]
pub fn ingress<W: PacketWorld, P: PacketMut>(
    world: &W,
    packet: &mut P,
    family: Family,
    l3_offset: u32,
) -> Verdict {
    let mut header = Header::empty(family, l3_offset, Hook::INGRESS);
    if let Err(verdict) = identify(world, packet, &mut header) {
        return verdict;
    }
    let mut refusal = Refusal::from(Counter::DropRewrite);
    match direct(world, packet, &header, &mut refusal) {
        Some(verdict) => verdict,
        None => answer::answer(world, packet, &header, &refusal),
    }
}

/// Fills in the header of a packet, with the tuple that its flow is known by.
///
/// # Errors
/// What becomes of a packet that has none.
#[inline(always)]
pub(crate) fn identify<W: PacketWorld, P: PacketMut>(
    world: &W,
    packet: &mut P,
    header: &mut Header,
) -> Result<(), Verdict> {
    match packet::parse(packet, header) {
        Parsed::Known => return Ok(()),
        Parsed::FirstFragment => {
            fragment::remember(world, header);
            return Ok(());
        }
        Parsed::LaterFragment => return fragment::recall(world, header),
        Parsed::Error => return Err(icmp::translate(world, packet, header)),
        Parsed::Malformed => world.count(Counter::PacketMalformed),
        Parsed::Foreign => {}
    }
    Err(bypass(world, &header.tuple.destination))
}

/// Handles a packet whose tuple is known; `None` when it goes no further, because of `refusal`. A function of its own
/// for the sake of the eBPF stack.
#[inline(never)]
fn direct<W: PacketWorld, P: PacketMut>(
    world: &W,
    packet: &mut P,
    header: &Header,
    refusal: &mut Refusal,
) -> Option<Verdict> {
    let now_s = world.now_s();
    if let Some(value) = world.flow(&header.tuple) {
        match flow::resume(world, header, &value, now_s) {
            Resumption::Continue => {
                return match find_way(world, header, &value) {
                    Ok(()) => Some(deliver(world, packet, header, &value)),
                    Err(reason) => {
                        *refusal = reason;
                        None
                    }
                };
            }
            Resumption::Drop(counter) => return Some(Verdict::Drop(counter)),
            Resumption::Reopen => {}
        }
    }
    let mut value = FlowValue::default();
    match open(world, header, now_s, &mut value) {
        Ok(()) => Some(deliver(world, packet, header, &value)),
        Err(Ending::Verdict(verdict)) => Some(verdict),
        Err(Ending::Refusal(reason)) => {
            *refusal = reason;
            None
        }
    }
}

/// What is no service's passes, unless it goes where only services are.
#[inline(always)]
pub(crate) fn bypass<W: ServiceTables>(world: &W, destination: &Address) -> Verdict {
    if world.in_service_range(destination) {
        Verdict::Drop(Counter::DropNoService)
    } else {
        Verdict::Pass
    }
}

/// For a packet that is to be sent on from here: whether it can be, before anything is spent on it.
#[inline(always)]
pub(crate) fn find_way<W: PacketWorld>(world: &W, header: &Header, value: &FlowValue) -> Result<(), Refusal> {
    if !value.flags.contains(FlowFlags::REDIRECT) {
        return Ok(());
    }
    if header.hop_limit <= 1 {
        return Err(Refusal::told(Counter::DropHopLimit, Answer::HopLimit));
    }
    world.forward(&value.source, &value.destination)
}

/// Rewrites the packet and lets it go on the way that was found.
#[inline(always)]
fn deliver<W: PacketWorld, P: PacketMut>(
    world: &W,
    packet: &mut P,
    header: &Header,
    value: &FlowValue,
) -> Verdict {
    account::packet(world, header, value, packet.length());
    let redirect = value.flags.contains(FlowFlags::REDIRECT);
    match rewrite::rewrite(packet, header, value, redirect) {
        Err(packet::Unwritable) => Verdict::Drop(Counter::DropRewrite),
        Ok(()) if redirect => Verdict::Forwarded,
        Ok(()) => Verdict::Translated,
    }
}

/// What becomes of a packet that opens no flow.
enum Ending {
    Verdict(Verdict),
    Refusal(Refusal),
}

impl From<Counter> for Ending {
    #[inline(always)]
    fn from(counter: Counter) -> Self {
        Self::Verdict(Verdict::Drop(counter))
    }
}

/// Opens a flow to a backend, if the packet is addressed to a frontend, and writes it to `value`.
#[inline(always)]
fn open<W: PacketWorld>(world: &W, header: &Header, now_s: u32, value: &mut FlowValue) -> Result<(), Ending> {
    let key = &header.tuple;
    let Some(config) = world.config() else {
        return Err(Counter::DropNoNodeAddress.into());
    };
    // What the first fragment did not open the others do not open either.
    if header.is_icmp() || header.later_fragment {
        return Err(Ending::Verdict(bypass(world, &key.destination)));
    }
    if is_martian(config, key) {
        world.count(Counter::PacketMartian);
        return Err(Ending::Verdict(bypass(world, &key.destination)));
    }
    let frontend = match lookup::for_packet(world, key) {
        Lookup::Frontend(frontend) if !frontend.flags.contains(FrontendFlags::CLUSTER_IP) => frontend,
        Lookup::Foreign => return Err(Ending::Verdict(Verdict::Pass)),
        _ => return Err(Counter::DropNoService.into()),
    };
    if frontend.flags.contains(FrontendFlags::RESTRICTED)
        && !world.in_source_ranges(frontend.service, &key.source)
    {
        return Err(Counter::DropSourceRange.into());
    }
    if key.protocol == Protocol::TCP && !header.is_tcp_opening() {
        return Err(refuse(world, &frontend, Counter::PacketStray, Counter::DropStray));
    }
    value.last_seen_s = now_s;
    value.serial = account::serial(world, frontend.service);
    match select::choose(world, frontend.service) {
        Choice::Backend(id, backend) => {
            open_to(world, config, header, id, backend, value).map_err(Ending::Refusal)
        }
        Choice::NoBackend => {
            world.account(value.serial, Event::FlowRefused);
            Err(refuse(
                world,
                &frontend,
                Counter::PacketNoBackend,
                Counter::DropNoBackend,
            ))
        }
        Choice::Hole => Err(Counter::DropTableHole.into()),
    }
}

/// Leaves the packet to the node, which answers with RST or port unreachable; when the address is not the node's
/// own it is answered here. A service with externalTrafficPolicy Local wants silence.
#[inline(always)]
fn refuse<W: ServiceTables>(world: &W, frontend: &FrontendValue, pass: Counter, drop: Counter) -> Ending {
    let flags = frontend.flags;
    if flags.contains(FrontendFlags::LOCAL_ONLY) {
        return drop.into();
    }
    if flags.contains(FrontendFlags::NODE_PORT) {
        world.count(pass);
        return Ending::Verdict(Verdict::Pass);
    }
    Ending::Refusal(Refusal::told(drop, Answer::Refused))
}

/// Whether a packet that came by a wire is not to be believed: one to the node's loopback, or from where no
/// wire leads (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.3).
#[inline(always)]
fn is_martian(config: &NodeConfig, key: &FlowKey) -> bool {
    !key.source.is_on_wire()
        || !key.destination.is_on_wire()
        || key.source == *node_address(config, &key.source)
}

/// Whether the node's own routing leads to the backend, and its answers come by here.
#[inline(always)]
fn is_local<W: PacketWorld>(world: &W, backend: &BackendValue) -> bool {
    const HERE: BackendFlags = BackendFlags::LOCAL.with(BackendFlags::HOST_NETWORK);
    backend.flags.intersects(HERE) || world.pod_range(&backend.address).contains(PodRange::NODE)
}

#[inline(always)]
fn open_to<W: PacketWorld>(
    world: &W,
    config: &NodeConfig,
    header: &Header,
    id: BackendId,
    backend: &BackendValue,
    value: &mut FlowValue,
) -> Result<(), Refusal> {
    let key = &header.tuple;
    value.flags = FlowFlags::FORWARD.with(FlowFlags::SERVICE);
    let local = is_local(world, backend);
    if local {
        value.source = key.source;
        value.partner_hook = Hook::EGRESS;
    } else {
        value.source = *node_address(config, &backend.address);
        value.flags = value.flags.with(FlowFlags::REDIRECT);
        if value.source.is_unspecified() {
            return Err(Counter::DropNoNodeAddress.into());
        }
    }
    value.destination = backend.address;
    value.destination_port = backend.port;
    value.backend = id;
    find_way(world, header, value)?;
    // Two frontends with one backend can meet in one tuple: then the second gets another source port, which a
    // client towards a local backend otherwise keeps.
    let policy = PortPolicy {
        keep: local,
        first: config.source_port_first,
        last: config.source_port_last,
    };
    match flow::open(world, key, value, &policy)? {
        Opened::New => {
            world.count(Counter::PacketFlowOpened);
            world.account(value.serial, Event::FlowOpened);
            Ok(())
        }
        Opened::Joined => find_way(world, header, value),
    }
}

/// The node's address of the same family as `address`; unspecified when it has none.
#[inline(always)]
pub(crate) fn node_address<'a>(config: &'a NodeConfig, address: &Address) -> &'a Address {
    if address.is_ipv4() {
        &config.ipv4
    } else {
        &config.ipv6
    }
}

#[cfg(test)]
mod tests;

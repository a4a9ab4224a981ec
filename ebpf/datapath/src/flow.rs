//! The life of a tracked flow: its two entries, its end, and opening it on a source port of its own.

use skep_abi::flow::REFRESH_INTERVAL_S;
use skep_abi::{BackendFlags, Counter, FlowFlags, FlowKey, FlowValue, Protocol};

use crate::packet::{Header, TCP_FIN, TCP_RST};
use crate::ports::{self, ATTEMPTS, PATIENT_ATTEMPTS};
use crate::tables::{FlowTable, Inserted, ServiceTables};

/// Idle time after which an established TCP connection is forgotten, as nf_conntrack's five days.
pub const TCP_ESTABLISHED_S: u32 = 432_000;
/// Idle time of a TCP connection that one side only has spoken on, or that has ended.
pub const TCP_TRANSIENT_S: u32 = 120;
/// Idle time of UDP and ICMP flows that both sides have spoken on, as nf_conntrack's.
pub const DATAGRAM_STREAM_S: u32 = 120;
/// Idle time of UDP and ICMP flows without an answer, as nf_conntrack's.
pub const DATAGRAM_S: u32 = 30;

/// The key of the entry for the opposite direction.
#[inline(always)]
pub fn partner_key(key: &FlowKey, value: &FlowValue) -> FlowKey {
    FlowKey {
        source: value.destination,
        destination: value.source,
        source_port: value.destination_port,
        destination_port: value.source_port,
        protocol: key.protocol,
        hook: value.partner_hook,
        reserved: 0,
    }
}

/// A fresh entry for the opposite direction.
#[inline(always)]
pub fn partner_value(key: &FlowKey, value: &FlowValue) -> FlowValue {
    let kept = FlowFlags(value.flags.0 & (FlowFlags::REDIRECT.0 | FlowFlags::SERVICE.0));
    let direction = FlowFlags(!value.flags.0 & FlowFlags::FORWARD.0);
    FlowValue {
        source: key.destination,
        destination: key.source,
        source_port: key.destination_port,
        destination_port: key.source_port,
        flags: kept.with(direction),
        partner_hook: key.hook,
        reserved: 0,
        backend: value.backend,
        last_seen_s: value.last_seen_s,
        serial: value.serial,
    }
}

/// The flags of a direction after it sent this packet.
#[inline(always)]
pub fn advance(flags: FlowFlags, header: &Header) -> FlowFlags {
    if header.tuple.protocol != Protocol::TCP {
        return flags.with(FlowFlags::ESTABLISHED);
    }
    let mut flags = flags;
    if !header.is_tcp_opening() {
        flags = flags.with(FlowFlags::ESTABLISHED);
    }
    if header.tcp_flags & TCP_FIN != 0 {
        flags = flags.with(FlowFlags::FIN);
    }
    if header.tcp_flags & TCP_RST != 0 {
        flags = flags.with(FlowFlags::RST);
    }
    flags
}

/// Whether a TCP connection has ended: both sides sent FIN, or one sent RST.
#[inline(always)]
pub fn has_ended(value: &FlowValue, partner: Option<&FlowValue>) -> bool {
    let theirs = partner.map_or(FlowFlags::NONE, |partner| partner.flags);
    value.flags.with(theirs).contains(FlowFlags::RST)
        || (value.flags.contains(FlowFlags::FIN) && theirs.contains(FlowFlags::FIN))
}

/// Whether nothing was heard of the flow, in either direction, for longer than its state allows. Of a partner
/// that was evicted the best is assumed: it had been quiet for long, as established connections may be.
#[inline(always)]
pub fn has_expired(protocol: Protocol, value: &FlowValue, partner: Option<&FlowValue>, now_s: u32) -> bool {
    let both = partner.is_none_or(|partner| partner.flags.contains(FlowFlags::ESTABLISHED))
        && value.flags.contains(FlowFlags::ESTABLISHED);
    let limit_s = match (protocol == Protocol::TCP, both) {
        (true, true) if !has_ended(value, partner) => TCP_ESTABLISHED_S,
        (true, _) => TCP_TRANSIENT_S,
        (false, true) => DATAGRAM_STREAM_S,
        (false, false) => DATAGRAM_S,
    };
    let mine = now_s.saturating_sub(value.last_seen_s);
    let theirs = partner.map_or(mine, |partner| now_s.saturating_sub(partner.last_seen_s));
    mine.min(theirs) > limit_s
}

/// Whether `value` is the way back to `key`, that is: an entry's partner and not another flow's entry that took
/// its place.
#[inline(always)]
pub fn leads_to(value: &FlowValue, key: &FlowKey) -> bool {
    value.destination == key.source
        && value.destination_port == key.source_port
        && value.source == key.destination
        && value.source_port == key.destination_port
        && value.partner_hook == key.hook
}

/// What becomes of a packet that has an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// It goes the entry's way.
    Continue,
    /// It opens a new flow; the old entries are gone.
    Reopen,
    /// It is dropped.
    Drop(Counter),
}

/// Decides whether the entry still holds for this packet, and if so accounts for it.
///
/// A flow keeps its backend for as long as the backend is not flagged DEAD, also when it has left its service:
/// terminating pods finish what they began, but begin nothing. UDP has no end to wait for and moves on when the
/// backend leaves the table.
#[inline(always)]
pub fn resume<W: FlowTable + ServiceTables>(
    world: &W,
    header: &Header,
    value: &FlowValue,
    now_s: u32,
) -> Resumption {
    let key = &header.tuple;
    let (tcp, opening) = (key.protocol == Protocol::TCP, header.is_tcp_opening());
    let flags = advance(value.flags, header);
    let news =
        opening || flags != value.flags || now_s.saturating_sub(value.last_seen_s) >= REFRESH_INTERVAL_S;
    if news {
        match review(world, header, value, now_s) {
            Resumption::Continue => {}
            other => return other,
        }
    }
    const OPENED_SERVICE: FlowFlags = FlowFlags::FORWARD.with(FlowFlags::SERVICE);
    if value.flags.contains(OPENED_SERVICE) {
        match backend_state(world, value) {
            BackendState::Alive => {}
            BackendState::Gone if tcp && !opening => {}
            BackendState::Dead if tcp && !opening => return Resumption::Drop(Counter::DropBackendDead),
            _ => {
                remove(world, key, value);
                return Resumption::Reopen;
            }
        }
    }
    if news {
        world.renew_flow(key, flags, now_s);
        restore_partner(world, key, value);
    }
    Resumption::Continue
}

/// Whether the flow is over, or has lost its answers to another one after an eviction.
#[inline(never)]
fn review<W: FlowTable>(world: &W, header: &Header, value: &FlowValue, now_s: u32) -> Resumption {
    let key = &header.tuple;
    let (tcp, opening) = (key.protocol == Protocol::TCP, header.is_tcp_opening());
    let partner = world.flow(&partner_key(key, value));
    let partner = partner.as_deref();
    if partner.is_some_and(|partner| !leads_to(partner, key)) {
        if tcp && !opening {
            return Resumption::Drop(Counter::DropFlowConflict);
        }
        world.remove_flow(key);
        return Resumption::Reopen;
    }
    if (opening && has_ended(value, partner)) || has_expired(key.protocol, value, partner, now_s) {
        remove(world, key, value);
        return Resumption::Reopen;
    }
    Resumption::Continue
}

#[inline(never)]
fn restore_partner<W: FlowTable + ServiceTables>(world: &W, key: &FlowKey, value: &FlowValue) {
    let partner_key = partner_key(key, value);
    if world.flow(&partner_key).is_none()
        && world.insert_flow(&partner_key, &partner_value(key, value)) == Inserted::New
    {
        world.count(Counter::PacketFlowRestored);
    }
}

enum BackendState {
    Alive,
    /// Left the table, or its number serves another one now.
    Gone,
    /// Still there and flagged as lost.
    Dead,
}

#[inline(always)]
fn backend_state<W: ServiceTables>(world: &W, value: &FlowValue) -> BackendState {
    let Some(backend) = world.backend(value.backend) else {
        return BackendState::Gone;
    };
    if backend.address != value.destination || backend.port != value.destination_port {
        return BackendState::Gone;
    }
    if backend.flags.contains(BackendFlags::DEAD) {
        return BackendState::Dead;
    }
    if backend.flags.contains(BackendFlags::PRESENT) {
        BackendState::Alive
    } else {
        BackendState::Gone
    }
}

/// Removes the entry, and its partner unless another flow has that place by now.
#[inline(never)]
pub fn remove<W: FlowTable>(world: &W, key: &FlowKey, value: &FlowValue) {
    let partner_key = partner_key(key, value);
    if world
        .flow(&partner_key)
        .is_some_and(|partner| leads_to(&partner, key))
    {
        world.remove_flow(&partner_key);
    }
    world.remove_flow(key);
}

/// Which source ports a new flow may leave with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortPolicy {
    /// Try the port it came with first.
    pub keep: bool,
    /// First of the range.
    pub first: u16,
    /// Last of the range.
    pub last: u16,
}

/// Whose flow it is that a packet got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Its own.
    New,
    /// That of another packet with the same tuple, which another CPU handled meanwhile.
    Joined,
}

/// Opens the flow `key` → `value`, both entries, on a source port that no other flow to that remote uses; on
/// return `value.source_port` holds it. Of two packets that open the same flow at once the first to insert its
/// forward entry decides; the other one's `value` becomes that entry.
///
/// The partner entry is what claims the port: its key is the answer's tuple, which must lead to one flow only.
/// Claims are atomic; taking over the entry of an ended flow is not, but then both rivals would have to choose
/// the same ended flow in the same microsecond.
///
/// # Errors
/// The reason to drop the packet; nothing is left in the table then.
#[inline(always)]
pub fn open<W: FlowTable + ServiceTables>(
    world: &W,
    key: &FlowKey,
    value: &mut FlowValue,
    policy: &PortPolicy,
) -> Result<Opened, Counter> {
    let seed = world.random();
    let mut claimed = Err(Counter::DropSourcePortsExhausted);
    W::repeat(ATTEMPTS, |attempt| {
        value.source_port = if policy.keep && attempt == 0 {
            key.source_port
        } else {
            ports::candidate(seed, attempt, policy.first, policy.last)
        };
        claimed = match claim(world, key, value, attempt >= PATIENT_ATTEMPTS) {
            Inserted::New => Ok(()),
            Inserted::Failed => Err(Counter::DropFlowTable),
            Inserted::Taken => return true,
        };
        false
    });
    claimed?;
    establish(world, key, value)
}

/// Inserts the forward entry of a flow whose partner entry was claimed.
#[inline(never)]
fn establish<W: FlowTable>(world: &W, key: &FlowKey, value: &mut FlowValue) -> Result<Opened, Counter> {
    let inserted = world.insert_flow(key, value);
    if inserted == Inserted::New {
        return Ok(Opened::New);
    }
    let claimed = partner_key(key, value);
    let winner = world.flow(key).filter(|_| inserted == Inserted::Taken);
    let Some(winner) = winner else {
        world.remove_flow(&claimed);
        return Err(Counter::DropFlowTable);
    };
    *value = *winner;
    // Both may have claimed the same.
    if partner_key(key, value) != claimed {
        world.remove_flow(&claimed);
    }
    Ok(Opened::Joined)
}

/// Inserts the partner entry of `key` → `value`, if need be over one that is no longer used.
#[inline(always)]
fn claim<W: FlowTable>(world: &W, key: &FlowKey, value: &FlowValue, take_ended: bool) -> Inserted {
    let inserted = insert_partner(world, key, value);
    if inserted == Inserted::Taken && make_room(world, key, value, take_ended) {
        return insert_partner(world, key, value);
    }
    inserted
}

/// A function of its own, as [`make_room`] is: keys and values of both would take half of the eBPF stack.
#[inline(never)]
fn insert_partner<W: FlowTable>(world: &W, key: &FlowKey, value: &FlowValue) -> Inserted {
    world.insert_flow(&partner_key(key, value), &partner_value(key, value))
}

/// Removes the flow that holds the place of the partner entry of `key` → `value`, if it is no longer used; false if
/// it is.
#[inline(never)]
fn make_room<W: FlowTable>(world: &W, key: &FlowKey, value: &FlowValue, take_ended: bool) -> bool {
    let answer_key = partner_key(key, value);
    let Some(holder) = world.flow(&answer_key) else {
        return false;
    };
    // A holder that answers to the same client by the same tuple is this flow's own remainder.
    if !leads_to(&holder, key) {
        let other_key = partner_key(&answer_key, &holder);
        let other = world.flow(&other_key);
        let other = other.as_deref();
        let orphaned = other.is_some_and(|other| !leads_to(other, &answer_key));
        let free = has_expired(key.protocol, &holder, other, value.last_seen_s)
            || (take_ended && (orphaned || has_ended(&holder, other)));
        if !free {
            return false;
        }
        if !orphaned {
            world.remove_flow(&other_key);
        }
    }
    world.remove_flow(&answer_key);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use skep_abi::{Hook, PortBe};

    use crate::fake::{World, address};

    fn arriving(client_port: u16) -> FlowKey {
        FlowKey {
            source: address("192.0.2.1"),
            destination: address("172.29.0.11"),
            source_port: PortBe::from_host(client_port),
            destination_port: PortBe::from_host(30080),
            protocol: Protocol::TCP,
            hook: Hook::INGRESS,
            reserved: 0,
        }
    }

    fn leaving() -> FlowValue {
        FlowValue {
            source: address("172.29.0.11"),
            destination: address("10.129.0.5"),
            destination_port: PortBe::from_host(8080),
            flags: FlowFlags::FORWARD.with(FlowFlags::SERVICE),
            ..FlowValue::default()
        }
    }

    const NARROW: PortPolicy = PortPolicy {
        keep: false,
        first: 20_000,
        last: 20_007,
    };

    #[test]
    fn partner_of_the_partner_is_the_flow_itself() {
        let (key, mut value) = (arriving(4000), leaving());
        value.partner_hook = Hook::EGRESS;
        let (back_key, back) = (partner_key(&key, &value), partner_value(&key, &value));
        assert_eq!(partner_key(&back_key, &back), key);
        assert_eq!(partner_value(&back_key, &back), value);
    }

    #[test]
    fn ports_are_never_shared_and_exhaustion_is_told() {
        let world = World::new();
        let mut ports = std::collections::BTreeSet::new();
        for client_port in 0..8 {
            // Random walks over eight ports may miss the last free one: that flow's client tries again.
            let mut value = leaving();
            while open(&world, &arriving(client_port), &mut value, &NARROW).is_err() {}
            assert!(ports.insert(value.source_port));
        }
        let refused = open(&world, &arriving(99), &mut leaving(), &NARROW);
        assert_eq!(refused, Err(Counter::DropSourcePortsExhausted));
        assert_eq!(world.flows.borrow().len(), 16);
    }

    #[test]
    fn ports_of_ended_flows_serve_again() {
        let world = World::new();
        let one = PortPolicy {
            keep: false,
            first: 20_000,
            last: 20_000,
        };
        let mut value = leaving();
        open(&world, &arriving(1), &mut value, &one).unwrap();
        assert!(open(&world, &arriving(2), &mut leaving(), &one).is_err());
        world.renew_flow(&arriving(1), value.flags.with(FlowFlags::RST), 0);
        open(&world, &arriving(2), &mut leaving(), &one).unwrap();
        assert!(world.flow(&arriving(1)).is_none());
        assert_eq!(world.flows.borrow().len(), 2);
    }

    #[test]
    fn expired_flows_give_way_at_once() {
        let world = World::new();
        let one = PortPolicy {
            keep: false,
            first: 20_000,
            last: 20_000,
        };
        open(&world, &arriving(1), &mut leaving(), &one).unwrap();
        let later = |now_s| FlowValue {
            last_seen_s: now_s,
            ..leaving()
        };
        assert!(open(&world, &arriving(2), &mut later(TCP_TRANSIENT_S), &one).is_err());
        open(&world, &arriving(2), &mut later(TCP_TRANSIENT_S + 1), &one).unwrap();
    }

    #[test]
    fn refused_table_leaves_nothing_behind() {
        for limit in [0, 1] {
            let mut world = World::new();
            world.flow_limit = Some(limit);
            assert_eq!(
                open(&world, &arriving(1), &mut leaving(), &NARROW),
                Err(Counter::DropFlowTable)
            );
            assert!(world.flows.borrow().is_empty());
        }
    }

    #[test]
    fn of_two_that_open_one_flow_the_second_joins_the_first() {
        // The rival chose another port, or the same one (where clients keep theirs).
        for port in [20_001, 20_000] {
            let world = World::new();
            let key = arriving(1);
            let rival = FlowValue {
                source_port: PortBe::from_host(port),
                backend: skep_abi::BackendId(9),
                ..leaving()
            };
            let pair = [
                (key, rival),
                (partner_key(&key, &rival), partner_value(&key, &rival)),
            ];
            let mut value = leaving();
            value.source_port = PortBe::from_host(20_000);
            assert_eq!(claim(&world, &key, &value, false), Inserted::New);
            world.rivals.borrow_mut().extend(pair);
            assert_eq!(establish(&world, &key, &mut value), Ok(Opened::Joined));
            assert_eq!(value, rival);
            assert_eq!(*world.flows.borrow(), std::collections::HashMap::from(pair));
        }
    }

    fn opened(world: &World, client_port: u16, now_s: u32) -> (FlowKey, FlowValue) {
        let mut value = FlowValue {
            last_seen_s: now_s,
            ..leaving()
        };
        open(world, &arriving(client_port), &mut value, &NARROW).unwrap();
        (arriving(client_port), value)
    }

    fn header_of(key: FlowKey, tcp_flags: u8) -> Header {
        let mut header = Header::empty(crate::Family::V4, 14, key.hook);
        (header.tuple, header.tcp_flags) = (key, tcp_flags);
        header
    }

    #[test]
    fn flows_expire_in_both_directions() {
        const ACK: u8 = crate::packet::TCP_ACK;
        for back in [false, true] {
            let world = World::new();
            let (key, value) = opened(&world, 1, 0);
            let (key, value) = if back {
                (partner_key(&key, &value), partner_value(&key, &value))
            } else {
                (key, value)
            };
            let at = |now_s| resume(&world, &header_of(key, ACK), &value, now_s);
            assert_eq!(at(TCP_TRANSIENT_S + 1), Resumption::Reopen, "back: {back}");
            assert!(world.flows.borrow().is_empty());
        }
    }

    #[test]
    fn a_greeted_connection_may_be_quiet_for_days() {
        let mut world = World::new();
        world.add_service(&["10.129.0.5:8080"]);
        let (key, mut value) = opened(&world, 1, 0);
        value.backend = world.slots[0];
        let (back_key, back) = (partner_key(&key, &value), partner_value(&key, &value));
        let (syn, ack) = (crate::packet::TCP_SYN, crate::packet::TCP_ACK);
        assert_eq!(
            resume(&world, &header_of(back_key, syn | ack), &back, 1),
            Resumption::Continue
        );
        assert_eq!(
            resume(&world, &header_of(key, ack), &value, 1),
            Resumption::Continue
        );
        let value = world.flow(&key).unwrap();
        let late = TCP_ESTABLISHED_S;
        assert_eq!(
            resume(&world, &header_of(key, ack), &value, late),
            Resumption::Continue
        );
    }

    #[test]
    fn flow_that_lost_its_answers_to_another_is_not_continued() {
        for protocol in [Protocol::TCP, Protocol::UDP] {
            let world = World::new();
            let (key, value) = opened(&world, 1, 0);
            let key = FlowKey { protocol, ..key };
            world.flows.borrow_mut().clear();
            world.insert_flow(&key, &value);
            // Its partner was evicted, and its port given to another client.
            let other = FlowKey {
                protocol,
                ..arriving(2)
            };
            let theirs = partner_value(&other, &value);
            world.insert_flow(&partner_key(&key, &value), &theirs);
            let resumed = |flags| resume(&world, &header_of(key, flags), &value, 1);
            if protocol == Protocol::TCP {
                let dropped = Resumption::Drop(Counter::DropFlowConflict);
                assert_eq!(resumed(crate::packet::TCP_ACK), dropped);
            }
            assert_eq!(resumed(crate::packet::TCP_SYN), Resumption::Reopen);
            assert!(world.flow(&key).is_none());
            assert_eq!(world.flow(&partner_key(&key, &value)).as_deref(), Some(&theirs));
        }
    }

    proptest! {
        #[test]
        fn every_open_flow_has_its_own_answer_tuple(clients in proptest::collection::vec(1_u16.., 1..60)) {
            let world = World::new();
            let policy = PortPolicy { keep: true, first: 20_000, last: 20_999 };
            for port in clients {
                if world.flow(&arriving(port)).is_none() {
                    open(&world, &arriving(port), &mut leaving(), &policy).unwrap();
                }
            }
            let flows = world.flows.borrow();
            for (key, value) in flows.iter() {
                let partner = flows.get(&partner_key(key, value));
                prop_assert_eq!(partner.map(|partner| partner_key(&partner_key(key, value), partner)), Some(*key));
            }
        }
    }
}

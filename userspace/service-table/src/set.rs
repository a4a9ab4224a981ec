//! A set of backends to pick from: one element of SERVICES and its run of slots.

use std::collections::HashMap;

use skep_abi::{BackendId, ServiceFlags, ServiceId, ServiceName, ServiceSerial, ServiceValue};

use crate::extents::{Extents, Range};
use crate::image::{ArrayImage, IdPool};
use crate::names::Names;
use crate::op::{IdState, MapOp};

/// Smallest run of a set that has members: room to grow without moving.
const MIN_CAPACITY: u32 = 4;
/// A set moves to a smaller run when it fills less than this part of its own.
const SHRINK_FACTOR: u32 = 8;

/// The members, in the order of their slots.
#[derive(Debug)]
pub(crate) struct Set {
    id: ServiceId,
    serial: ServiceSerial,
    range: Range,
    members: Vec<BackendId>,
    positions: HashMap<BackendId, usize>,
    affinity_timeout_s: u32,
}

/// SERVICES and SLOTS.
#[derive(Debug)]
pub(crate) struct SetSpace {
    services: ArrayImage<ServiceValue>,
    names: Names,
    service_ids: IdPool,
    service_limit: u32,
    slots: ArrayImage<BackendId>,
    extents: Extents,
    slot_limit: u32,
    /// Runs given up in this round and in the one before: still visible to a lookup under way.
    resting: Vec<Range>,
    ripe: Vec<Range>,
    /// Runs of elements that the map holds and no set has adopted.
    adoptable: HashMap<ServiceId, Range>,
}

/// A map that has no room for what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom(pub(crate) &'static str);

impl Set {
    /// A set without members. `adopt`: ids that the map may already hold for it, best first.
    pub(crate) fn new(
        space: &mut SetSpace,
        name: ServiceName,
        adopt: impl Iterator<Item = ServiceId>,
    ) -> Result<Set, NoRoom> {
        for id in adopt {
            if let Some(range) = space.adoptable.remove(&id) {
                return Ok(Set::adopted(space, name, id, range));
            }
        }
        let id = space
            .service_ids
            .take()
            .ok_or(NoRoom(skep_abi::maps::SERVICES.name))?;
        let serial = space.names.take();
        space.names.set(serial, name);
        let mut set = Set {
            id: ServiceId(id),
            serial,
            range: Range::default(),
            members: Vec::new(),
            positions: HashMap::new(),
            affinity_timeout_s: 0,
        };
        set.publish(space);
        Ok(set)
    }

    /// The set as the map holds it. Should the slots make no sense it starts empty, and the next change writes
    /// them anew.
    fn adopted(space: &mut SetSpace, name: ServiceName, id: ServiceId, range: Range) -> Set {
        let value = space.services.installed(id.0);
        let slots = range.offset..range.offset.saturating_add(value.slot_count.min(range.capacity));
        let members: Vec<BackendId> = slots.map(|slot| space.slots.installed(slot)).collect();
        let positions: HashMap<BackendId, usize> = members.iter().copied().zip(0..).collect();
        let mut serial = value.serial;
        // Under another name it is another's, whose counts are not to go on.
        if !space.names.holds(serial, &name) {
            serial = space.names.take();
        }
        space.names.set(serial, name);
        let mut set = Set {
            id,
            serial,
            range,
            members,
            positions,
            affinity_timeout_s: value.affinity_timeout_s,
        };
        if set.positions.len() != set.members.len() || set.positions.contains_key(&BackendId(0)) {
            space.resting.push(std::mem::take(&mut set.range));
            set.members.clear();
            set.positions.clear();
        }
        for (slot, member) in (set.range.offset..).zip(&set.members) {
            space.slots.set(slot, *member);
        }
        set.publish(space);
        set
    }

    pub(crate) fn id(&self) -> ServiceId {
        self.id
    }

    pub(crate) fn contains(&self, member: BackendId) -> bool {
        self.positions.contains_key(&member)
    }

    pub(crate) fn set_affinity(&mut self, timeout_s: u32, space: &mut SetSpace) {
        self.affinity_timeout_s = timeout_s;
        self.publish(space);
    }

    /// Makes `wanted`, without duplicates, the members; those that stay keep their slots.
    pub(crate) fn assign(&mut self, wanted: &[BackendId], space: &mut SetSpace) -> Result<(), NoRoom> {
        let keep: std::collections::HashSet<BackendId> = wanted.iter().copied().collect();
        let removed: Vec<_> = self
            .members
            .iter()
            .copied()
            .filter(|member| !keep.contains(member))
            .collect();
        let added: Vec<_> = wanted
            .iter()
            .copied()
            .filter(|member| !self.contains(*member))
            .collect();
        self.change(&removed, &added, space)
    }

    /// Exchanges members: newcomers take the places of leavers, then the last fill the holes, then the run grows.
    /// Without room to grow, the set stays as large as its run and the rest of `added` is left out.
    pub(crate) fn change(
        &mut self,
        removed: &[BackendId],
        added: &[BackendId],
        space: &mut SetSpace,
    ) -> Result<(), NoRoom> {
        let old_length = self.members.len();
        let mut touched = Vec::new();
        let mut added = added.iter().copied();
        for leaver in removed {
            let Some(at) = self.positions.remove(leaver) else {
                continue;
            };
            if let Some(newcomer) = added.next() {
                self.members[at] = newcomer;
                self.positions.insert(newcomer, at);
            } else {
                self.members.swap_remove(at);
                if let Some(moved) = self.members.get(at) {
                    self.positions.insert(*moved, at);
                }
            }
            touched.push(at);
        }
        for newcomer in added {
            touched.push(self.members.len());
            self.positions.insert(newcomer, self.members.len());
            self.members.push(newcomer);
        }
        let result = self.fit(space, old_length, touched);
        self.publish(space);
        result
    }

    /// Chooses the run for the members and writes the slots: the `touched` positions, or all in a new run.
    fn fit(&mut self, space: &mut SetSpace, old_length: usize, touched: Vec<usize>) -> Result<(), NoRoom> {
        let length = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let capacity = self.range.capacity;
        let shrinks = capacity > MIN_CAPACITY && length.saturating_mul(SHRINK_FACTOR) <= capacity;
        let mut result = Ok(());
        if length > capacity || shrinks {
            let wanted = if length == 0 {
                0
            } else {
                length.next_power_of_two().max(MIN_CAPACITY)
            };
            if let Some(range) = space.extents.take(wanted) {
                let old = std::mem::replace(&mut self.range, range);
                for slot in (old.offset..).take(old_length) {
                    space.slots.set(slot, BackendId(0));
                }
                space.rest(old);
                for (slot, member) in (range.offset..).zip(&self.members) {
                    space.slots.set(slot, *member);
                }
                return Ok(());
            }
            result = Err(NoRoom(skep_abi::maps::SLOTS.name));
            for left_out in self.members.drain(capacity.min(length) as usize..) {
                self.positions.remove(&left_out);
            }
        }
        let tail = self.members.len()..old_length;
        for (slot, at) in touched
            .into_iter()
            .chain(tail)
            .filter_map(|at| Some((u32::try_from(at).ok()?, at)))
        {
            if slot < capacity {
                let member = self.members.get(at).copied().unwrap_or_default();
                space.slots.set(self.range.offset + slot, member);
            }
        }
        result
    }

    fn publish(&mut self, space: &mut SetSpace) {
        let value = ServiceValue {
            slot_offset: self.range.offset,
            slot_count: u32::try_from(self.members.len()).unwrap_or(0),
            flags: ServiceFlags::PRESENT,
            affinity_timeout_s: self.affinity_timeout_s,
            serial: self.serial,
            ..ServiceValue::default()
        };
        space.services.set(self.id.0, value);
    }

    /// The set is no more.
    pub(crate) fn retire(self, space: &mut SetSpace) {
        space.names.remove(self.serial);
        space.services.set(self.id.0, ServiceValue::default());
        for slot in (self.range.offset..).take(self.members.len()) {
            space.slots.set(slot, BackendId(0));
        }
        space.rest(self.range);
    }

    fn run(&self) -> (ServiceId, Range) {
        (self.id, self.range)
    }
}

impl SetSpace {
    pub(crate) fn new(service_limit: u32, slot_limit: u32) -> SetSpace {
        SetSpace {
            services: ArrayImage::default(),
            names: Names::default(),
            service_ids: IdPool::new(service_limit),
            service_limit,
            slots: ArrayImage::default(),
            extents: Extents::new(slot_limit),
            slot_limit,
            resting: Vec::new(),
            ripe: Vec::new(),
            adoptable: HashMap::new(),
        }
    }

    /// Replaces what the maps are known to hold. `sets` are all sets there are. Elements that no set has are
    /// adoptable until the round ends; every run that the map shows stays untouched until then.
    pub(crate) fn observe<'a>(&mut self, state: &IdState, sets: impl Iterator<Item = &'a Set>) {
        let services = &state.services;
        self.names.observe(&state.names);
        self.services
            .observe(services.iter().map(|(id, value)| (id.0, *value)));
        self.slots.observe(state.slots.iter().copied());
        self.service_ids = IdPool::with_used(self.service_limit, self.services.used());
        self.extents = Extents::new(self.slot_limit);
        self.resting.clear();
        self.ripe.clear();
        self.adoptable.clear();
        let own: HashMap<ServiceId, Range> = sets.map(Set::run).collect();
        for range in own.values() {
            self.extents.take_exactly(*range);
        }
        for (id, value) in services {
            let count = value.slot_count;
            let capacity = if count == 0 {
                0
            } else {
                count.next_power_of_two().max(MIN_CAPACITY)
            };
            let exact = Range {
                offset: value.slot_offset,
                capacity: count,
            };
            let whole = Range {
                offset: value.slot_offset,
                capacity,
            };
            let range = [whole, exact]
                .into_iter()
                .find(|range| self.extents.take_exactly(*range));
            match (own.contains_key(id), range) {
                (false, range) => {
                    self.adoptable.insert(*id, range.unwrap_or_default());
                }
                (true, Some(range)) => self.rest(range),
                (true, None) => {}
            }
        }
    }

    fn rest(&mut self, range: Range) {
        if range.capacity > 0 {
            self.resting.push(range);
        }
    }

    pub(crate) fn name_puts(&mut self) -> Vec<MapOp> {
        self.names.puts()
    }

    /// Removals that are due. To be asked for last in a round.
    pub(crate) fn name_deletes(&mut self) -> Vec<MapOp> {
        self.names.deletes()
    }

    pub(crate) fn slot_puts(&mut self) -> Vec<MapOp> {
        let puts = self.slots.puts().into_iter();
        puts.map(|(slot, _, backend)| MapOp::PutSlot(slot, backend))
            .collect()
    }

    /// Sets to write before the frontends, and those to write after: sets that run empty, from which a frontend
    /// may just be moving to another.
    pub(crate) fn service_puts(&mut self) -> (Vec<MapOp>, Vec<MapOp>) {
        let puts = self.services.puts().into_iter();
        let (emptied, filled): (Vec<_>, Vec<_>) =
            puts.partition(|(_, old, new)| old.slot_count > 0 && new.slot_count == 0);
        let ops = |puts: Vec<(u32, ServiceValue, ServiceValue)>| {
            puts.into_iter()
                .map(|(id, _, value)| MapOp::PutService(ServiceId(id), value))
                .collect()
        };
        (ops(filled), ops(emptied))
    }

    /// Ends the round: removals that are due, of services and then slots; and whether anything became free.
    pub(crate) fn deletes(&mut self) -> (Vec<MapOp>, bool) {
        let adoptable = std::mem::take(&mut self.adoptable);
        self.resting
            .extend(adoptable.into_values().filter(|range| range.capacity > 0));
        let mut ops = Vec::new();
        let services = self.services.ripen();
        let mut freed = !services.is_empty();
        for (id, held) in services {
            self.service_ids.give_back(id);
            if held {
                ops.push(MapOp::DeleteService(ServiceId(id)));
            }
        }
        let slots = self.slots.ripen().into_iter().filter(|(_, held)| *held);
        ops.extend(slots.map(|(slot, _)| MapOp::DeleteSlot(slot)));
        for range in std::mem::replace(&mut self.ripe, std::mem::take(&mut self.resting)) {
            self.extents.give_back(range);
            freed = true;
        }
        (ops, freed)
    }

    /// See [`ArrayImage::differing`].
    pub(crate) fn differing_service(&self, id: ServiceId, found: ServiceValue) -> Option<ServiceValue> {
        self.services.differing(id.0, found)
    }

    /// See [`ArrayImage::differing`].
    pub(crate) fn differing_slot(&self, slot: u32, found: BackendId) -> Option<BackendId> {
        self.slots.differing(slot, found)
    }

    pub(crate) fn waits(&self) -> bool {
        self.services.waits() || self.names.waits() || self.slots.waits() || !self.ripe.is_empty()
    }
}

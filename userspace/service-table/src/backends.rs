//! Backends: one per (address, port, protocol), shared by every Service port that lists it.

use std::collections::{HashMap, HashSet};

use skep_abi::{Address, BackendFlags, BackendId, BackendValue};

use crate::facts::BackendKey;
use crate::image::{ArrayImage, IdPool};
use crate::op::MapOp;

/// What a listing says of the endpoint's place and state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    pub(crate) local: bool,
    pub(crate) terminating: bool,
}

#[derive(Debug)]
pub(crate) struct Backends {
    by_key: HashMap<BackendKey, Entry>,
    /// Entries without references, by id.
    resting: HashMap<u32, BackendKey>,
    ids: IdPool,
    limit: u32,
    image: ArrayImage<BackendValue>,
    node_addresses: HashSet<Address>,
}

/// An entry without references rests until its element was removed; its id comes back if the endpoint does.
#[derive(Debug)]
struct Entry {
    id: BackendId,
    references: u32,
    local: u32,
    terminating: u32,
}

impl Backends {
    pub(crate) fn new(limit: u32) -> Backends {
        Backends {
            by_key: HashMap::new(),
            resting: HashMap::new(),
            ids: IdPool::new(limit),
            limit,
            image: ArrayImage::default(),
            node_addresses: HashSet::new(),
        }
    }

    /// Which addresses are this node's own; backends acquired later are flagged by it.
    pub(crate) fn set_node_addresses(&mut self, addresses: HashSet<Address>) {
        self.node_addresses = addresses;
    }

    /// Replaces what the map is known to hold.
    pub(crate) fn observe(&mut self, elements: &[(BackendId, BackendValue)]) {
        self.image
            .observe(elements.iter().map(|(id, value)| (id.0, *value)));
        self.by_key.retain(|_, entry| entry.references > 0);
        self.resting.clear();
        for id in self.image.used().map(BackendId) {
            let held = self.image.installed(id.0);
            if held != BackendValue::default() {
                let key = BackendKey {
                    address: held.address,
                    port: held.port,
                    protocol: held.protocol,
                };
                let entry = self.by_key.entry(key).or_insert(Entry::resting(id));
                if entry.references == 0 && entry.id == id {
                    self.resting.insert(id.0, key);
                }
            }
        }
        self.ids = IdPool::with_used(self.limit, self.image.used());
    }

    /// One more reference. None if there is no room.
    pub(crate) fn acquire(&mut self, key: BackendKey, traits: Traits) -> Option<BackendId> {
        if !self.by_key.contains_key(&key) {
            let id = BackendId(self.ids.take()?);
            self.by_key.insert(key, Entry::resting(id));
        }
        let entry = self.by_key.get_mut(&key)?;
        if entry.references == 0 {
            self.resting.remove(&entry.id.0);
        }
        entry.references += 1;
        entry.count(traits, 1);
        let id = entry.id;
        self.publish(key);
        Some(id)
    }

    /// A reference says something else than before.
    pub(crate) fn change(&mut self, key: BackendKey, old: Traits, new: Traits) {
        if let Some(entry) = self.by_key.get_mut(&key) {
            entry.count(old, -1);
            entry.count(new, 1);
            self.publish(key);
        }
    }

    /// One reference less.
    pub(crate) fn release(&mut self, key: BackendKey, traits: Traits) {
        if let Some(entry) = self.by_key.get_mut(&key) {
            entry.references -= 1;
            entry.count(traits, -1);
            if entry.references == 0 {
                self.resting.insert(entry.id.0, key);
            }
            self.publish(key);
        }
    }

    fn publish(&mut self, key: BackendKey) {
        let Some(entry) = self.by_key.get(&key) else {
            return;
        };
        let mut value = BackendValue::default();
        if entry.references > 0 {
            let flags = [
                (true, BackendFlags::PRESENT),
                (entry.local > 0, BackendFlags::LOCAL),
                (entry.terminating > 0, BackendFlags::TERMINATING),
                (
                    self.node_addresses.contains(&key.address),
                    BackendFlags::HOST_NETWORK,
                ),
            ];
            let set = flags.into_iter().filter(|(set, _)| *set);
            value = BackendValue {
                address: key.address,
                port: key.port,
                protocol: key.protocol,
                flags: set.fold(BackendFlags::NONE, |flags, (_, flag)| flags.with(flag)),
                ..value
            };
        }
        self.image.set(entry.id.0, value);
    }

    pub(crate) fn puts(&mut self) -> Vec<MapOp> {
        let puts = self.image.puts().into_iter();
        puts.map(|(id, _, value)| MapOp::PutBackend(BackendId(id), value))
            .collect()
    }

    /// Removals that are due; gives back their ids.
    pub(crate) fn deletes(&mut self) -> (Vec<MapOp>, bool) {
        let freed = self.image.ripen();
        let any = !freed.is_empty();
        let mut ops = Vec::new();
        for (id, held) in freed {
            if let Some(key) = self.resting.remove(&id) {
                self.by_key.remove(&key);
            }
            self.ids.give_back(id);
            if held {
                ops.push(MapOp::DeleteBackend(BackendId(id)));
            }
        }
        (ops, any)
    }

    /// See [`ArrayImage::differing`].
    pub(crate) fn differing(&self, id: BackendId, found: BackendValue) -> Option<BackendValue> {
        self.image.differing(id.0, found)
    }

    pub(crate) fn waits(&self) -> bool {
        self.image.waits()
    }
}

impl Entry {
    fn resting(id: BackendId) -> Entry {
        Entry {
            id,
            references: 0,
            local: 0,
            terminating: 0,
        }
    }

    fn count(&mut self, traits: Traits, by: i32) {
        if traits.local {
            self.local = self.local.saturating_add_signed(by);
        }
        if traits.terminating {
            self.terminating = self.terminating.saturating_add_signed(by);
        }
    }
}

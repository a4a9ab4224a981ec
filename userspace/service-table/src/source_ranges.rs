//! SOURCE_RANGES: who may use the restricted frontends of a set.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use skep_abi::{PrefixKey, ServiceId, SourceRangeKey};

use crate::op::MapOp;

/// Entries as they shall be beside the entries as they are.
///
/// An entry that goes stays in the map for one round: a lookup under way may have seen the frontend as it was.
#[derive(Debug)]
pub(crate) struct SourceRanges {
    by_service: HashMap<ServiceId, (Arc<str>, BTreeSet<SourceRangeKey>)>,
    installed: BTreeSet<SourceRangeKey>,
    changed: BTreeSet<SourceRangeKey>,
    ripe: BTreeSet<SourceRangeKey>,
    limit: usize,
    /// Owners of ranges that found no room: their clients are turned away meanwhile.
    left_out: BTreeSet<Arc<str>>,
}

impl SourceRanges {
    pub(crate) fn new(limit: u32) -> SourceRanges {
        SourceRanges {
            by_service: HashMap::new(),
            installed: BTreeSet::new(),
            changed: BTreeSet::new(),
            ripe: BTreeSet::new(),
            limit: limit as usize,
            left_out: BTreeSet::new(),
        }
    }

    /// Replaces what the map is known to hold.
    pub(crate) fn observe(&mut self, entries: &[SourceRangeKey]) {
        self.installed = entries.iter().copied().collect();
        self.ripe.clear();
        let wanted = self.by_service.values().flat_map(|(_, ranges)| ranges);
        self.changed = self.installed.iter().chain(wanted).copied().collect();
    }

    /// Makes these the ranges of a set of `owner`'s.
    pub(crate) fn assign(&mut self, service: ServiceId, owner: &Arc<str>, ranges: &[PrefixKey]) {
        self.release(service);
        if !ranges.is_empty() {
            let keys: BTreeSet<_> = ranges
                .iter()
                .map(|range| SourceRangeKey::new(service, *range))
                .collect();
            self.changed.extend(&keys);
            self.by_service.insert(service, (owner.clone(), keys));
        }
    }

    /// The set has no ranges any more.
    pub(crate) fn release(&mut self, service: ServiceId) {
        if let Some((_, keys)) = self.by_service.remove(&service) {
            self.changed.extend(keys);
        }
    }

    fn owner(&self, key: &SourceRangeKey) -> Option<&Arc<str>> {
        let (owner, keys) = self.by_service.get(&key.service)?;
        keys.contains(key).then_some(owner)
    }

    /// What to write and then what to remove, which was given up in the round before. An entry that finds no room
    /// stays for the next round.
    pub(crate) fn ops(&mut self) -> (Vec<MapOp>, Vec<MapOp>) {
        self.left_out.clear();
        let (mut puts, mut given_up) = (Vec::new(), BTreeSet::new());
        for key in std::mem::take(&mut self.changed) {
            let Some(owner) = self.owner(&key) else {
                given_up.insert(key);
                continue;
            };
            if self.installed.contains(&key) {
                continue;
            }
            if self.installed.len() < self.limit {
                self.installed.insert(key);
                puts.push(MapOp::PutSourceRange(key));
            } else {
                self.left_out.insert(owner.clone());
                self.changed.insert(key);
            }
        }
        given_up.retain(|key| self.installed.contains(key));
        let mut deletes = Vec::new();
        for key in std::mem::replace(&mut self.ripe, given_up) {
            if self.owner(&key).is_none() && !self.ripe.contains(&key) {
                self.installed.remove(&key);
                deletes.push(MapOp::DeleteSourceRange(key));
            }
        }
        (puts, deletes)
    }

    /// Services whose ranges the map has no room for.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = &Arc<str>> {
        self.left_out.iter()
    }

    /// Whether the next round has work: removals, or room for what was left out.
    pub(crate) fn waits(&self) -> bool {
        !self.ripe.is_empty() || !self.left_out.is_empty() && self.installed.len() < self.limit
    }

    /// What the map lacks, and what it holds too much. What is about to change is left to that change.
    pub(crate) fn differing(&self, found: &[SourceRangeKey]) -> (Vec<SourceRangeKey>, Vec<SourceRangeKey>) {
        let found: BTreeSet<SourceRangeKey> = found.iter().copied().collect();
        let settled = |key: &&SourceRangeKey| !self.changed.contains(*key);
        let missing = self.installed.difference(&found).filter(settled);
        let strange = found.difference(&self.installed).filter(settled);
        (missing.copied().collect(), strange.copied().collect())
    }
}

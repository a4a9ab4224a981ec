//! Frontends: what clients dial. Two Service ports may claim the same; the stronger claim has it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use skep_abi::{FrontendFlags, FrontendKey, FrontendValue, ServiceId};

use crate::op::MapOp;

/// How strong a claim is: the kind of address, then the claimant's name. A ClusterIP is never lost to another
/// Service's externalIP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claimant {
    pub(crate) rank: u8,
    pub(crate) owner: Arc<str>,
}

/// How strong a claim to a frontend of this kind is, strongest first: by the kinds of addresses in their order.
pub(crate) fn rank(flags: FrontendFlags) -> u8 {
    let kinds = [
        FrontendFlags::CLUSTER_IP,
        FrontendFlags::NODE_PORT,
        FrontendFlags::LOAD_BALANCER,
    ];
    let rank = (0..).zip(kinds).find(|(_, kind)| flags.contains(*kind));
    rank.map_or(3, |(rank, _)| rank)
}

#[derive(Debug)]
pub(crate) struct Frontends {
    claims: HashMap<FrontendKey, BTreeMap<Claimant, FrontendValue>>,
    /// What the map holds.
    installed: BTreeMap<FrontendKey, FrontendValue>,
    /// What the map led to each service, as of [`Frontends::observe`].
    observed: HashMap<ServiceId, Vec<(FrontendKey, u8)>>,
    /// Keys to compare, in the order to write: what a SPLIT entry leads to before the entry itself.
    changed: BTreeSet<(Reverse<skep_abi::Scope>, FrontendKey)>,
    limit: usize,
    /// Owners of frontends that found no room.
    left_out: BTreeSet<Arc<str>>,
}

impl Frontends {
    pub(crate) fn new(limit: u32) -> Frontends {
        Frontends {
            claims: HashMap::new(),
            installed: BTreeMap::new(),
            observed: HashMap::new(),
            changed: BTreeSet::new(),
            limit: limit as usize,
            left_out: BTreeSet::new(),
        }
    }

    /// Replaces what the map is known to hold.
    pub(crate) fn observe(&mut self, entries: &[(FrontendKey, FrontendValue)]) {
        self.installed = entries.iter().copied().collect();
        self.observed.clear();
        for (key, value) in entries {
            self.observed
                .entry(value.service)
                .or_default()
                .push((*key, rank(value.flags)));
        }
        let keys = self.installed.keys().chain(self.claims.keys());
        self.changed = keys.map(|key| (Reverse(key.scope), *key)).collect();
    }

    /// Services of the map that may be taken for the one behind `own` frontends (key and rank, sorted): those to
    /// which these lead and no other, lest another's frontend meets foreign backends for a moment.
    pub(crate) fn adoptable(&self, own: &[(FrontendKey, u8)]) -> Vec<ServiceId> {
        let services = own
            .iter()
            .filter_map(|(key, _)| self.installed.get(key))
            .map(|value| value.service);
        let all_own = |service: &ServiceId| {
            let observed = self.observed.get(service);
            observed.is_some_and(|frontends| frontends.iter().all(|f| own.binary_search(f).is_ok()))
        };
        services.filter(all_own).collect()
    }

    pub(crate) fn claim(&mut self, key: FrontendKey, claimant: Claimant, value: FrontendValue) {
        let claims = self.claims.entry(key).or_default();
        if claims.insert(claimant, value) != Some(value) {
            self.changed.insert((Reverse(key.scope), key));
        }
    }

    pub(crate) fn release(&mut self, key: FrontendKey, claimant: &Claimant) {
        let Some(claims) = self.claims.get_mut(&key) else {
            return;
        };
        claims.remove(claimant);
        if claims.is_empty() {
            self.claims.remove(&key);
        }
        self.changed.insert((Reverse(key.scope), key));
    }

    /// What to write and then what to remove. An entry that finds no room stays for the next round.
    pub(crate) fn ops(&mut self) -> (Vec<MapOp>, Vec<MapOp>) {
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        self.left_out.clear();
        self.observed.clear();
        for (order, key) in std::mem::take(&mut self.changed) {
            match self.claims.get(&key).and_then(BTreeMap::first_key_value) {
                None => deletes.push(key),
                Some((claimant, value)) => {
                    // Removals come after: what they free is not there yet.
                    if !self.installed.contains_key(&key) && self.installed.len() >= self.limit {
                        self.left_out.insert(claimant.owner.clone());
                        self.changed.insert((order, key));
                    } else if self.installed.insert(key, *value) != Some(*value) {
                        puts.push(MapOp::PutFrontend(key, *value));
                    }
                }
            }
        }
        deletes.retain(|key| self.installed.remove(key).is_some());
        deletes.sort_unstable();
        (puts, deletes.into_iter().map(MapOp::DeleteFrontend).collect())
    }

    /// Claimants whose frontends the map has no room for.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = &Arc<str>> {
        self.left_out.iter()
    }

    /// What the map should hold instead of what was found. None if that is right, or about to change.
    pub(crate) fn differing(
        &self,
        key: &FrontendKey,
        found: Option<&FrontendValue>,
    ) -> Option<Option<FrontendValue>> {
        let right = self.installed.get(key);
        let changes = self.changed.contains(&(Reverse(key.scope), *key));
        (right != found && !changes).then(|| right.copied())
    }

    /// Keys of the map from after `after`, ascending.
    pub(crate) fn installed_after(&self, after: Option<FrontendKey>) -> impl Iterator<Item = FrontendKey> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.installed
            .range((from, Bound::Unbounded))
            .map(|(key, _)| *key)
    }

    pub(crate) fn installed_count(&self) -> usize {
        self.installed.len()
    }

    /// Whether something left out would now find room.
    pub(crate) fn waits(&self) -> bool {
        !self.left_out.is_empty() && self.installed.len() < self.limit
    }
}

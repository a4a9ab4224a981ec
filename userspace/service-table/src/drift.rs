//! Drift: what the maps are found to hold beside what was written to them.

use skep_abi::{
    BackendId, BackendValue, FrontendKey, FrontendValue, ServiceId, ServiceValue, SourceRangeKey, maps,
};

use crate::op::MapOp;
use crate::table::ServiceTable;

/// What a map was found to hold at some of its keys. Nothing was written between the last
/// [`ServiceTable::take_ops`], whose operations are all done, and the reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// FRONTENDS; None for a key that is not there.
    Frontends(Vec<(FrontendKey, Option<FrontendValue>)>),
    /// SOURCE_RANGES, all of it.
    SourceRanges(Vec<SourceRangeKey>),
    /// NODE_PORTS, absent elements as zeroes.
    NodePorts(Vec<(u32, u64)>),
    /// SERVICES, absent elements as zeroes.
    Services(Vec<(ServiceId, ServiceValue)>),
    /// SLOTS, absent elements as zeroes.
    Slots(Vec<(u32, BackendId)>),
    /// BACKENDS, absent elements as zeroes.
    Backends(Vec<(BackendId, BackendValue)>),
}

impl Found {
    /// The map's name.
    pub fn map(&self) -> &'static str {
        let spec = match self {
            Found::Frontends(_) => maps::FRONTENDS,
            Found::SourceRanges(_) => maps::SOURCE_RANGES,
            Found::NodePorts(_) => maps::NODE_PORTS,
            Found::Services(_) => maps::SERVICES,
            Found::Slots(_) => maps::SLOTS,
            Found::Backends(_) => maps::BACKENDS,
        };
        spec.name
    }
}

impl ServiceTable {
    /// Operations that undo what somebody else did to the map: they lead back to what was written, by key. What is
    /// about to change is left to that change.
    pub fn repairs(&self, found: &Found) -> Vec<MapOp> {
        match found {
            Found::Frontends(entries) => {
                let frontends = &self.maps.frontends;
                let repairs = entries.iter().filter_map(|(key, found)| {
                    let right = frontends.differing(key, found.as_ref())?;
                    Some(right.map_or(MapOp::DeleteFrontend(*key), |value| {
                        MapOp::PutFrontend(*key, value)
                    }))
                });
                repairs.collect()
            }
            Found::SourceRanges(entries) => {
                let (missing, strange) = self.maps.source_ranges.differing(entries);
                let puts = missing.into_iter().map(MapOp::PutSourceRange);
                puts.chain(strange.into_iter().map(MapOp::DeleteSourceRange))
                    .collect()
            }
            Found::NodePorts(words) => {
                let repairs = words.iter().filter_map(|(word, found)| {
                    let right = self.maps.taken_ports.differing(*word, *found)?;
                    Some(if right == 0 {
                        MapOp::DeleteNodePorts(*word)
                    } else {
                        MapOp::PutNodePorts(*word, right)
                    })
                });
                repairs.collect()
            }
            Found::Services(elements) => {
                let repairs = elements.iter().filter_map(|(id, found)| {
                    let right = self.maps.space.differing_service(*id, *found)?;
                    let absent = right == ServiceValue::default();
                    Some(if absent {
                        MapOp::DeleteService(*id)
                    } else {
                        MapOp::PutService(*id, right)
                    })
                });
                repairs.collect()
            }
            Found::Slots(elements) => {
                let repairs = elements.iter().filter_map(|(slot, found)| {
                    let right = self.maps.space.differing_slot(*slot, *found)?;
                    let absent = right == BackendId::default();
                    Some(if absent {
                        MapOp::DeleteSlot(*slot)
                    } else {
                        MapOp::PutSlot(*slot, right)
                    })
                });
                repairs.collect()
            }
            Found::Backends(elements) => {
                let repairs = elements.iter().filter_map(|(id, found)| {
                    let right = self.maps.backends.differing(*id, *found)?;
                    let absent = right == BackendValue::default();
                    Some(if absent {
                        MapOp::DeleteBackend(*id)
                    } else {
                        MapOp::PutBackend(*id, right)
                    })
                });
                repairs.collect()
            }
        }
    }

    /// Keys that FRONTENDS should hold, a part at a time: at most `count` from after `after`, or from the first.
    pub fn frontends_after(&self, after: Option<FrontendKey>, count: usize) -> Vec<FrontendKey> {
        self.maps.frontends.installed_after(after).take(count).collect()
    }

    /// How many entries FRONTENDS should hold.
    pub fn frontend_count(&self) -> usize {
        self.maps.frontends.installed_count()
    }
}

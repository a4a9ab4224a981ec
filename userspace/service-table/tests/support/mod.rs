//! The maps as plain collections, and a reader of them.

use std::collections::{BTreeMap, BTreeSet};

use skep_abi::{
    BackendId, BackendValue, FrontendKey, FrontendValue, ServiceFlags, ServiceId, ServiceName, ServiceSerial,
    ServiceValue, SourceRangeKey,
};
use skep_service_table::{IdState, MapOp};

/// What the kernel would hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MapModel {
    pub(crate) frontends: BTreeMap<FrontendKey, FrontendValue>,
    pub(crate) source_ranges: BTreeSet<SourceRangeKey>,
    pub(crate) node_ports: BTreeMap<u32, u64>,
    pub(crate) services: BTreeMap<ServiceId, ServiceValue>,
    pub(crate) slots: BTreeMap<u32, BackendId>,
    pub(crate) backends: BTreeMap<BackendId, BackendValue>,
    pub(crate) names: BTreeMap<ServiceSerial, ServiceName>,
}

impl MapModel {
    pub(crate) fn apply_all(&mut self, ops: &[MapOp]) {
        ops.iter().for_each(|op| self.apply(op));
    }

    pub(crate) fn apply(&mut self, op: &MapOp) {
        match *op {
            MapOp::PutName(serial, name) => {
                let other = self.names.insert(serial, name).filter(|old| *old != name);
                assert!(other.is_none(), "{op:?} takes the number of {other:?}");
            }
            MapOp::PutBackend(id, value) => drop(self.backends.insert(id, value)),
            MapOp::PutSlot(slot, id) => drop(self.slots.insert(slot, id)),
            MapOp::PutService(id, value) => drop(self.services.insert(id, value)),
            MapOp::PutSourceRange(key) => assert!(self.source_ranges.insert(key), "{op:?}"),
            MapOp::PutNodePorts(word, bits) => drop(self.node_ports.insert(word, bits)),
            MapOp::PutFrontend(key, value) => drop(self.frontends.insert(key, value)),
            MapOp::DeleteFrontend(key) => assert!(self.frontends.remove(&key).is_some(), "{op:?}"),
            MapOp::DeleteSourceRange(key) => assert!(self.source_ranges.remove(&key), "{op:?}"),
            MapOp::DeleteNodePorts(word) => assert!(self.node_ports.remove(&word).is_some(), "{op:?}"),
            MapOp::DeleteService(id) => assert!(self.services.remove(&id).is_some(), "{op:?}"),
            MapOp::DeleteSlot(slot) => assert!(self.slots.remove(&slot).is_some(), "{op:?}"),
            MapOp::DeleteName(serial) => assert!(self.names.remove(&serial).is_some(), "{op:?}"),
            MapOp::DeleteBackend(id) => assert!(self.backends.remove(&id).is_some(), "{op:?}"),
        }
    }

    pub(crate) fn state(&self) -> IdState {
        IdState {
            frontends: self.frontends.iter().map(|(key, value)| (*key, *value)).collect(),
            source_ranges: self.source_ranges.iter().copied().collect(),
            node_ports: self
                .node_ports
                .iter()
                .map(|(word, bits)| (*word, *bits))
                .collect(),
            services: self.services.iter().map(|(key, value)| (*key, *value)).collect(),
            slots: self.slots.iter().map(|(key, value)| (*key, *value)).collect(),
            names: self.names.iter().map(|(key, value)| (*key, *value)).collect(),
            backends: self.backends.iter().map(|(key, value)| (*key, *value)).collect(),
        }
    }

    /// Every backend that a reader of this frontend can get. Panics where a reader would find a hole.
    pub(crate) fn picks(&self, frontend: &FrontendKey) -> Option<Vec<BackendValue>> {
        let value = self.frontends.get(frontend)?;
        Some(
            self.members(value.service)
                .expect("a frontend leads to a service"),
        )
    }

    /// Every backend of a service. Panics at holes.
    pub(crate) fn members(&self, service: ServiceId) -> Option<Vec<BackendValue>> {
        let service = self.services.get(&service)?;
        assert!(service.flags.contains(ServiceFlags::PRESENT));
        assert!(self.names.contains_key(&service.serial), "a service has a name");
        let slots = service.slot_offset..service.slot_offset + service.slot_count;
        let ids = slots.map(|slot| self.slots.get(&slot).expect("a slot in use holds a backend"));
        Some(
            ids.map(|id| *self.backends.get(id).expect("a slot leads to a backend"))
                .collect(),
        )
    }
}

//! What is written to the maps, and what they held.

use skep_abi::{
    BackendId, BackendValue, FrontendKey, FrontendValue, ServiceId, ServiceName, ServiceSerial, ServiceValue,
    SourceRangeKey,
};

/// One write to one map.
///
/// [`crate::ServiceTable::take_ops`] orders them as the variants stand here: what is pointed to is written before
/// what points to it, and removed after. Within a variant, by key; of frontends, the `EXTERNAL` scope comes first.
/// Sets that run empty are written after the frontends, which may just be moving away from them.
/// Whatever a source range, service, slot or backend is replaced by, its own element is removed no sooner than by the next
/// `take_ops`, so that a lookup under way still finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapOp {
    /// Write an entry of SERVICE_NAMES, and count under that number.
    PutName(ServiceSerial, ServiceName),
    /// Write an element of BACKENDS.
    PutBackend(BackendId, BackendValue),
    /// Write an element of SLOTS.
    PutSlot(u32, BackendId),
    /// Write an element of SERVICES: this switches every frontend of the service port at once.
    PutService(ServiceId, ServiceValue),
    /// Write an entry of SOURCE_RANGES.
    PutSourceRange(SourceRangeKey),
    /// Write an element of NODE_PORTS.
    PutNodePorts(u32, u64),
    /// Write an entry of FRONTENDS.
    PutFrontend(FrontendKey, FrontendValue),
    /// Remove an entry of FRONTENDS.
    DeleteFrontend(FrontendKey),
    /// Zero an element of NODE_PORTS.
    DeleteNodePorts(u32),
    /// Remove an entry of SOURCE_RANGES.
    DeleteSourceRange(SourceRangeKey),
    /// Zero an element of SERVICES.
    DeleteService(ServiceId),
    /// Zero an element of SLOTS.
    DeleteSlot(u32),
    /// Zero an element of BACKENDS.
    DeleteBackend(BackendId),
    /// Remove an entry of SERVICE_NAMES, and what was counted under that number.
    DeleteName(ServiceSerial),
}

/// What the maps hold, entry by entry in any order: the memory of ids over a restart.
#[derive(Clone, Debug, Default)]
pub struct IdState {
    /// FRONTENDS.
    pub frontends: Vec<(FrontendKey, FrontendValue)>,
    /// NODE_PORTS, elements that are not zero.
    pub node_ports: Vec<(u32, u64)>,
    /// SOURCE_RANGES.
    pub source_ranges: Vec<SourceRangeKey>,
    /// SERVICES, elements that are not all zero.
    pub services: Vec<(ServiceId, ServiceValue)>,
    /// SLOTS, elements that are not zero.
    pub slots: Vec<(u32, BackendId)>,
    /// BACKENDS, elements that are not all zero.
    pub backends: Vec<(BackendId, BackendValue)>,
    /// SERVICE_NAMES, entries under whose number is counted.
    pub names: Vec<(ServiceSerial, ServiceName)>,
}

//! What the decisions need from around them. In the kernel: maps and helpers. In tests: plain memory.

use core::ops::Deref;

use skep_abi::{
    Address, BackendId, BackendValue, Counter, FlowFlags, FlowKey, FlowValue, FragmentKey, FragmentValue,
    FrontendKey, FrontendValue, NodeConfig, PodRange, ServiceId, ServiceSerial, ServiceValue, SocketKey,
    SocketValue,
};

use crate::account::Event;
use crate::answer::Refusal;

/// The tables that userspace fills with Services. Absent and all-zero elements are both `None`-like; the
/// callers check for PRESENT.
pub trait ServiceTables {
    /// FRONTENDS.
    fn frontend(&self, key: &FrontendKey) -> Option<FrontendValue>;
    /// SERVICES.
    fn service(&self, id: ServiceId) -> Option<&ServiceValue>;
    /// SLOTS.
    fn slot(&self, index: u32) -> Option<BackendId>;
    /// BACKENDS.
    fn backend(&self, id: BackendId) -> Option<&BackendValue>;
    /// Whether `client` lies in the service's SOURCE_RANGES.
    fn in_source_ranges(&self, service: ServiceId, client: &Address) -> bool;
    /// Whether `address` lies in SERVICE_RANGES.
    fn in_service_range(&self, address: &Address) -> bool;
    /// A uniformly distributed number, new at every call.
    fn random(&self) -> u32;
    /// Adds one to a counter.
    fn count(&self, counter: Counter);
    /// SERVICE_STATS: adds to what is counted under a number, if anything is.
    fn account(&self, serial: ServiceSerial, event: Event);
}

/// What the socket hooks remember.
pub trait SocketTables {
    /// SOCKET_CHOICE: the backend that an unconnected socket uses for a frontend.
    fn choice(&self, key: &SocketKey) -> Option<SocketValue>;
    /// Writes SOCKET_CHOICE; false when it could not.
    fn put_choice(&self, key: &SocketKey, value: &SocketValue) -> bool;
    /// SOCKET_REVERSE: the frontend that a socket dialled to reach a backend.
    fn reverse(&self, key: &SocketKey) -> Option<SocketValue>;
    /// Writes SOCKET_REVERSE; false when it could not.
    fn put_reverse(&self, key: &SocketKey, value: &SocketValue) -> bool;
    /// Removes from SOCKET_REVERSE, if it is there.
    fn remove_reverse(&self, key: &SocketKey);
    /// Whether the socket lives in the node's own network namespace.
    fn in_node_network(&self) -> bool;
    /// The address by which the socket's namespace reaches `remote`: the node's, or the pod's by POD_NETWORKS.
    /// Unspecified when it is not known.
    fn client(&self, remote: &Address) -> Address;
}

/// How an insertion went that must not replace anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The key is ours now.
    New,
    /// The key was taken.
    Taken,
    /// The table refused.
    Failed,
}

/// FLOWS.
pub trait FlowTable {
    /// An entry in place: another CPU may change it while it is looked at.
    type Flow<'a>: Deref<Target = FlowValue>
    where
        Self: 'a;

    /// Finds an entry.
    fn flow(&self, key: &FlowKey) -> Option<Self::Flow<'_>>;
    /// Inserts an entry unless the key is taken; atomic over all CPUs.
    fn insert_flow(&self, key: &FlowKey, value: &FlowValue) -> Inserted;
    /// Removes an entry, if it is there.
    fn remove_flow(&self, key: &FlowKey);
    /// Calls `step` with 0, 1 and so on below `limit`, until it returns false. (An eBPF verifier follows a loop
    /// round by round, but looks at the body of this one once.)
    fn repeat<S: FnMut(u32) -> bool>(limit: u32, step: S);
    /// Sets flags and time of an entry in place, if it is there.
    fn renew_flow(&self, key: &FlowKey, flags: FlowFlags, now_s: u32);
}

/// FRAGMENTS.
pub trait FragmentTable {
    /// Finds an entry.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue>;
    /// Writes an entry, if there is a way to.
    fn put_fragment(&self, key: &FragmentKey, value: &FragmentValue);
}

/// Everything a packet's way depends on.
pub trait PacketWorld: ServiceTables + FlowTable + FragmentTable {
    /// CONFIG.
    fn config(&self) -> Option<&NodeConfig>;
    /// POD_RANGES: whose pods have `address`.
    fn pod_range(&self, address: &Address) -> PodRange;
    /// Whether pods reach `address` with their own source address.
    fn keeps_source(&self, address: &Address) -> bool;
    /// Whether one more ICMP error may be sent now, see [`crate::answer::take`].
    fn may_report(&self) -> bool;
    /// Seconds of the monotonic clock.
    fn now_s(&self) -> u32;
    /// Finds the way of the packet to `destination` by the routing table, past the node's input path. There it
    /// goes, rewritten by then, if the verdict is [`crate::Verdict::Forwarded`]; what was found last counts.
    ///
    /// # Errors
    /// Why there is none, for a packet as long as this one is now.
    fn forward(&self, source: &Address, destination: &Address) -> Result<(), Refusal>;
}

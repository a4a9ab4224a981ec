//! Names, shapes and default sizes of the maps, and the fingerprint of all of them.

use crate::config::{NodeConfig, PodAddresses, PodRange, PrefixKey};
use crate::counter::COUNTER_SLOTS;
use crate::flow::{FlowKey, FlowValue};
use crate::fragment::{FragmentKey, FragmentValue};
use crate::node_port::NODE_PORT_WORDS;
use crate::plain::{HASH_START, Plain, Scribe, mix, mix_text};
use crate::report::ReportBudget;
use crate::service::{BackendId, BackendValue, FrontendKey, FrontendValue, ServiceValue, SourceRangeKey};
use crate::socket::{SocketKey, SocketValue};
use crate::stats::{ServiceName, ServiceSerial, ServiceStats};

/// Kinds of maps in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// Hash, allocated on demand.
    Hash,
    /// Array.
    Array,
    /// Per-CPU array. Its values are `u64` counts, each the sum over all CPUs.
    PerCpuArray,
    /// Hash that evicts the least recently used entry when full.
    LruHash,
    /// Longest-prefix trie.
    LpmTrie,
    /// Per-CPU hash, allocated on demand. Its values are as those of [`MapKind::PerCpuArray`].
    PerCpuHash,
}

impl MapKind {
    /// Whether every element is there from the start.
    pub const fn is_array(self) -> bool {
        matches!(self, Self::Array | Self::PerCpuArray)
    }

    /// Whether an element has a value for each CPU.
    pub const fn is_per_cpu(self) -> bool {
        matches!(self, Self::PerCpuArray | Self::PerCpuHash)
    }

    /// Name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Array => "array",
            Self::PerCpuArray => "per-CPU array",
            Self::LruHash => "LRU hash",
            Self::LpmTrie => "prefix trie",
            Self::PerCpuHash => "per-CPU hash",
        }
    }
}

/// Describes the value that some bytes of a map are; false if their number is wrong.
pub type Describe = fn(&[u8], &mut dyn Scribe) -> bool;

fn describe<T: Plain>(bytes: &[u8], scribe: &mut dyn Scribe) -> bool {
    let value = T::from_bytes(bytes);
    if let Some(value) = &value {
        value.describe(scribe);
    }
    value.is_some()
}

/// Shape of one map.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    /// Name in the eBPF objects and of the pin. At most 15 characters, the kernel's limit.
    pub name: &'static str,
    /// Kind.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// What lies where in key and value.
    layout: u64,
    /// Capacity unless configured otherwise.
    pub default_entries: u32,
    /// Describes keys.
    pub describe_key: Describe,
    /// Describes values.
    pub describe_value: Describe,
}

impl MapSpec {
    const fn of<K: Plain, V: Plain>(name: &'static str, kind: MapKind, default_entries: u32) -> Self {
        assert!(name.len() <= 15);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "sizes of small structs, in a constant"
        )]
        Self {
            name,
            kind,
            key_size: size_of::<K>() as u32,
            value_size: size_of::<V>() as u32,
            layout: mix(mix(HASH_START, K::LAYOUT), V::LAYOUT),
            default_entries,
            describe_key: describe::<K>,
            describe_value: describe::<V>,
        }
    }
}

/// [`FrontendKey`] → [`FrontendValue`].
pub const FRONTENDS: MapSpec = MapSpec::of::<FrontendKey, FrontendValue>("FRONTENDS", MapKind::Hash, 262_144);
/// [`crate::ServiceId`] → [`ServiceValue`].
pub const SERVICES: MapSpec = MapSpec::of::<u32, ServiceValue>("SERVICES", MapKind::Array, 65_536);
/// Slot number → [`BackendId`].
pub const SLOTS: MapSpec = MapSpec::of::<u32, BackendId>("SLOTS", MapKind::Array, 1_048_576);
/// [`BackendId`] → [`BackendValue`].
pub const BACKENDS: MapSpec = MapSpec::of::<u32, BackendValue>("BACKENDS", MapKind::Array, 524_288);
/// [`ServiceSerial`] → [`ServiceStats`].
pub const SERVICE_STATS: MapSpec =
    MapSpec::of::<ServiceSerial, ServiceStats>("SERVICE_STATS", MapKind::PerCpuHash, 65_536);
/// [`ServiceSerial`] → [`ServiceName`].
pub const SERVICE_NAMES: MapSpec =
    MapSpec::of::<ServiceSerial, ServiceName>("SERVICE_NAMES", MapKind::Hash, 65_536);
/// (service, clients) → 1: who may use the service's restricted frontends.
pub const SOURCE_RANGES: MapSpec =
    MapSpec::of::<SourceRangeKey, u32>("SOURCE_RANGES", MapKind::LpmTrie, 65_536);
/// Bitmap of the node ports (see [`crate::node_port`]).
pub const NODE_PORTS: MapSpec = MapSpec::of::<u32, u64>("NODE_PORTS", MapKind::Array, NODE_PORT_WORDS);
/// Prefixes that hold service addresses and nothing else.
pub const SERVICE_RANGES: MapSpec = MapSpec::of::<PrefixKey, u32>("SERVICE_RANGES", MapKind::LpmTrie, 1_024);
/// Destinations that pods reach with their own address.
pub const NON_MASQUERADE: MapSpec = MapSpec::of::<PrefixKey, u32>("NON_MASQUERADE", MapKind::LpmTrie, 16_384);
/// Addresses of pods.
pub const POD_RANGES: MapSpec = MapSpec::of::<PrefixKey, PodRange>("POD_RANGES", MapKind::LpmTrie, 256);
/// Cookie of a pod's network namespace → [`PodAddresses`].
pub const POD_NETWORKS: MapSpec = MapSpec::of::<u64, PodAddresses>("POD_NETWORKS", MapKind::Hash, 4_096);
/// (socket, backend) → the frontend it dialled.
pub const SOCKET_REVERSE: MapSpec =
    MapSpec::of::<SocketKey, SocketValue>("SOCKET_REVERSE", MapKind::LruHash, 131_072);
/// (unconnected UDP socket, frontend) → the backend it uses.
pub const SOCKET_CHOICE: MapSpec =
    MapSpec::of::<SocketKey, SocketValue>("SOCKET_CHOICE", MapKind::LruHash, 65_536);
/// Translated flows of packets.
pub const FLOWS: MapSpec = MapSpec::of::<FlowKey, FlowValue>("FLOWS", MapKind::LruHash, 262_144);
/// Packet → the ports that its first fragment had.
pub const FRAGMENTS: MapSpec =
    MapSpec::of::<FragmentKey, FragmentValue>("FRAGMENTS", MapKind::LruHash, 16_384);
/// One [`ReportBudget`].
pub const REPORTS: MapSpec = MapSpec::of::<u32, ReportBudget>("REPORTS", MapKind::Array, 1);
/// One [`NodeConfig`].
pub const CONFIG: MapSpec = MapSpec::of::<u32, NodeConfig>("CONFIG", MapKind::Array, 1);
/// [`crate::Counter`] → count, per CPU.
pub const COUNTERS: MapSpec = MapSpec::of::<u32, u64>("COUNTERS", MapKind::PerCpuArray, COUNTER_SLOTS);
/// One `u64`: the fingerprint the other pins were made with.
pub const LAYOUT: MapSpec = MapSpec::of::<u32, u64>("LAYOUT", MapKind::Array, 1);

/// Every map, in the order they are created. [`LAYOUT`] comes last: it says that the others are whole.
pub const ALL: [&MapSpec; 20] = [
    &FRONTENDS,
    &SERVICES,
    &SLOTS,
    &BACKENDS,
    &SERVICE_STATS,
    &SERVICE_NAMES,
    &SOURCE_RANGES,
    &NODE_PORTS,
    &SERVICE_RANGES,
    &NON_MASQUERADE,
    &POD_RANGES,
    &POD_NETWORKS,
    &SOCKET_REVERSE,
    &SOCKET_CHOICE,
    &FLOWS,
    &FRAGMENTS,
    &REPORTS,
    &CONFIG,
    &COUNTERS,
    &LAYOUT,
];

/// Raised by hand when the meaning of a field changes but neither its name nor its place.
const MEANING: u64 = 1;

/// Identifies the layout of all maps. Capacities are not part of it.
pub const LAYOUT_FINGERPRINT: u64 = fingerprint();

/// A hash over names, kinds, sizes and layouts.
const fn fingerprint() -> u64 {
    let mut hash = mix(HASH_START, MEANING);
    let mut index = 0;
    while index < ALL.len() {
        let spec = ALL[index];
        hash = mix_text(hash, spec.name);
        hash = mix(hash, spec.kind as u64);
        hash = mix(hash, spec.key_size as u64);
        hash = mix(hash, spec.value_size as u64);
        hash = mix(hash, spec.layout);
        index += 1;
    }
    hash
}

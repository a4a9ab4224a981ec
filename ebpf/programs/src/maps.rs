//! The maps, in the shapes that `skep-abi` defines. The loader creates and pins them before it loads a
//! program; sizes here are only the defaults.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_map_delete_elem, bpf_map_lookup_elem, bpf_map_update_elem};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap};
use skep_abi::{
    Address, BackendId, BackendValue, Counter, FlowKey, FlowValue, FragmentKey, FragmentValue, FrontendKey,
    FrontendValue, NodeConfig, Plain, PodAddresses, PodRange, PrefixKey, ReportBudget, ServiceId,
    ServiceSerial, ServiceStats, ServiceValue, SocketKey, SocketValue, SourceRangeKey, maps as spec,
};
use skep_datapath::account::Event;

/// Allocated entry by entry, not all at the start.
const BPF_F_NO_PREALLOC: u32 = 1;

#[map]
pub static FRONTENDS: HashMap<FrontendKey, FrontendValue> =
    HashMap::pinned(spec::FRONTENDS.default_entries, BPF_F_NO_PREALLOC);
#[map]
pub static SERVICES: Array<ServiceValue> = Array::pinned(spec::SERVICES.default_entries, 0);
#[map]
pub static SLOTS: Array<BackendId> = Array::pinned(spec::SLOTS.default_entries, 0);
#[map]
pub static BACKENDS: Array<BackendValue> = Array::pinned(spec::BACKENDS.default_entries, 0);
#[map]
pub static SERVICE_STATS: PerCpuHashMap<ServiceSerial, ServiceStats> =
    PerCpuHashMap::pinned(spec::SERVICE_STATS.default_entries, BPF_F_NO_PREALLOC);
#[map]
pub static SOURCE_RANGES: LpmTrie<[u32; 5], u32> = LpmTrie::pinned(spec::SOURCE_RANGES.default_entries, 0);
#[map]
pub static NODE_PORTS: Array<u64> = Array::pinned(spec::NODE_PORTS.default_entries, 0);
#[map]
pub static SERVICE_RANGES: LpmTrie<Address, u32> = LpmTrie::pinned(spec::SERVICE_RANGES.default_entries, 0);
#[map]
pub static NON_MASQUERADE: LpmTrie<Address, u32> = LpmTrie::pinned(spec::NON_MASQUERADE.default_entries, 0);
#[map]
pub static POD_RANGES: LpmTrie<Address, PodRange> = LpmTrie::pinned(spec::POD_RANGES.default_entries, 0);
#[map]
pub static POD_NETWORKS: HashMap<u64, PodAddresses> =
    HashMap::pinned(spec::POD_NETWORKS.default_entries, BPF_F_NO_PREALLOC);
#[map]
pub static SOCKET_REVERSE: LruHashMap<SocketKey, SocketValue> =
    LruHashMap::pinned(spec::SOCKET_REVERSE.default_entries, 0);
#[map]
pub static SOCKET_CHOICE: LruHashMap<SocketKey, SocketValue> =
    LruHashMap::pinned(spec::SOCKET_CHOICE.default_entries, 0);
#[map]
pub static FLOWS: LruHashMap<FlowKey, FlowValue> = LruHashMap::pinned(spec::FLOWS.default_entries, 0);
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue> =
    LruHashMap::pinned(spec::FRAGMENTS.default_entries, 0);
#[map]
pub static REPORTS: Array<ReportBudget> = Array::pinned(spec::REPORTS.default_entries, 0);
#[map]
pub static CONFIG: Array<NodeConfig> = Array::pinned(spec::CONFIG.default_entries, 0);
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::pinned(spec::COUNTERS.default_entries, 0);

/// The kernel's address of a map: the loader patches it into the instruction that takes the static's address.
#[inline(always)]
fn handle<M>(map: &'static M) -> *mut c_void {
    core::ptr::from_ref(map).cast_mut().cast()
}

/// Longest-prefix match of a whole address. [`PrefixKey`] is laid out as the kernel's trie key and, unlike
/// aya's packed type, lets the compiler store words.
#[inline(always)]
pub fn longest_prefix<V: Plain>(trie: &'static LpmTrie<Address, V>, address: &Address) -> Option<V> {
    let value = find_prefix(handle(trie), address).cast::<V>();
    // SAFETY: the map's values have V's type; null-checked by as_ref, and copied at once.
    unsafe { value.as_ref() }.copied()
}

/// A function of its own for the sake of the stack.
#[inline(never)]
fn find_prefix(trie: *mut c_void, address: &Address) -> *mut c_void {
    const _: () = assert!(size_of::<Key<Address>>() == size_of::<PrefixKey>());
    let key = PrefixKey {
        prefix_length: 128,
        address: *address,
    };
    // SAFETY: the map's key type has PrefixKey's size (asserted), and the key lives on the stack.
    unsafe { bpf_map_lookup_elem(trie, core::ptr::from_ref(&key).cast()) }
}

/// Whether the client lies in one of the service's ranges. A function of its own for the sake of the stack.
#[inline(never)]
pub fn in_source_ranges(service: ServiceId, client: &Address) -> bool {
    const _: () = assert!(size_of::<Key<[u32; 5]>>() == size_of::<SourceRangeKey>());
    let key = SourceRangeKey::of_client(service, *client);
    // SAFETY: the map's key type has SourceRangeKey's size (asserted), and the key lives on the stack.
    !unsafe { bpf_map_lookup_elem(handle(&SOURCE_RANGES), core::ptr::from_ref(&key).cast()) }.is_null()
}

/// Copies an LRU entry.
#[inline(always)]
pub fn read<K, V: Copy>(map: &'static LruHashMap<K, V>, key: &K) -> Option<V> {
    // SAFETY: the kernel keeps the element's memory while the program runs. Another CPU may reuse the element
    // for another key meanwhile; the copy is then that of a neighbour, as with every LRU map, and worth one
    // misdirected packet at worst.
    unsafe { map.get(key) }.copied()
}

/// Updates an entry with the kernel's flags (0 = any, 1 = only if absent). Err holds the negative errno.
#[inline(always)]
pub fn write<K, V>(map: &'static LruHashMap<K, V>, key: &K, value: &V, flags: u64) -> Result<(), i64> {
    // SAFETY: key and value have the map's types and live on the stack.
    let result = unsafe {
        bpf_map_update_elem(
            handle(map),
            core::ptr::from_ref(key).cast(),
            core::ptr::from_ref(value).cast(),
            flags,
        )
    };
    if result == 0 { Ok(()) } else { Err(result) }
}

/// Removes an entry, if it is there.
#[inline(always)]
pub fn remove<K, V>(map: &'static LruHashMap<K, V>, key: &K) {
    // SAFETY: the key has the map's type and lives on the stack. The only failure is absence.
    unsafe { bpf_map_delete_elem(handle(map), core::ptr::from_ref(key).cast()) };
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the pointer is to this CPU's 8-byte element and was null-checked. A program of another
        // context on the same CPU may interrupt; a count may then be lost, which counters tolerate.
        unsafe { *value = (*value).wrapping_add(1) };
    }
}

/// Counts what happened to a service port on this CPU.
#[inline(always)]
pub fn account(serial: ServiceSerial, event: Event) {
    let Some(stats) = SERVICE_STATS.get_ptr_mut(&serial) else {
        return;
    };
    // SAFETY: the pointer is to this CPU's element and was null-checked; the kernel keeps its memory while the
    // program runs, and nothing else than additions like these and copies touches it.
    unsafe {
        match event {
            Event::SocketConnected => add(&raw mut (*stats).socket_connections, 1),
            Event::SocketRefused => add(&raw mut (*stats).socket_refusals, 1),
            Event::FlowOpened => add(&raw mut (*stats).flows, 1),
            Event::FlowRefused => add(&raw mut (*stats).flow_refusals, 1),
            Event::PacketIn { bytes } => {
                add(&raw mut (*stats).packets_in, 1);
                add(&raw mut (*stats).bytes_in, bytes.into());
            }
            Event::PacketOut { bytes } => {
                add(&raw mut (*stats).packets_out, 1);
                add(&raw mut (*stats).bytes_out, bytes.into());
            }
        }
    }
}

/// Adds to a count of this CPU.
///
/// # Safety
/// `count` points to a live `u64` of this CPU's element.
#[inline(always)]
unsafe fn add(count: *mut u64, more: u64) {
    // SAFETY: passed on to the caller. Programs on packets do not interrupt each other; of two sockets that are
    // dialled on one CPU, one of which interrupts the other right here, one count may be lost.
    unsafe { *count = (*count).wrapping_add(more) };
}

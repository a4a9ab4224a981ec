//! The traits.

use skep_abi::{
    BackendId, BackendValue, FrontendKey, FrontendValue, MapSpec, PrefixKey, ServiceId, ServiceName,
    ServiceSerial, ServiceStats, ServiceValue, SourceRangeKey,
};

use crate::MapError;
use crate::sys::BatchCursor;

/// One map with typed keys and values. Every single operation is atomic towards the programs.
///
/// Array maps (SERVICES, SLOTS, BACKENDS) have every index from the start: there, a value of all zeroes is
/// the same as absent, `delete` writes zeroes, and `entries` skips them.
pub trait Table<K, V>: Send + Sync {
    /// The map's name and shape.
    fn spec(&self) -> &'static MapSpec;

    /// Most entries the map can hold (the number of elements of an array).
    fn capacity(&self) -> u32;

    /// Writes an entry, replacing the one with the same key.
    ///
    /// # Errors
    /// [`MapError::Full`] when a new key finds no room, [`MapError::OutOfRange`] for arrays.
    fn put(&self, key: &K, value: &V) -> Result<(), MapError>;

    /// Writes entries in order, with fewer system calls than [`Table::put`] one by one. After an error an
    /// unknown prefix of them is written.
    ///
    /// # Errors
    /// As [`Table::put`].
    fn put_all(&self, entries: &[(K, V)]) -> Result<(), MapError> {
        entries.iter().try_for_each(|(key, value)| self.put(key, value))
    }

    /// Removes an entry; returns whether it was there.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn delete(&self, key: &K) -> Result<bool, MapError>;

    /// Reads an entry.
    ///
    /// # Errors
    /// When the kernel refuses, [`MapError::OutOfRange`] for arrays.
    fn get(&self, key: &K) -> Result<Option<V>, MapError>;

    /// Every entry, in no particular order. Entries written or removed meanwhile may be missed.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn entries(&self) -> Result<Vec<(K, V)>, MapError>;

    /// About `size` entries from where an earlier stripe ended, or from the start; at least one unless the end is
    /// reached. For arrays, elements of all zeroes are among them. A walk by stripes meets every entry that stays.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn stripe(&self, from: Option<&Cursor>, size: u32) -> Result<Stripe<K, V>, MapError>;
}

/// A place in a map; means something to that map only.
#[derive(Clone, Debug)]
pub struct Cursor(pub(crate) BatchCursor);

/// Some entries of a map.
#[derive(Clone, Debug)]
pub struct Stripe<K, V> {
    /// In the map's own order.
    pub entries: Vec<(K, V)>,
    /// Where the next stripe starts; None at the end.
    pub next: Option<Cursor>,
}

/// SERVICE_STATS: what programs count of service ports.
pub trait ServiceCounts: Send + Sync {
    /// Counts from zero on, unless it is counted already.
    ///
    /// # Errors
    /// [`MapError::Full`].
    fn start(&self, serial: ServiceSerial) -> Result<(), MapError>;

    /// Forgets the counts, if there are any.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn stop(&self, serial: ServiceSerial) -> Result<(), MapError>;

    /// Everything that is counted, over all CPUs, in no particular order.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn entries(&self) -> Result<Vec<(ServiceSerial, ServiceStats)>, MapError>;
}

/// The maps that userspace fills with Services.
pub trait ServiceMaps: Send + Sync {
    /// What clients dial.
    fn frontends(&self) -> &dyn Table<FrontendKey, FrontendValue>;
    /// Service ports.
    fn services(&self) -> &dyn Table<ServiceId, ServiceValue>;
    /// Slot number → backend.
    fn slots(&self) -> &dyn Table<u32, BackendId>;
    /// Endpoints.
    fn backends(&self) -> &dyn Table<BackendId, BackendValue>;
    /// What service ports are called.
    fn service_names(&self) -> &dyn Table<ServiceSerial, ServiceName>;
    /// What is counted of service ports.
    fn service_counts(&self) -> &dyn ServiceCounts;
    /// Clients that may use a service's restricted frontends; the value is 1.
    fn source_ranges(&self) -> &dyn Table<SourceRangeKey, u32>;
    /// Bitmap of the node ports, by words.
    fn node_ports(&self) -> &dyn Table<u32, u64>;
    /// Prefixes that hold service addresses and nothing else; the value is 1.
    fn service_ranges(&self) -> &dyn Table<PrefixKey, u32>;
    /// Destinations that pods reach with their own address; the value is 1.
    fn non_masquerade(&self) -> &dyn Table<PrefixKey, u32>;
}

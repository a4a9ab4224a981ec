//! Maps in memory, which fail on demand.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skep_abi::{
    BackendId, BackendValue, FrontendKey, FrontendValue, MapKind, MapSpec, Plain, PrefixKey, ServiceId,
    ServiceName, ServiceSerial, ServiceValue, SourceRangeKey, maps,
};

use crate::{Cursor, MapError, MemoryCounts, ServiceCounts, ServiceMaps, Stripe, Table};

/// Counts writes over all tables of one [`MemoryMaps`] and decides which of them fail.
#[derive(Debug, Default)]
struct Faults {
    writes: u64,
    fail_at: Option<u64>,
    fail_all: bool,
}

/// [`ServiceMaps`] without a kernel, for tests of what writes them.
#[derive(Debug)]
pub struct MemoryMaps {
    frontends: MemoryTable<FrontendKey, FrontendValue>,
    services: MemoryTable<ServiceId, ServiceValue>,
    slots: MemoryTable<u32, BackendId>,
    backends: MemoryTable<BackendId, BackendValue>,
    service_names: MemoryTable<ServiceSerial, ServiceName>,
    service_counts: MemoryCounts,
    source_ranges: MemoryTable<SourceRangeKey, u32>,
    node_ports: MemoryTable<u32, u64>,
    service_ranges: MemoryTable<PrefixKey, u32>,
    non_masquerade: MemoryTable<PrefixKey, u32>,
    faults: Arc<Mutex<Faults>>,
}

impl Default for MemoryMaps {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryMaps {
    /// Maps of the default capacities.
    pub fn new() -> Self {
        Self::with_capacities(|spec| spec.default_entries)
    }

    /// Maps with the capacities that `capacity` returns for each.
    pub fn with_capacities(capacity: impl Fn(&MapSpec) -> u32) -> Self {
        let faults = Arc::new(Mutex::new(Faults::default()));
        Self {
            frontends: MemoryTable::new(&maps::FRONTENDS, capacity(&maps::FRONTENDS), &faults),
            services: MemoryTable::new(&maps::SERVICES, capacity(&maps::SERVICES), &faults),
            slots: MemoryTable::new(&maps::SLOTS, capacity(&maps::SLOTS), &faults),
            backends: MemoryTable::new(&maps::BACKENDS, capacity(&maps::BACKENDS), &faults),
            service_names: MemoryTable::new(&maps::SERVICE_NAMES, capacity(&maps::SERVICE_NAMES), &faults),
            service_counts: MemoryCounts::default(),
            source_ranges: MemoryTable::new(&maps::SOURCE_RANGES, capacity(&maps::SOURCE_RANGES), &faults),
            node_ports: MemoryTable::new(&maps::NODE_PORTS, capacity(&maps::NODE_PORTS), &faults),
            service_ranges: MemoryTable::new(&maps::SERVICE_RANGES, capacity(&maps::SERVICE_RANGES), &faults),
            non_masquerade: MemoryTable::new(&maps::NON_MASQUERADE, capacity(&maps::NON_MASQUERADE), &faults),
            faults,
        }
    }

    /// What is counted, for a test to count on.
    pub fn counts(&self) -> &MemoryCounts {
        &self.service_counts
    }

    /// Writes (put, delete) since the start, failed ones included.
    pub fn writes(&self) -> u64 {
        self.faults.lock().writes
    }

    /// Lets the `n`-th write from now (1 = the next) fail with [`MapError::Injected`], once.
    pub fn fail_write(&self, n: u64) {
        let mut faults = self.faults.lock();
        faults.fail_at = Some(faults.writes + n);
    }

    /// Lets every write fail until called with `false`.
    pub fn fail_all_writes(&self, fail: bool) {
        self.faults.lock().fail_all = fail;
    }
}

impl ServiceMaps for MemoryMaps {
    fn frontends(&self) -> &dyn Table<FrontendKey, FrontendValue> {
        &self.frontends
    }

    fn services(&self) -> &dyn Table<ServiceId, ServiceValue> {
        &self.services
    }

    fn slots(&self) -> &dyn Table<u32, BackendId> {
        &self.slots
    }

    fn backends(&self) -> &dyn Table<BackendId, BackendValue> {
        &self.backends
    }

    fn service_names(&self) -> &dyn Table<ServiceSerial, ServiceName> {
        &self.service_names
    }

    fn service_counts(&self) -> &dyn ServiceCounts {
        &self.service_counts
    }

    fn source_ranges(&self) -> &dyn Table<SourceRangeKey, u32> {
        &self.source_ranges
    }

    fn node_ports(&self) -> &dyn Table<u32, u64> {
        &self.node_ports
    }

    fn service_ranges(&self) -> &dyn Table<PrefixKey, u32> {
        &self.service_ranges
    }

    fn non_masquerade(&self) -> &dyn Table<PrefixKey, u32> {
        &self.non_masquerade
    }
}

/// One table of [`MemoryMaps`], with the kernel's rules for its kind of map.
#[derive(Debug)]
pub struct MemoryTable<K, V> {
    spec: &'static MapSpec,
    capacity: u32,
    entries: Mutex<BTreeMap<Vec<u8>, (K, V)>>,
    faults: Arc<Mutex<Faults>>,
}

impl<K: Plain, V: Plain> MemoryTable<K, V> {
    fn new(spec: &'static MapSpec, capacity: u32, faults: &Arc<Mutex<Faults>>) -> Self {
        Self {
            spec,
            capacity,
            entries: Mutex::default(),
            faults: Arc::clone(faults),
        }
    }

    fn count_write(&self) -> Result<(), MapError> {
        let mut faults = self.faults.lock();
        faults.writes += 1;
        if faults.fail_all || faults.fail_at == Some(faults.writes) {
            return Err(MapError::Injected { map: self.spec.name });
        }
        Ok(())
    }

    fn check_index(&self, key: &K) -> Result<(), MapError> {
        if self.spec.kind != MapKind::Array {
            return Ok(());
        }
        let index = u32::from_bytes(key.as_bytes()).unwrap_or(u32::MAX);
        if index >= self.capacity {
            return Err(MapError::OutOfRange {
                map: self.spec.name,
                index,
                capacity: self.capacity,
            });
        }
        Ok(())
    }
}

impl<K: Plain, V: Plain> Table<K, V> for MemoryTable<K, V> {
    fn spec(&self) -> &'static MapSpec {
        self.spec
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn put(&self, key: &K, value: &V) -> Result<(), MapError> {
        self.count_write()?;
        self.check_index(key)?;
        let mut entries = self.entries.lock();
        let bytes = key.as_bytes().to_vec();
        if self.spec.kind == MapKind::Array && *value == V::zeroed() {
            entries.remove(&bytes);
            return Ok(());
        }
        if entries.len() >= self.capacity as usize && !entries.contains_key(&bytes) {
            return Err(MapError::Full {
                map: self.spec.name,
                capacity: self.capacity,
            });
        }
        entries.insert(bytes, (*key, *value));
        Ok(())
    }

    fn delete(&self, key: &K) -> Result<bool, MapError> {
        self.count_write()?;
        self.check_index(key)?;
        Ok(self.entries.lock().remove(key.as_bytes()).is_some())
    }

    fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        self.check_index(key)?;
        Ok(self.entries.lock().get(key.as_bytes()).map(|(_, value)| *value))
    }

    fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        Ok(self.entries.lock().values().copied().collect())
    }

    fn stripe(&self, from: Option<&Cursor>, size: u32) -> Result<Stripe<K, V>, MapError> {
        let first = from.map_or(0, place);
        let entries = self.entries.lock();
        let (found, end) = if self.spec.kind == MapKind::Array {
            let indices = first..self.capacity.min(first.saturating_add(size));
            let element = |index: u32| {
                let found = entries.get(index.as_bytes()).map(|(_, value)| *value);
                Some((K::from_bytes(index.as_bytes())?, found.unwrap_or(V::zeroed())))
            };
            (indices.filter_map(element).collect::<Vec<_>>(), self.capacity)
        } else {
            let found = entries.values().skip(first as usize).take(size as usize);
            let end = u32::try_from(entries.len()).unwrap_or(u32::MAX);
            (found.copied().collect(), end)
        };
        let next = first.saturating_add(size);
        let next = (next < end).then(|| {
            let mut cursor = [0; 64];
            cursor[..4].copy_from_slice(&next.to_ne_bytes());
            Cursor(cursor)
        });
        Ok(Stripe { entries: found, next })
    }
}

fn place(cursor: &Cursor) -> u32 {
    let [a, b, c, d, ..] = cursor.0;
    u32::from_ne_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_in_an_array_is_absent() {
        let maps = MemoryMaps::new();
        maps.slots().put(&3, &BackendId(7)).unwrap();
        assert_eq!(maps.slots().entries().unwrap(), [(3, BackendId(7))]);
        maps.slots().put(&3, &BackendId(0)).unwrap();
        assert_eq!(maps.slots().get(&3).unwrap(), None);
        assert!(!maps.slots().delete(&3).unwrap());
    }

    #[test]
    fn full_map_refuses_new_keys_and_keeps_the_old() {
        let maps = MemoryMaps::with_capacities(|_| 1);
        let key = |port| FrontendKey {
            port: skep_abi::PortBe::from_host(port),
            ..FrontendKey::default()
        };
        let value = FrontendValue {
            service: ServiceId(1),
            ..FrontendValue::default()
        };
        maps.frontends().put(&key(1), &value).unwrap();
        maps.frontends().put(&key(1), &value).unwrap();
        assert!(matches!(
            maps.frontends().put(&key(2), &value),
            Err(MapError::Full { capacity: 1, .. })
        ));
        assert!(matches!(
            maps.slots().put(&1, &BackendId(1)),
            Err(MapError::OutOfRange { index: 1, .. })
        ));
        assert_eq!(maps.frontends().get(&key(1)).unwrap(), Some(value));
    }

    #[test]
    fn nth_write_fails_once() {
        let maps = MemoryMaps::new();
        maps.fail_write(2);
        assert!(maps.slots().put(&1, &BackendId(1)).is_ok());
        assert!(matches!(
            maps.slots().put(&2, &BackendId(1)),
            Err(MapError::Injected { .. })
        ));
        assert!(maps.slots().put(&2, &BackendId(1)).is_ok());
        assert_eq!(maps.writes(), 3);
    }
}

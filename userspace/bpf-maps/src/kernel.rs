//! The kernel's maps.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use skep_abi::{
    BackendId, BackendValue, FrontendKey, FrontendValue, MapKind, MapSpec, Plain, PrefixKey, ServiceId,
    ServiceName, ServiceSerial, ServiceValue, SourceRangeKey, maps,
};

use crate::{Cursor, KernelCounts, MapError, ServiceCounts, ServiceMaps, Stripe, Table, sys};

/// Entries per batched system call.
const BATCH: u32 = 4_096;
/// Most bytes of values per batched system call, which matters where each CPU has its own.
const BATCH_BYTES: usize = 4 << 20;
/// A hash bucket is read whole: with room for this many it always fits, short of a broken hash function.
const MIN_BATCH: u32 = 64;

/// A map of this project's layout, checked against its [`MapSpec`].
#[derive(Debug)]
pub struct RawMap {
    fd: OwnedFd,
    spec: &'static MapSpec,
    capacity: u32,
}

impl RawMap {
    /// `enum bpf_map_type` and flags of a kind.
    fn kernel_type(kind: MapKind) -> (u32, u32) {
        const BPF_F_NO_PREALLOC: u32 = 1;
        match kind {
            MapKind::Hash => (1, BPF_F_NO_PREALLOC),
            MapKind::Array => (2, 0),
            MapKind::PerCpuArray => (6, 0),
            MapKind::LruHash => (9, 0),
            MapKind::LpmTrie => (11, BPF_F_NO_PREALLOC),
            MapKind::PerCpuHash => (5, BPF_F_NO_PREALLOC),
        }
    }

    /// Creates a map of `entries` capacity.
    ///
    /// # Errors
    /// [`MapError::Kernel`].
    pub fn create(spec: &'static MapSpec, entries: u32) -> Result<Self, MapError> {
        let (map_type, flags) = Self::kernel_type(spec.kind);
        let fd = sys::map_create(&sys::MapDefinition {
            map_type,
            key_size: spec.key_size,
            value_size: spec.value_size,
            max_entries: entries,
            flags,
            name: spec.name,
        })
        .map_err(|source| MapError::Kernel {
            map: spec.name,
            operation: "create",
            source,
        })?;
        Ok(Self {
            fd,
            spec,
            capacity: entries,
        })
    }

    /// Opens the map pinned as `pin_dir/<name>`; `None` when there is none.
    ///
    /// # Errors
    /// [`MapError::Shape`] when it is another kind of map, [`MapError::Kernel`].
    pub fn open(spec: &'static MapSpec, pin_dir: &Path) -> Result<Option<Self>, MapError> {
        let kernel = |operation| {
            move |source| MapError::Kernel {
                map: spec.name,
                operation,
                source,
            }
        };
        let Some(fd) = sys::object_get(&pin_dir.join(spec.name)).map_err(kernel("open the pin"))? else {
            return Ok(None);
        };
        let info = sys::map_info(fd.as_fd()).map_err(kernel("read the information"))?;
        let (map_type, _) = Self::kernel_type(spec.kind);
        for (property, found, expected) in [
            ("type", info.map_type, map_type),
            ("key size", info.key_size, spec.key_size),
            ("value size", info.value_size, spec.value_size),
        ] {
            if found != expected {
                return Err(MapError::Shape {
                    map: spec.name,
                    property,
                    found,
                    expected,
                });
            }
        }
        Ok(Some(Self {
            fd,
            spec,
            capacity: info.max_entries,
        }))
    }

    /// Pins the map as `pin_dir/<name>`.
    ///
    /// # Errors
    /// [`MapError::Kernel`].
    pub fn pin(&self, pin_dir: &Path) -> Result<(), MapError> {
        sys::object_pin(self.fd.as_fd(), &pin_dir.join(self.spec.name)).map_err(self.failed("pin"))
    }

    /// Name and shape.
    pub fn spec(&self) -> &'static MapSpec {
        self.spec
    }

    /// Most entries.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// A second handle of the same map.
    ///
    /// # Errors
    /// [`MapError::Kernel`] when descriptors run out.
    pub fn try_clone(&self) -> Result<Self, MapError> {
        let fd = self.fd.try_clone().map_err(self.failed("duplicate"))?;
        Ok(Self {
            fd,
            spec: self.spec,
            capacity: self.capacity,
        })
    }

    /// Entries in the map: elements that are not all zero for arrays.
    ///
    /// # Errors
    /// [`MapError::Kernel`].
    pub fn count(&self) -> Result<u32, MapError> {
        let mut count: u32 = 0;
        self.visit(|_, value| {
            if !self.spec.kind.is_array() || value.iter().any(|&byte| byte != 0) {
                count = count.saturating_add(1);
            }
        })?;
        Ok(count)
    }

    /// The values of one element of a per-CPU array, one for each possible CPU.
    ///
    /// # Errors
    /// [`MapError::Kernel`].
    pub fn per_cpu_values(&self, index: u32) -> Result<Vec<u64>, MapError> {
        let cpus = possible_cpus().map_err(self.failed("count the CPUs for"))?;
        let mut value = vec![0; cpus * 8];
        debug_assert_eq!(
            (self.spec.key_size, self.spec.value_size),
            (4, 8),
            "a per-CPU array of u64"
        );
        // SAFETY: the key is 4 bytes; the value has 8 bytes for each possible CPU.
        unsafe { sys::map_lookup(self.fd.as_fd(), index.as_bytes(), &mut value) }
            .map_err(self.failed("read"))?;
        Ok(value.chunks_exact(8).filter_map(u64::from_bytes).collect())
    }

    /// Bytes that the kernel has allocated for the map.
    ///
    /// # Errors
    /// [`MapError::Kernel`] when it does not tell.
    pub fn memory_bytes(&self) -> Result<u64, MapError> {
        let path = format!("/proc/self/fdinfo/{}", self.fd.as_raw_fd());
        let text = std::fs::read_to_string(path).map_err(self.failed("ask for the memory of"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
        let bytes = line.and_then(|number| number.trim().parse().ok());
        bytes.ok_or_else(|| self.failed("ask for the memory of")(io::ErrorKind::InvalidData.into()))
    }

    /// Bytes of a value as the kernel hands it out: one value for each possible CPU where there are several.
    pub(crate) fn element_size(&self) -> Result<usize, MapError> {
        let size = self.spec.value_size as usize;
        if !self.spec.kind.is_per_cpu() {
            return Ok(size);
        }
        let cpus = possible_cpus().map_err(self.failed("count the CPUs for"))?;
        Ok(cpus * size.next_multiple_of(8))
    }

    pub(crate) fn full(&self) -> MapError {
        MapError::Full {
            map: self.spec.name,
            capacity: self.capacity,
        }
    }

    pub(crate) fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> MapError {
        let map = self.spec.name;
        move |source| MapError::Kernel {
            map,
            operation,
            source,
        }
    }

    /// Calls `visitor` with every key and value, elements of zeroes of arrays included; where each CPU has a
    /// value, with the sum.
    ///
    /// # Errors
    /// [`MapError::Kernel`].
    pub fn visit(&self, mut visitor: impl FnMut(&[u8], &[u8])) -> Result<(), MapError> {
        let (size, element) = (self.spec.value_size as usize, self.element_size()?);
        let per_cpu = self.spec.kind.is_per_cpu();
        let mut visitor = |key: &[u8], value: &[u8]| {
            if per_cpu {
                visitor(key, &sum(value, size));
            } else {
                visitor(key, value);
            }
        };
        match self.visit_batched(element, &mut visitor) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | sys::ENOTSUPP)) => self
                .visit_singly(element, &mut visitor)
                .map_err(self.failed("iterate over")),
            result => result.map_err(self.failed("iterate over")),
        }
    }

    fn visit_batched(&self, element: usize, visitor: &mut impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let fitting = u32::try_from(BATCH_BYTES / element.max(1)).unwrap_or(BATCH);
        let mut buffers = Buffers::new(self.spec, element, fitting.clamp(MIN_BATCH, BATCH));
        let mut cursor = None;
        loop {
            cursor = self.visit_batch(cursor.as_ref(), &mut buffers, visitor)?;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Visits as many entries as the buffers hold; returns where to go on.
    fn visit_batch(
        &self,
        from: Option<&sys::BatchCursor>,
        buffers: &mut Buffers,
        visitor: &mut impl FnMut(&[u8], &[u8]),
    ) -> io::Result<Option<sys::BatchCursor>> {
        let Buffers {
            keys,
            values,
            element,
            count,
        } = buffers;
        // SAFETY: the buffers hold `count` keys and values of this map's sizes, and no key exceeds 64 bytes.
        let (count, next) = unsafe { sys::map_lookup_batch(self.fd.as_fd(), from, keys, values, *count)? };
        let keys = keys.chunks_exact(self.spec.key_size as usize);
        let entries = keys.zip(values.chunks_exact(*element));
        entries
            .take(count as usize)
            .for_each(|(key, value)| visitor(key, value));
        Ok(next)
    }

    fn visit_singly(&self, element: usize, visitor: &mut impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let mut value = vec![0; element];
        let mut next = vec![0; self.spec.key_size as usize];
        let mut key: Option<Vec<u8>> = None;
        // SAFETY: all buffers have this map's key and value sizes.
        while unsafe { sys::map_next_key(self.fd.as_fd(), key.as_deref(), &mut next)? } {
            // SAFETY: as above.
            if unsafe { sys::map_lookup(self.fd.as_fd(), &next, &mut value)? } {
                visitor(&next, &value);
            }
            key = Some(next.clone());
        }
        Ok(())
    }
}

/// Room for a batch.
struct Buffers {
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Bytes of a value, over all CPUs.
    element: usize,
    count: u32,
}

impl Buffers {
    fn new(spec: &MapSpec, element: usize, count: u32) -> Self {
        Self {
            keys: vec![0; spec.key_size as usize * count as usize],
            values: vec![0; element * count as usize],
            element,
            count,
        }
    }
}

impl AsFd for RawMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The sum of values of `size` bytes, which consist of `u64` counts.
fn sum(values: &[u8], size: usize) -> Vec<u8> {
    let mut total = vec![0_u64; size / 8];
    for value in values.chunks_exact(size.next_multiple_of(8)) {
        let counts = value.chunks_exact(8).filter_map(u64::from_bytes);
        for (total, count) in total.iter_mut().zip(counts) {
            *total = total.wrapping_add(count);
        }
    }
    total.iter().flat_map(|count| count.to_ne_bytes()).collect()
}

/// CPUs that the kernel keeps per-CPU values for.
fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let mut highest = 0;
    for range in text.trim().split(',') {
        let last = range.rsplit('-').next().unwrap_or(range);
        highest = highest.max(last.parse::<usize>().map_err(io::Error::other)?);
    }
    Ok(highest + 1)
}

/// A [`RawMap`] with types.
#[derive(Debug)]
pub struct KernelTable<K, V> {
    map: RawMap,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Plain, V: Plain> KernelTable<K, V> {
    /// Gives the map its types.
    ///
    /// # Errors
    /// [`MapError::Shape`] when sizes differ.
    pub fn new(map: RawMap) -> Result<Self, MapError> {
        for (property, found, size) in [
            ("key size", map.spec.key_size, size_of::<K>()),
            ("value size", map.spec.value_size, size_of::<V>()),
        ] {
            let expected = u32::try_from(size).unwrap_or(u32::MAX);
            if found != expected {
                return Err(MapError::Shape {
                    map: map.spec.name,
                    property,
                    found,
                    expected,
                });
            }
        }
        Ok(Self {
            map,
            types: PhantomData,
        })
    }

    fn is_array(&self) -> bool {
        self.map.spec.kind.is_array()
    }

    /// Names the reason why a write failed.
    fn write_error(&self, key: &K, error: io::Error) -> MapError {
        match error.raw_os_error() {
            Some(libc::E2BIG) if self.is_array() => self.out_of_range(key),
            Some(libc::E2BIG | libc::ENOSPC) => self.map.full(),
            _ => self.map.failed("write")(error),
        }
    }

    fn out_of_range(&self, key: &K) -> MapError {
        let index = u32::from_bytes(key.as_bytes()).unwrap_or(u32::MAX);
        MapError::OutOfRange {
            map: self.map.spec.name,
            index,
            capacity: self.map.capacity,
        }
    }
}

impl<K: Plain, V: Plain> Table<K, V> for KernelTable<K, V> {
    fn spec(&self) -> &'static MapSpec {
        self.map.spec
    }

    fn capacity(&self) -> u32 {
        self.map.capacity
    }

    fn put(&self, key: &K, value: &V) -> Result<(), MapError> {
        // SAFETY: `new` and `open` checked that K and V have the map's sizes.
        unsafe { sys::map_update(self.map.as_fd(), key.as_bytes(), value.as_bytes()) }
            .map_err(|error| self.write_error(key, error))
    }

    fn put_all(&self, entries: &[(K, V)]) -> Result<(), MapError> {
        for chunk in entries.chunks(BATCH as usize) {
            let keys: Vec<u8> = chunk
                .iter()
                .flat_map(|(key, _)| key.as_bytes().iter().copied())
                .collect();
            let values: Vec<u8> = chunk
                .iter()
                .flat_map(|(_, value)| value.as_bytes().iter().copied())
                .collect();
            let count = u32::try_from(chunk.len()).unwrap_or(BATCH);
            // SAFETY: as in `put`; the buffers hold `count` keys and values.
            if unsafe { sys::map_update_batch(self.map.as_fd(), &keys, &values, count) }.is_err() {
                // Kinds without batches, and errors: one by one names the entry at fault.
                chunk.iter().try_for_each(|(key, value)| self.put(key, value))?;
            }
        }
        Ok(())
    }

    fn delete(&self, key: &K) -> Result<bool, MapError> {
        if self.is_array() {
            let present = self.get(key)?.is_some();
            self.put(key, &V::zeroed())?;
            return Ok(present);
        }
        // SAFETY: as in `put`.
        unsafe { sys::map_delete(self.map.as_fd(), key.as_bytes()) }.map_err(self.map.failed("delete from"))
    }

    fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        let mut value = vec![0; size_of::<V>()];
        // SAFETY: as in `put`.
        let found = unsafe { sys::map_lookup(self.map.as_fd(), key.as_bytes(), &mut value) }
            .map_err(self.map.failed("read"))?;
        if !found && self.is_array() {
            return Err(self.out_of_range(key));
        }
        let value = V::from_bytes(&value).filter(|_| found);
        Ok(value.filter(|value| !self.is_array() || *value != V::zeroed()))
    }

    fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        let mut entries = Vec::new();
        let array = self.is_array();
        self.map.visit(|key, value| {
            if let (Some(key), Some(value)) = (K::from_bytes(key), V::from_bytes(value))
                && !(array && value == V::zeroed())
            {
                entries.push((key, value));
            }
        })?;
        Ok(entries)
    }

    fn stripe(&self, from: Option<&Cursor>, size: u32) -> Result<Stripe<K, V>, MapError> {
        let mut entries = Vec::new();
        let mut buffers = Buffers::new(self.map.spec, size_of::<V>(), size.max(MIN_BATCH));
        let mut visitor = |key: &[u8], value: &[u8]| {
            entries.extend(K::from_bytes(key).zip(V::from_bytes(value)));
        };
        let next = self
            .map
            .visit_batch(from.map(|cursor| &cursor.0), &mut buffers, &mut visitor)
            .map_err(self.map.failed("iterate over"))?;
        Ok(Stripe {
            entries,
            next: next.map(Cursor),
        })
    }
}

/// [`ServiceMaps`] in the kernel.
#[derive(Debug)]
pub struct KernelMaps {
    frontends: KernelTable<FrontendKey, FrontendValue>,
    services: KernelTable<ServiceId, ServiceValue>,
    slots: KernelTable<u32, BackendId>,
    backends: KernelTable<BackendId, BackendValue>,
    service_names: KernelTable<ServiceSerial, ServiceName>,
    service_counts: KernelCounts,
    source_ranges: KernelTable<SourceRangeKey, u32>,
    node_ports: KernelTable<u32, u64>,
    service_ranges: KernelTable<PrefixKey, u32>,
    non_masquerade: KernelTable<PrefixKey, u32>,
}

impl KernelMaps {
    /// Gathers the maps that `open` returns for each of their specs.
    ///
    /// # Errors
    /// Those of `open`, and [`MapError::Shape`].
    pub fn gather<E: From<MapError>>(
        mut open: impl FnMut(&'static MapSpec) -> Result<RawMap, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            frontends: KernelTable::new(open(&maps::FRONTENDS)?)?,
            services: KernelTable::new(open(&maps::SERVICES)?)?,
            slots: KernelTable::new(open(&maps::SLOTS)?)?,
            backends: KernelTable::new(open(&maps::BACKENDS)?)?,
            service_names: KernelTable::new(open(&maps::SERVICE_NAMES)?)?,
            service_counts: KernelCounts::new(open(&maps::SERVICE_STATS)?),
            source_ranges: KernelTable::new(open(&maps::SOURCE_RANGES)?)?,
            node_ports: KernelTable::new(open(&maps::NODE_PORTS)?)?,
            service_ranges: KernelTable::new(open(&maps::SERVICE_RANGES)?)?,
            non_masquerade: KernelTable::new(open(&maps::NON_MASQUERADE)?)?,
        })
    }
}

impl ServiceMaps for KernelMaps {
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

//! [`ServiceCounts`], in the kernel and in memory.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use parking_lot::Mutex;
use skep_abi::{Plain, ServiceSerial, ServiceStats};

use crate::{MapError, RawMap, ServiceCounts, sys};

/// The kernel's SERVICE_STATS.
#[derive(Debug)]
pub struct KernelCounts(RawMap);

impl KernelCounts {
    /// Over that map.
    pub fn new(map: RawMap) -> Self {
        Self(map)
    }
}

impl ServiceCounts for KernelCounts {
    fn start(&self, serial: ServiceSerial) -> Result<(), MapError> {
        let zeroes = vec![0; self.0.element_size()?];
        // SAFETY: the key has the map's size, the value that of its elements over all CPUs.
        unsafe { sys::map_insert(self.0.as_fd(), serial.as_bytes(), &zeroes) }
            .map(drop)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::E2BIG | libc::ENOSPC) => self.0.full(),
                _ => self.0.failed("write")(error),
            })
    }

    fn stop(&self, serial: ServiceSerial) -> Result<(), MapError> {
        // SAFETY: the key has the map's size.
        unsafe { sys::map_delete(self.0.as_fd(), serial.as_bytes()) }
            .map(drop)
            .map_err(self.0.failed("delete from"))
    }

    fn entries(&self) -> Result<Vec<(ServiceSerial, ServiceStats)>, MapError> {
        let mut entries = Vec::new();
        self.0.visit(|key, value| {
            entries.extend(ServiceSerial::from_bytes(key).zip(ServiceStats::from_bytes(value)));
        })?;
        Ok(entries)
    }
}

/// Counts in memory: nothing counts but tests.
#[derive(Debug, Default)]
pub struct MemoryCounts(Mutex<BTreeMap<ServiceSerial, ServiceStats>>);

impl MemoryCounts {
    /// Adds to what is counted, as programs do: nothing where nothing was started.
    pub fn add(&self, serial: ServiceSerial, more: ServiceStats) {
        if let Some(stats) = self.0.lock().get_mut(&serial) {
            *stats += more;
        }
    }
}

impl ServiceCounts for MemoryCounts {
    fn start(&self, serial: ServiceSerial) -> Result<(), MapError> {
        self.0.lock().entry(serial).or_default();
        Ok(())
    }

    fn stop(&self, serial: ServiceSerial) -> Result<(), MapError> {
        self.0.lock().remove(&serial);
        Ok(())
    }

    fn entries(&self) -> Result<Vec<(ServiceSerial, ServiceStats)>, MapError> {
        Ok(self
            .0
            .lock()
            .iter()
            .map(|(serial, stats)| (*serial, *stats))
            .collect())
    }
}

//! The datapath's traits over the maps, for every kind of program.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use skep_abi::{
    Address, BackendId, BackendValue, Counter, FrontendKey, FrontendValue, ServiceId, ServiceSerial,
    ServiceValue,
};
use skep_datapath::ServiceTables;
use skep_datapath::account::Event;

use crate::maps;

/// The maps, and the context of the program that runs.
pub struct World<C> {
    pub context: C,
}

impl<C> ServiceTables for World<C> {
    #[inline(always)]
    fn frontend(&self, key: &FrontendKey) -> Option<FrontendValue> {
        // SAFETY: the value is copied at once; the map is BPF_F_NO_PREALLOC, so elements are not reused
        // while the program runs.
        unsafe { maps::FRONTENDS.get(key) }.copied()
    }

    #[inline(always)]
    fn service(&self, id: ServiceId) -> Option<&ServiceValue> {
        maps::SERVICES.get(id.0)
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<BackendId> {
        maps::SLOTS.get(index).copied()
    }

    #[inline(always)]
    fn backend(&self, id: BackendId) -> Option<&BackendValue> {
        maps::BACKENDS.get(id.0)
    }

    #[inline(always)]
    fn in_source_ranges(&self, service: ServiceId, client: &Address) -> bool {
        maps::in_source_ranges(service, client)
    }

    #[inline(always)]
    fn in_service_range(&self, address: &Address) -> bool {
        maps::longest_prefix(&maps::SERVICE_RANGES, address).is_some()
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn count(&self, counter: Counter) {
        maps::count(counter);
    }

    #[inline(always)]
    fn account(&self, serial: ServiceSerial, event: Event) {
        maps::account(serial, event);
    }
}

//! What the pinned maps say of Services at one time, for whoever is not the agent.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use skep_abi::{
    Address, BackendFlags, BackendId, BackendValue, FrontendKey, FrontendValue, NodeConfig, Plain, PodRange,
    PrefixKey, ServiceId, ServiceName, ServiceSerial, ServiceStats, ServiceValue, SourceRangeKey, maps,
};
use skep_bpf_maps::{KernelMaps, KernelTable, ServiceMaps, Table};

use crate::LoadError;
use crate::pins::PinnedMaps;

/// How often the maps are read again when a change came in between.
const ATTEMPTS: u32 = 3;

/// A copy of the maps.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// FRONTENDS.
    pub frontends: BTreeMap<FrontendKey, FrontendValue>,
    /// SERVICES.
    pub services: BTreeMap<ServiceId, ServiceValue>,
    /// SLOTS.
    pub slots: HashMap<u32, BackendId>,
    /// BACKENDS.
    pub backends: HashMap<BackendId, BackendValue>,
    /// SERVICE_NAMES.
    pub names: HashMap<ServiceSerial, ServiceName>,
    /// SERVICE_STATS.
    pub stats: HashMap<ServiceSerial, ServiceStats>,
    /// SOURCE_RANGES.
    pub source_ranges: BTreeMap<SourceRangeKey, u32>,
    /// SERVICE_RANGES.
    pub service_ranges: BTreeMap<PrefixKey, u32>,
    /// NON_MASQUERADE.
    pub non_masquerade: BTreeMap<PrefixKey, u32>,
    /// POD_RANGES.
    pub pod_ranges: BTreeMap<PrefixKey, PodRange>,
    /// CONFIG.
    pub config: NodeConfig,
}

/// One service port with what belongs to it.
#[derive(Clone, Debug)]
pub struct ServicePort<'a> {
    /// Its number.
    pub id: ServiceId,
    /// Its element of SERVICES.
    pub value: &'a ServiceValue,
    /// What it is called; absent only while it comes or goes.
    pub name: Option<&'a ServiceName>,
    /// What is counted of it.
    pub stats: ServiceStats,
    /// What leads to it, by key.
    pub frontends: Vec<(&'a FrontendKey, &'a FrontendValue)>,
    /// What it may pick, in the order of its slots.
    pub backends: Vec<&'a BackendValue>,
}

impl Snapshot {
    /// Reads the maps pinned in a folder, in the order in which programs follow them. Takes no lock and changes
    /// nothing.
    ///
    /// # Errors
    /// [`LoadError::NoDataplane`], [`LoadError::NotPermitted`] and the like.
    pub fn read(pin_dir: &Path) -> Result<Self, LoadError> {
        let pinned = PinnedMaps::open(pin_dir)?;
        let mut snapshot = Self::read_once(&pinned)?;
        for _ in 1..ATTEMPTS {
            if snapshot.is_whole() {
                break;
            }
            snapshot = Self::read_once(&pinned)?;
        }
        Ok(snapshot)
    }

    fn read_once(pinned: &PinnedMaps) -> Result<Self, LoadError> {
        let maps = KernelMaps::gather(|spec| pinned.handle(spec))?;
        let pod_ranges = KernelTable::<PrefixKey, PodRange>::new(pinned.handle(&maps::POD_RANGES)?)?;
        let config = KernelTable::<u32, NodeConfig>::new(pinned.handle(&maps::CONFIG)?)?;
        Ok(Self {
            frontends: all(maps.frontends())?,
            services: all(maps.services())?,
            slots: all(maps.slots())?,
            backends: all(maps.backends())?,
            names: all(maps.service_names())?,
            stats: maps.service_counts().entries()?.into_iter().collect(),
            source_ranges: all(maps.source_ranges())?,
            service_ranges: all(maps.service_ranges())?,
            non_masquerade: all(maps.non_masquerade())?,
            pod_ranges: all(&pod_ranges)?,
            config: config.get(&0)?.unwrap_or_default(),
        })
    }

    /// Whether everything that something points to is there.
    fn is_whole(&self) -> bool {
        let services = self
            .frontends
            .values()
            .all(|frontend| self.services.contains_key(&frontend.service));
        let slots = self.services.values().flat_map(|value| {
            let (offset, count) = value.slots();
            offset..offset.saturating_add(count)
        });
        let mut backends = slots.map(|slot| self.slots.get(&slot).and_then(|id| self.backends.get(id)));
        let names = self
            .services
            .values()
            .all(|value| self.names.contains_key(&value.serial));
        services && names && backends.all(|backend| backend.is_some())
    }

    /// What a service port is called.
    pub fn name(&self, id: ServiceId) -> Option<&ServiceName> {
        self.names.get(&self.services.get(&id)?.serial)
    }

    /// A service port with what it may pick. Its frontends are left out: see [`Snapshot::ports`].
    pub fn port(&self, id: ServiceId) -> Option<ServicePort<'_>> {
        let value = self.services.get(&id)?;
        let (offset, count) = value.slots();
        let slots = (offset..offset.saturating_add(count)).filter_map(|slot| self.slots.get(&slot));
        Some(ServicePort {
            id,
            value,
            name: self.names.get(&value.serial),
            stats: self.stats.get(&value.serial).copied().unwrap_or_default(),
            frontends: Vec::new(),
            backends: slots
                .filter_map(|id| self.backends.get(id))
                .filter(|backend| backend.flags.contains(BackendFlags::PRESENT))
                .collect(),
        })
    }

    /// Every service port, by name and number.
    pub fn ports(&self) -> Vec<ServicePort<'_>> {
        let ports = self.services.keys().filter_map(|id| self.port(*id));
        let mut by_id: BTreeMap<ServiceId, ServicePort<'_>> = ports.map(|port| (port.id, port)).collect();
        for (key, value) in &self.frontends {
            if let Some(port) = by_id.get_mut(&value.service) {
                port.frontends.push((key, value));
            }
        }
        let mut ports: Vec<_> = by_id.into_values().collect();
        ports.sort_by_key(|port| (port.name.copied(), port.id));
        ports
    }

    /// The longest prefix of a service's SOURCE_RANGES that a client is in.
    pub fn source_range(&self, service: ServiceId, client: &Address) -> Option<PrefixKey> {
        let own = self.source_ranges.keys().filter(|range| range.service == service);
        let prefixes = own.map(SourceRangeKey::prefix);
        prefixes
            .filter(|prefix| contains(prefix, client))
            .max_by_key(|prefix| prefix.prefix_length)
    }

    /// The longest prefix of SERVICE_RANGES that an address is in.
    pub fn service_range(&self, address: &Address) -> Option<PrefixKey> {
        longest(&self.service_ranges, address).map(|(prefix, _)| prefix)
    }

    /// Whose pods have the address, by POD_RANGES.
    pub fn pod_range(&self, address: &Address) -> PodRange {
        longest(&self.pod_ranges, address).map_or(PodRange::NONE, |(_, range)| range)
    }

    /// Whether pods reach the address with their own, by NON_MASQUERADE.
    pub fn keeps_source(&self, address: &Address) -> bool {
        longest(&self.non_masquerade, address).is_some()
    }

    /// Whether the address is the node's own.
    pub fn is_node(&self, address: &Address) -> bool {
        *address == self.config.ipv4 || *address == self.config.ipv6 || address.is_loopback()
    }
}

fn all<K: Plain, V: Plain, C: FromIterator<(K, V)>>(table: &dyn Table<K, V>) -> Result<C, LoadError> {
    Ok(table.entries()?.into_iter().collect())
}

fn longest<V: Copy>(prefixes: &BTreeMap<PrefixKey, V>, address: &Address) -> Option<(PrefixKey, V)> {
    let found = prefixes.iter().filter(|(prefix, _)| contains(prefix, address));
    found
        .max_by_key(|(prefix, _)| prefix.prefix_length)
        .map(|(prefix, value)| (*prefix, *value))
}

fn contains(prefix: &PrefixKey, address: &Address) -> bool {
    let bits = |address: &Address| u128::from_be_bytes(address.octets());
    let rest = 128_u32.saturating_sub(prefix.prefix_length);
    let kept = |bits: u128| bits.checked_shr(rest).unwrap_or(0);
    kept(bits(&prefix.address)) == kept(bits(address))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn longest_prefix_counts_as_in_the_kernel() {
        let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
        let prefix = |text: &str, length| PrefixKey::new(text.parse::<IpAddr>().unwrap(), length);
        let mut snapshot = Snapshot::default();
        let both = PodRange::CLUSTER.with(PodRange::NODE);
        snapshot.pod_ranges = BTreeMap::from([
            (prefix("10.128.0.0", 16), PodRange::CLUSTER),
            (prefix("10.128.1.0", 24), both),
            (prefix("fd00::", 0), PodRange::CLUSTER),
        ]);
        for (at, range) in [
            ("10.128.1.9", both),
            ("10.128.2.9", PodRange::CLUSTER),
            ("10.129.0.1", PodRange::CLUSTER),
            ("fd00::1", PodRange::CLUSTER),
        ] {
            assert_eq!(snapshot.pod_range(&address(at)), range, "{at}");
        }
        snapshot.pod_ranges.remove(&prefix("fd00::", 0));
        assert_eq!(snapshot.pod_range(&address("10.129.0.1")), PodRange::NONE);
    }
}

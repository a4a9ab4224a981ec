//! Walking the maps by stripes, in search of what nobody here has written.

use std::collections::BTreeMap;

use skep_abi::FrontendKey;
use skep_bpf_maps::{Cursor, MapError, ServiceMaps, Stripe, Table};
use skep_service_table::{Found, ServiceTable};

use crate::write;

/// Stripes to a map: with one a second, damage lasts at most this many seconds.
const STRIPES: u32 = 60;
/// Smallest stripe of a hash, whose entries lie scattered.
const MIN_STRIPE: usize = 64;

/// Where the walk through each map stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walk {
    /// What FRONTENDS should hold, which finds what is missing or wrong.
    expected: Option<FrontendKey>,
    /// What FRONTENDS does hold, which finds what should not be there.
    frontends: Place,
    node_ports: Place,
    services: Place,
    slots: Place,
    backends: Place,
    /// Looks since SOURCE_RANGES was read, whole: it is small, and has no look-up of a single key.
    since_ranges: u32,
}

/// Where the walk through one map stands.
#[derive(Clone, Debug, Default)]
struct Place {
    cursor: Option<Cursor>,
    /// Entries met since the start.
    entries: u32,
}

/// What a look at the maps brought.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) found: Vec<Found>,
    /// Maps whose end was reached, and how many entries they have.
    pub(crate) fills: Vec<(&'static str, u32)>,
}

/// The keys of one stripe of FRONTENDS that should be there.
pub(crate) struct Expected {
    keys: Vec<FrontendKey>,
    size: u32,
}

impl Expected {
    /// The next stripe.
    pub(crate) fn next(walk: &Walk, table: &ServiceTable) -> Expected {
        let size = table.frontend_count().div_ceil(STRIPES as usize).max(MIN_STRIPE);
        Expected {
            keys: table.frontends_after(walk.expected, size),
            size: u32::try_from(size).unwrap_or(u32::MAX),
        }
    }
}

impl Walk {
    /// Reads the next stripe of every map.
    pub(crate) fn read(&mut self, maps: &dyn ServiceMaps, expected: &Expected) -> Result<Seen, MapError> {
        let mut seen = Seen::default();
        // Both ways may come by the same entry.
        let mut frontends = BTreeMap::new();
        for key in &expected.keys {
            frontends.insert(*key, maps.frontends().get(key)?);
        }
        self.expected = expected.keys.last().copied();
        let there = self.frontends.next(maps.frontends(), expected.size, &mut seen)?;
        frontends.extend(there.into_iter().map(|(key, value)| (key, Some(value))));
        let node_ports = self.node_ports.elements(maps.node_ports(), &mut seen)?;
        let services = self.services.elements(maps.services(), &mut seen)?;
        let slots = self.slots.elements(maps.slots(), &mut seen)?;
        let backends = self.backends.elements(maps.backends(), &mut seen)?;
        if self.since_ranges == 0 {
            let ranges = write::source_ranges(maps)?;
            let count = u32::try_from(ranges.len()).unwrap_or(u32::MAX);
            seen.fills.push((maps.source_ranges().spec().name, count));
            seen.found.push(Found::SourceRanges(ranges));
        }
        self.since_ranges = (self.since_ranges + 1) % STRIPES;
        seen.found.extend([
            Found::Frontends(frontends.into_iter().collect()),
            Found::NodePorts(node_ports),
            Found::Services(services),
            Found::Slots(slots),
            Found::Backends(backends),
        ]);
        Ok(seen)
    }
}

impl Place {
    /// The next stripe of an array.
    fn elements<K, V: Default + PartialEq>(
        &mut self,
        table: &dyn Table<K, V>,
        seen: &mut Seen,
    ) -> Result<Vec<(K, V)>, MapError> {
        self.next(table, table.capacity().div_ceil(STRIPES), seen)
    }

    fn next<K, V: Default + PartialEq>(
        &mut self,
        table: &dyn Table<K, V>,
        size: u32,
        seen: &mut Seen,
    ) -> Result<Vec<(K, V)>, MapError> {
        let Stripe { entries, next } = table.stripe(self.cursor.as_ref(), size)?;
        let present = entries.iter().filter(|(_, value)| *value != V::default());
        self.entries += u32::try_from(present.count()).unwrap_or(u32::MAX);
        self.cursor = next;
        if self.cursor.is_none() {
            seen.fills
                .push((table.spec().name, std::mem::take(&mut self.entries)));
        }
        Ok(entries)
    }
}

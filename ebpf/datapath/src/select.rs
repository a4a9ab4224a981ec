//! Which backend a new connection goes to.

use skep_abi::{BackendFlags, BackendId, BackendValue, ServiceFlags, ServiceId};

use crate::tables::ServiceTables;

/// The outcome of a selection.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// This one.
    Backend(BackendId, &'a BackendValue),
    /// The service has no ready endpoint.
    NoBackend,
    /// The tables point to nothing: a service, slot or backend is missing.
    Hole,
}

/// Maps a uniformly distributed `random` to `0..count`, uniformly to within `count` / 2^32.
#[inline(always)]
pub const fn scale(random: u32, count: u32) -> u32 {
    ((random as u64 * count as u64) >> 32) as u32
}

/// Chooses among the service's slots, each with the same probability.
#[inline(always)]
pub fn choose<T: ServiceTables>(tables: &T, service: ServiceId) -> Choice<'_> {
    let Some(value) = tables.service(service) else {
        return Choice::Hole;
    };
    let (offset, count) = value.slots();
    if count == 0 {
        return if value.flags.contains(ServiceFlags::PRESENT) {
            Choice::NoBackend
        } else {
            Choice::Hole
        };
    }
    let index = offset.wrapping_add(scale(tables.random(), count));
    let Some(id) = tables.slot(index) else {
        return Choice::Hole;
    };
    match tables.backend(id) {
        Some(backend) if backend.flags.contains(BackendFlags::PRESENT) => Choice::Backend(id, backend),
        _ => Choice::Hole,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fake::World;

    #[test]
    fn absent_service_is_a_hole_and_an_empty_one_has_no_backend() {
        let mut world = World::new();
        let empty = world.add_service(&[]);
        assert_eq!(choose(&world, empty), Choice::NoBackend);
        assert_eq!(choose(&world, ServiceId(99)), Choice::Hole);
    }

    #[test]
    fn slot_without_backend_is_a_hole() {
        let mut world = World::new();
        let service = world.add_service(&["10.0.0.1:80"]);
        world.backends.clear();
        assert_eq!(choose(&world, service), Choice::Hole);
    }

    #[test]
    fn choice_is_uniform_within_one_percent() {
        let mut world = World::new();
        let service = world.add_service(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
        let mut hits = std::collections::BTreeMap::new();
        for _ in 0..300_000 {
            let Choice::Backend(id, _) = choose(&world, service) else {
                panic!("no backend")
            };
            *hits.entry(id).or_insert(0_u32) += 1;
        }
        assert_eq!(hits.len(), 3);
        assert!(hits.values().all(|&n| n.abs_diff(100_000) < 1_000), "{hits:?}");
    }

    proptest! {
        #[test]
        fn scale_stays_below_count(random in any::<u32>(), count in 1_u32..) {
            prop_assert!(scale(random, count) < count);
        }
    }
}

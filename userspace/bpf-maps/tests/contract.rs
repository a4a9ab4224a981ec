//! One suite for both implementations of the tables. The kernel's part needs root and fails without it.

use skep_abi::{
    Address, BackendFlags, BackendId, BackendValue, FrontendKey, FrontendValue, PortBe, PrefixKey, Protocol,
    ServiceFlags, ServiceId, ServiceSerial, ServiceStats, ServiceValue, maps,
};
use skep_bpf_maps::{KernelMaps, MapError, MemoryMaps, RawMap, ServiceMaps, Table};

/// Capacity of every map in this suite; more than one batch of entries.
const CAPACITY: u32 = 10_000;

fn kernel() -> KernelMaps {
    let maps = KernelMaps::gather(|spec| RawMap::create(spec, CAPACITY));
    maps.unwrap_or_else(|error| panic!("creating maps in the kernel needs root: {error:?}"))
}

fn memory() -> MemoryMaps {
    MemoryMaps::with_capacities(|_| CAPACITY)
}

fn on_both(test: impl Fn(&dyn ServiceMaps)) {
    test(&memory());
    test(&kernel());
}

fn frontend(n: u32) -> FrontendKey {
    let [_, b, c, d] = n.to_be_bytes();
    FrontendKey {
        address: Address::from(std::net::Ipv4Addr::new(10, b, c, d)),
        port: PortBe::from_host(80),
        protocol: Protocol::TCP,
        ..FrontendKey::default()
    }
}

fn value(n: u32) -> FrontendValue {
    FrontendValue {
        service: ServiceId(n),
        ..FrontendValue::default()
    }
}

#[test]
fn what_is_written_is_read_and_what_is_deleted_is_gone() {
    on_both(|maps| {
        let table = maps.frontends();
        assert_eq!(table.get(&frontend(1)).unwrap(), None);
        table.put(&frontend(1), &value(1)).unwrap();
        table.put(&frontend(1), &value(2)).unwrap();
        assert_eq!(table.get(&frontend(1)).unwrap(), Some(value(2)));
        assert!(table.delete(&frontend(1)).unwrap());
        assert!(!table.delete(&frontend(1)).unwrap());
        assert_eq!(table.entries().unwrap(), []);
    });
}

#[test]
fn many_entries_are_written_and_read_in_batches() {
    on_both(|maps| {
        let entries: Vec<_> = (1..=CAPACITY).map(|n| (frontend(n), value(n))).collect();
        maps.frontends().put_all(&entries).unwrap();
        let mut found = maps.frontends().entries().unwrap();
        found.sort();
        assert!(found == entries, "{} of {} entries", found.len(), entries.len());
        let slots: Vec<_> = (0..CAPACITY).map(|n| (n, BackendId(n + 1))).collect();
        maps.slots().put_all(&slots).unwrap();
        let mut found = maps.slots().entries().unwrap();
        found.sort();
        assert!(found == slots, "{} of {} slots", found.len(), slots.len());
    });
}

#[test]
fn full_map_says_so_and_keeps_what_it_has() {
    on_both(|maps| {
        let entries: Vec<_> = (1..=CAPACITY).map(|n| (frontend(n), value(n))).collect();
        maps.frontends().put_all(&entries).unwrap();
        let table = maps.frontends();
        let full = table.put(&frontend(CAPACITY + 1), &value(1)).unwrap_err();
        assert!(
            matches!(
                full,
                MapError::Full {
                    map: "FRONTENDS",
                    capacity: CAPACITY
                }
            ),
            "{full:?}"
        );
        let full = table.put_all(&[(frontend(CAPACITY + 1), value(1))]).unwrap_err();
        assert!(matches!(full, MapError::Full { .. }), "{full:?}");
        table.put(&frontend(7), &value(99)).unwrap();
        assert_eq!(table.get(&frontend(7)).unwrap(), Some(value(99)));
        assert_eq!(table.get(&frontend(CAPACITY)).unwrap(), Some(value(CAPACITY)));
        table.delete(&frontend(7)).unwrap();
        table.put(&frontend(CAPACITY + 1), &value(1)).unwrap();
    });
}

#[test]
fn arrays_have_bounds_and_zeroes_are_absent() {
    on_both(|maps| {
        let beyond = maps.slots().put(&CAPACITY, &BackendId(1)).unwrap_err();
        assert!(
            matches!(
                beyond,
                MapError::OutOfRange {
                    map: "SLOTS",
                    index: CAPACITY,
                    capacity: CAPACITY
                }
            ),
            "{beyond:?}"
        );
        assert!(maps.slots().get(&CAPACITY).is_err());
        assert_eq!(maps.services().get(&ServiceId(5)).unwrap(), None);
        let empty = ServiceValue {
            flags: ServiceFlags::PRESENT,
            ..ServiceValue::default()
        };
        maps.services().put(&ServiceId(5), &empty).unwrap();
        assert_eq!(maps.services().entries().unwrap(), [(ServiceId(5), empty)]);
        assert!(maps.services().delete(&ServiceId(5)).unwrap());
        assert!(!maps.services().delete(&ServiceId(5)).unwrap());
        let backend = BackendValue {
            flags: BackendFlags::PRESENT,
            ..BackendValue::default()
        };
        maps.backends().put(&BackendId(3), &backend).unwrap();
        assert_eq!(maps.backends().entries().unwrap(), [(BackendId(3), backend)]);
    });
}

#[test]
fn prefixes_are_entries_like_others() {
    on_both(|maps| {
        let mut prefixes = [
            PrefixKey::new(std::net::Ipv4Addr::new(10, 96, 0, 0), 16),
            PrefixKey::new(std::net::Ipv4Addr::new(10, 96, 1, 0), 24),
            PrefixKey::new(std::net::Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0), 112),
        ];
        prefixes.sort();
        let table = maps.service_ranges();
        table.put_all(&prefixes.map(|prefix| (prefix, 1))).unwrap();
        let mut found: Vec<_> = table
            .entries()
            .unwrap()
            .into_iter()
            .map(|(prefix, _)| prefix)
            .collect();
        found.sort();
        assert_eq!(found, prefixes);
        assert!(table.delete(&prefixes[1]).unwrap());
        assert_eq!(table.entries().unwrap().len(), 2);
    });
}

/// Walks a table by stripes; returns what was met and in how many stripes.
fn walk<K, V>(table: &dyn Table<K, V>, size: u32) -> (Vec<(K, V)>, u32) {
    let (mut met, mut cursor, mut stripes) = (Vec::new(), None, 0);
    loop {
        let stripe = table.stripe(cursor.as_ref(), size).expect("a stripe");
        met.extend(stripe.entries);
        stripes += 1;
        cursor = stripe.next;
        if cursor.is_none() {
            return (met, stripes);
        }
    }
}

#[test]
fn a_walk_by_stripes_meets_everything_a_part_at_a_time() {
    on_both(|maps| {
        let entries: Vec<_> = (1..=3_000).map(|n| (frontend(n), value(n))).collect();
        maps.frontends().put_all(&entries).unwrap();
        let (mut met, stripes) = walk(maps.frontends(), 100);
        met.sort();
        assert!(
            met == entries && (20..=40).contains(&stripes),
            "{} in {stripes} stripes",
            met.len()
        );
        maps.slots().put(&7, &BackendId(8)).unwrap();
        let (met, stripes) = walk(maps.slots(), 1_000);
        let expected = (0..CAPACITY).map(|n| (n, BackendId(if n == 7 { 8 } else { 0 })));
        assert!(
            met == expected.collect::<Vec<_>>() && (10..=11).contains(&stripes),
            "{stripes} stripes"
        );
    });
}

#[test]
fn counts_start_once_and_are_forgotten() {
    on_both(|maps| {
        let counts = maps.service_counts();
        let many: Vec<_> = (1..=500).map(ServiceSerial).collect();
        for serial in many.iter().chain(&many) {
            counts.start(*serial).unwrap();
        }
        let mut found = counts.entries().unwrap();
        found.sort_by_key(|(serial, _)| *serial);
        let zeroes: Vec<_> = many
            .iter()
            .map(|serial| (*serial, ServiceStats::default()))
            .collect();
        assert_eq!(found, zeroes);
        many.iter().for_each(|serial| counts.stop(*serial).unwrap());
        counts.stop(ServiceSerial(1)).unwrap();
        assert_eq!(counts.entries().unwrap(), []);
    });
}

#[test]
fn kernel_tells_the_memory_of_a_map() {
    let small = RawMap::create(&maps::SLOTS, 1_000)
        .unwrap()
        .memory_bytes()
        .unwrap();
    let large = RawMap::create(&maps::SLOTS, 100_000)
        .unwrap()
        .memory_bytes()
        .unwrap();
    assert!(small >= 4_000 && large >= 400_000, "{small} {large}");
}

//! Random changes, one after another: whatever prefix of the operations is written, no reader meets a hole, and
//! who had backends before and has some after has some in between. The end is what a new table would give.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use skep_abi::node_port::node_port_bit;
use skep_abi::{BackendValue, FrontendKey, FrontendValue, PrefixKey};
use skep_service_table::{IdState, Limits, NodeLocal, NodeView, ServiceTable};
use support::MapModel;

/// Small enough that room runs out.
const TIGHT: Limits = Limits {
    frontends: 12,
    source_ranges: 3,
    services: 9,
    slots: 24,
    backends: 10,
};

#[derive(Clone, Debug)]
enum Change {
    Service {
        at: usize,
        shape: u8,
    },
    RemoveService(usize),
    Slice {
        slice: usize,
        service: usize,
        endpoints: Vec<(u8, u8, bool, u8)>,
    },
    RemoveSlice(usize),
    Node(u8),
}

fn change() -> impl Strategy<Value = Change> {
    let endpoints = prop::collection::vec((1_u8..12, 0_u8..4, any::<bool>(), 0_u8..8), 0..9);
    prop_oneof![
        2 => (0_usize..4, any::<u8>()).prop_map(|(at, shape)| Change::Service { at, shape }),
        1 => (0_usize..4).prop_map(Change::RemoveService),
        6 => (0_usize..5, 0_usize..4, endpoints)
            .prop_map(|(slice, service, endpoints)| Change::Slice { slice, service, endpoints }),
        1 => (0_usize..5).prop_map(Change::RemoveSlice),
        1 => (0_u8..3).prop_map(Change::Node),
    ]
}

/// The objects as the API server would hold them.
#[derive(Clone, Debug, Default)]
struct World {
    services: BTreeMap<usize, Value>,
    slices: BTreeMap<usize, Value>,
    node: u8,
}

fn node(last: u8) -> NodeView {
    NodeView {
        name: "n1".to_owned(),
        addresses: vec![
            format!("172.29.0.{last}").parse().unwrap(),
            "fd29::1".parse().unwrap(),
        ],
        zone: format!("z{last}"),
        restrict_node_ports: last == 1,
        node_local: vec![NodeLocal {
            namespace: "d".to_owned(),
            name: "s3".to_owned(),
            address: "169.254.20.10".parse().unwrap(),
        }],
    }
}

fn service(at: usize, shape: u8) -> Value {
    let bit = |bit: u8| shape & 1 << bit != 0;
    let policy = |bit_set: bool| if bit_set { "Local" } else { "Cluster" };
    let mut ports = vec![json!({"name": "a", "port": 80, "nodePort": if bit(0) { 30000 + at } else { 0 }})];
    if bit(1) {
        ports.push(json!({"name": "b", "port": 81, "protocol": "UDP"}));
    }
    let ips = if bit(2) {
        vec![format!("10.0.0.{at}"), format!("fd00::{at}")]
    } else {
        vec![format!("10.0.0.{at}")]
    };
    let ranges = match (bit(7), at) {
        (false, _) => json!([]),
        (true, 0) => json!(["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]),
        (true, _) => json!(["192.0.2.0/24", " 192.0.2.77/24 ", "198.51.100.0/24"]),
    };
    let status = json!({"loadBalancer": {"ingress": [{"ip": format!("203.0.113.{at}")}]}});
    json!({"metadata": {"namespace": "d", "name": format!("s{at}")}, "status": status, "spec": {
        "type": if bit(7) { "LoadBalancer" } else { "NodePort" }, "loadBalancerSourceRanges": ranges,
        "clusterIPs": ips, "ports": ports,
        "internalTrafficPolicy": policy(bit(3)), "externalTrafficPolicy": policy(bit(4)),
        "externalIPs": if bit(5) { vec!["192.0.2.1"] } else { vec![] },
        "sessionAffinity": if bit(6) { "ClientIP" } else { "None" },
    }})
}

fn slice(slice: usize, service: usize, endpoints: &[(u8, u8, bool, u8)]) -> Value {
    let v6 = slice == 4;
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(host, state, local, hint)| {
            // Few are without hints, lest hints never count.
            let zones = (*hint > 0).then(|| json!([{"name": format!("z{}", hint % 3)}]));
            let nodes = (*hint > 3).then(|| json!([{"name": format!("n{}", hint % 2)}]));
            json!({
                "hints": {"forZones": zones, "forNodes": nodes},
                "addresses": [if v6 { format!("fd10::{host}") } else { format!("10.1.0.{host}") }],
                "nodeName": if *local { "n1" } else { "n2" },
                "conditions": {"ready": *state >= 2, "serving": *state >= 1, "terminating": *state == 1},
            })
        })
        .collect();
    json!({
        "metadata": {"namespace": "d", "name": format!("e{slice}"),
            "labels": {"kubernetes.io/service-name": format!("s{service}")}},
        "addressType": if v6 { "IPv6" } else { "IPv4" }, "endpoints": endpoints,
        "ports": [{"name": "a", "port": 8080 + slice % 2}, {"name": "b", "port": 81, "protocol": "UDP"}],
    })
}

impl World {
    fn apply(&mut self, table: &mut ServiceTable, change: &Change) {
        match change {
            Change::Service { at, shape } => {
                let object = service(*at, *shape);
                table.apply_service(&serde_json::from_value(object.clone()).unwrap());
                self.services.insert(*at, object);
            }
            Change::RemoveService(at) => {
                table.remove_service("d", &format!("s{at}"));
                self.services.remove(at);
            }
            Change::Slice {
                slice: at,
                service,
                endpoints,
            } => {
                let object = slice(*at, *service, endpoints);
                table.apply_slice(&serde_json::from_value(object.clone()).unwrap());
                self.slices.insert(*at, object);
            }
            Change::RemoveSlice(at) => {
                table.remove_slice("d", &format!("e{at}"));
                self.slices.remove(at);
            }
            Change::Node(last) => {
                table.set_node(node(*last));
                self.node = *last;
            }
        }
    }

    /// A new table over maps that hold `state`, with every object applied.
    fn table(&self, limits: Limits, state: &IdState) -> ServiceTable {
        let mut table = ServiceTable::new(node(self.node), limits, state);
        for object in self.services.values() {
            table.apply_service(&serde_json::from_value(object.clone()).unwrap());
        }
        for object in self.slices.values() {
            table.apply_slice(&serde_json::from_value(object.clone()).unwrap());
        }
        table
    }
}

type Picks = BTreeMap<FrontendKey, (FrontendValue, BTreeSet<BackendValue>)>;

fn picks(maps: &MapModel) -> Picks {
    let keys = maps.frontends.iter();
    keys.map(|(key, value)| {
        let picks = maps.picks(key).unwrap();
        let distinct: BTreeSet<_> = picks.iter().copied().collect();
        (*key, (*value, distinct))
    })
    .collect()
}

/// The clients that may use this frontend; None = all.
fn admitted(maps: &MapModel, value: &FrontendValue) -> Option<BTreeSet<PrefixKey>> {
    let restricted = value.flags.contains(skep_abi::FrontendFlags::RESTRICTED);
    let ranges = maps.source_ranges.iter();
    let own = ranges.filter(|range| range.service == value.service);
    restricted.then(|| {
        own.map(|range| PrefixKey {
            prefix_length: range.prefix_length - 32,
            address: range.address,
        })
        .collect()
    })
}

/// What readers get, without regard to ids.
fn meaning(maps: &MapModel) -> BTreeMap<FrontendKey, Meaning> {
    picks(maps)
        .into_iter()
        .map(|(key, (value, backends))| (key, (value.flags.0, admitted(maps, &value), backends)))
        .collect()
}

type Meaning = (u32, Option<BTreeSet<PrefixKey>>, BTreeSet<BackendValue>);

/// Writes the operations one by one, looking at every frontend after each.
fn write(maps: &mut MapModel, table: &mut ServiceTable) -> Result<(), TestCaseError> {
    let ops = table.take_ops();
    let (begin, before) = (maps.clone(), picks(maps));
    let mut end = maps.clone();
    end.apply_all(&ops);
    let after = picks(&end);
    for op in &ops {
        maps.apply(op);
        let now = picks(maps);
        for (key, (value, had)) in &before {
            let Some((new_value, will_have)) = after.get(key) else {
                continue;
            };
            let Some((_, has)) = now.get(key) else {
                return Err(TestCaseError::fail(format!("{key:?} vanished at {op:?}")));
            };
            if !had.is_empty() && !will_have.is_empty() {
                prop_assert!(!has.is_empty(), "{key:?} has no backend at {op:?}");
            }
            check_admission((&begin, value), (maps, &maps.frontends[key]), (&end, new_value))?;
            // A frontend that moves to another set may meet the old one's newcomers or the new one's leavers.
            let newcomers: BTreeSet<_> = end.members(value.service).into_iter().flatten().collect();
            let leavers: BTreeSet<_> = begin.members(new_value.service).into_iter().flatten().collect();
            for backend in has {
                let mut known = [had, will_have, &newcomers, &leavers].into_iter().flatten();
                let is_known = known.any(|other| same_endpoint(other, backend));
                prop_assert!(is_known, "{key:?} led to a stranger {backend:?} at {op:?}");
            }
        }
        for key in maps
            .frontends
            .keys()
            .filter(|key| (30_000..30_010).contains(&key.port.to_host()))
        {
            let (word, bit) = node_port_bit(key.protocol, key.port).unwrap();
            let leaving = !after.contains_key(key);
            let bits = maps.node_ports.get(&word).copied().unwrap_or(0);
            prop_assert!(leaving || bits & bit != 0, "{key:?} is anybody's at {op:?}");
        }
        for (key, value) in maps
            .frontends
            .iter()
            .filter(|(_, v)| v.flags.contains(skep_abi::FrontendFlags::SPLIT))
        {
            let outside = FrontendKey {
                scope: skep_abi::Scope::EXTERNAL,
                ..*key
            };
            prop_assert!(
                maps.frontends.contains_key(&outside),
                "{key:?} {value:?} is split to nothing at {op:?}"
            );
        }
    }
    Ok(())
}

/// Who was admitted before and is after is admitted in between; who is neither, is not, unless the frontend moves
/// to another set, which may have other clients for a moment.
fn check_admission(
    begin: (&MapModel, &FrontendValue),
    now: (&MapModel, &FrontendValue),
    end: (&MapModel, &FrontendValue),
) -> Result<(), TestCaseError> {
    let admits = |(maps, value): (&MapModel, &FrontendValue), client: &PrefixKey| {
        admitted(maps, value).is_none_or(|ranges| ranges.contains(client))
    };
    let all = [begin, now, end];
    let known: BTreeSet<PrefixKey> = all.iter().flat_map(|at| admitted(at.0, at.1)).flatten().collect();
    let anybody = PrefixKey::new("203.0.113.200".parse::<std::net::IpAddr>().unwrap(), 32);
    for client in known.iter().chain([&anybody]) {
        let (had, has, will_have) = (admits(begin, client), admits(now, client), admits(end, client));
        prop_assert!(has || !(had && will_have), "{client:?} is turned away");
        let same_set = begin.1.service == end.1.service;
        prop_assert!(!has || had || will_have || !same_set, "{client:?} slips in");
    }
    Ok(())
}

fn same_endpoint(a: &BackendValue, b: &BackendValue) -> bool {
    (a.address, a.port, a.protocol) == (b.address, b.port, b.protocol)
}

fn settle(maps: &mut MapModel, table: &mut ServiceTable) -> Result<(), TestCaseError> {
    for _ in 0..16 {
        write(maps, table)?;
        if !table.has_deferred() {
            return Ok(());
        }
    }
    Err(TestCaseError::fail("the table never settles"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_prefix_of_every_change_is_safe(batches in prop::collection::vec(prop::collection::vec(change(), 1..4), 1..12)) {
        let (mut world, mut maps) = (World::default(), MapModel::default());
        let mut table = world.table(Limits::default(), &IdState::default());
        for batch in &batches {
            for change in batch {
                world.apply(&mut table, change);
            }
            write(&mut maps, &mut table)?;
        }
        settle(&mut maps, &mut table)?;
        prop_assert_eq!(table.problems(), []);

        // History leaves no trace but the ids: nothing stale, the same meaning as a table from scratch.
        let mut fresh = MapModel::default();
        fresh.apply_all(&world.table(Limits::default(), &IdState::default()).take_ops());
        prop_assert_eq!(meaning(&maps), meaning(&fresh));
        prop_assert_eq!(maps.backends.len(), fresh.backends.len());
        prop_assert_eq!(maps.services.len(), fresh.services.len());
        prop_assert_eq!(maps.slots.len(), fresh.slots.len());
        prop_assert_eq!(maps.source_ranges.len(), fresh.source_ranges.len());
        prop_assert_eq!(&maps.node_ports, &fresh.node_ports);

        // A restart rewrites nothing that is right. (Of two that claim one external address, the loser's set
        // may have no frontend to be recognised by.)
        let contested = world.services.values().filter(|service| service["spec"]["externalIPs"] != json!([])).count() > 1;
        let mut restarted = world.table(Limits::default(), &maps.state());
        prop_assert!(contested || restarted.take_ops().is_empty());
    }

    #[test]
    fn a_restart_after_missed_changes_is_safe(
        before in prop::collection::vec(change(), 1..12), missed in prop::collection::vec(change(), 0..6), cut in 0_usize..40,
    ) {
        let (mut world, mut maps) = (World::default(), MapModel::default());
        let mut table = world.table(Limits::default(), &IdState::default());
        for change in &before {
            world.apply(&mut table, change);
        }
        // Killed in the middle of writing.
        table.take_ops().iter().take(cut).for_each(|op| maps.apply(op));
        for change in &missed {
            world.apply(&mut table, change);
        }
        let mut table = world.table(Limits::default(), &maps.state());
        settle(&mut maps, &mut table)?;
        let mut fresh = MapModel::default();
        fresh.apply_all(&world.table(Limits::default(), &IdState::default()).take_ops());
        prop_assert_eq!(meaning(&maps), meaning(&fresh));
        prop_assert_eq!((maps.backends.len(), maps.slots.len()), (fresh.backends.len(), fresh.slots.len()));
    }

    #[test]
    fn a_failed_write_is_made_good(
        batches in prop::collection::vec((prop::collection::vec(change(), 1..4), 0_usize..30), 1..10),
    ) {
        let (mut world, mut maps) = (World::default(), MapModel::default());
        let mut table = world.table(Limits::default(), &IdState::default());
        for (batch, cut) in &batches {
            for change in batch {
                world.apply(&mut table, change);
            }
            let ops = table.take_ops();
            ops.iter().take(*cut).for_each(|op| maps.apply(op));
            if *cut < ops.len() {
                table.resync(&maps.state());
                write(&mut maps, &mut table)?;
            }
        }
        settle(&mut maps, &mut table)?;
        let mut fresh = MapModel::default();
        fresh.apply_all(&world.table(Limits::default(), &IdState::default()).take_ops());
        prop_assert_eq!(meaning(&maps), meaning(&fresh));
    }

    #[test]
    fn full_maps_stay_within_their_limits_and_fill_up_again(batches in prop::collection::vec(prop::collection::vec(change(), 1..4), 1..12)) {
        let (mut world, mut maps) = (World::default(), MapModel::default());
        let mut table = world.table(TIGHT, &IdState::default());
        for batch in &batches {
            for change in batch {
                world.apply(&mut table, change);
            }
            for op in table.take_ops() {
                maps.apply(&op);
                prop_assert!(maps.frontends.len() <= TIGHT.frontends as usize);
                prop_assert!(maps.source_ranges.len() <= TIGHT.source_ranges as usize);
                prop_assert!(maps.services.keys().all(|id| id.0 < TIGHT.services));
                prop_assert!(maps.slots.keys().all(|slot| *slot < TIGHT.slots));
                prop_assert!(maps.backends.keys().all(|id| id.0 < TIGHT.backends));
                prop_assert!(maps.names.len() <= TIGHT.services as usize);
                picks(&maps);
            }
        }
        // With everything but one Service gone, there is room for it, and it is found without a further event.
        for at in 1..4 {
            world.apply(&mut table, &Change::RemoveService(at));
        }
        world.apply(&mut table, &Change::Service { at: 0, shape: 1 });
        for slice in 1..5 {
            world.apply(&mut table, &Change::RemoveSlice(slice));
        }
        world.apply(&mut table, &Change::Slice { slice: 0, service: 0, endpoints: vec![(1, 3, true, 0), (2, 3, false, 0)] });
        for _ in 0..16 {
            table.take_ops().iter().for_each(|op| maps.apply(op));
        }
        prop_assert_eq!(table.problems(), []);
        let mut fresh = MapModel::default();
        fresh.apply_all(&world.table(TIGHT, &IdState::default()).take_ops());
        prop_assert_eq!(meaning(&maps), meaning(&fresh));
    }
}

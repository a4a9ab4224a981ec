//! The endpoints that a node uses, against the rules written down plainly, over random changes of hints, readiness
//! and the node's zone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use skep_abi::{FrontendKey, PortBe, Protocol, Scope};
use skep_service_table::{IdState, Limits, NodeView, ServiceTable};
use support::MapModel;

const NODE_PORT: u16 = 30_000;

#[derive(Clone, Debug)]
struct Endpoint {
    host: u8,
    node: u8,
    ready: bool,
    leaving: bool,
    zones: Vec<u8>,
    nodes: Vec<u8>,
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    // Seldom without hints, because one such endpoint is enough for all hints to be ignored.
    let hints = || {
        prop_oneof![
            1 => Just(Vec::new()),
            8 => prop::collection::vec(0_u8..3, 1..3),
        ]
    };
    (0_u8..8, 0_u8..3, 0_u8..4, hints(), hints()).prop_map(|(host, node, state, zones, nodes)| Endpoint {
        host,
        node,
        ready: state > 1,
        leaving: state == 1,
        zones,
        nodes,
    })
}

#[derive(Clone, Debug)]
enum Change {
    Slice(usize, Vec<Endpoint>),
    Zone(Option<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0_usize..3, prop::collection::vec(endpoint(), 0..4)).prop_map(|(at, list)| Change::Slice(at, list)),
        1 => prop::option::of(0_u8..3).prop_map(Change::Zone),
    ]
}

fn node(zone: Option<u8>) -> NodeView {
    NodeView {
        name: "n0".to_owned(),
        addresses: vec!["172.29.0.1".parse().unwrap()],
        zone: zone.map_or(String::new(), |zone| format!("z{zone}")),
        ..NodeView::default()
    }
}

fn service() -> Value {
    json!({"metadata": {"namespace": "d", "name": "s"}, "spec": {
        "type": "NodePort", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "nodePort": NODE_PORT}],
        "externalTrafficPolicy": "Local",
    }})
}

/// Slices share no endpoint: the second digit of an address is its slice.
fn address(slice: usize, endpoint: &Endpoint) -> String {
    format!("10.1.{slice}.{}", endpoint.host)
}

fn slice(at: usize, endpoints: &[Endpoint]) -> Value {
    let names = |kind: &str, hints: &[u8]| -> Vec<Value> {
        hints
            .iter()
            .map(|hint| json!({"name": format!("{kind}{hint}")}))
            .collect()
    };
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "addresses": [address(at, endpoint)], "nodeName": format!("n{}", endpoint.node),
                "conditions": {"ready": endpoint.ready, "serving": true, "terminating": endpoint.leaving},
                "hints": {"forZones": names("z", &endpoint.zones), "forNodes": names("n", &endpoint.nodes)},
            })
        })
        .collect();
    json!({
        "metadata": {"namespace": "d", "name": format!("e{at}"), "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": endpoints,
    })
}

/// What the rules say: the endpoints of policy Cluster, and those of policy Local.
fn expected(slices: &[Vec<Endpoint>], zone: Option<u8>) -> [BTreeSet<String>; 2] {
    let all = || {
        let numbered = slices.iter().enumerate();
        numbered.flat_map(|(at, list)| list.iter().map(move |endpoint| (at, endpoint)))
    };
    let names = |wanted: &dyn Fn(&Endpoint) -> bool| -> BTreeSet<String> {
        let wanted = all().filter(|(_, endpoint)| wanted(endpoint));
        wanted.map(|(at, endpoint)| address(at, endpoint)).collect()
    };
    let or_leaving = |ready: BTreeSet<String>, here: &dyn Fn(&Endpoint) -> bool| {
        if ready.is_empty() {
            names(&|endpoint| endpoint.leaving && here(endpoint))
        } else {
            ready
        }
    };
    let for_zone = |endpoint: &Endpoint| zone.is_some_and(|zone| endpoint.zones.contains(&zone));
    let for_node = |endpoint: &Endpoint| endpoint.nodes.contains(&0);
    let ready: Vec<&Endpoint> = all().map(|(_, endpoint)| endpoint).filter(|e| e.ready).collect();
    let cluster = if ready.iter().all(|e| !e.nodes.is_empty()) && ready.iter().any(|e| for_node(e)) {
        names(&|endpoint| endpoint.ready && for_node(endpoint))
    } else if ready.iter().all(|e| !e.zones.is_empty()) && ready.iter().any(|e| for_zone(e)) {
        names(&|endpoint| endpoint.ready && for_zone(endpoint))
    } else {
        names(&|endpoint| endpoint.ready)
    };
    let local = |endpoint: &Endpoint| endpoint.node == 0;
    [
        or_leaving(cluster, &|_| true),
        or_leaving(names(&|endpoint| endpoint.ready && local(endpoint)), &local),
    ]
}

fn seen(maps: &MapModel, ip: &str, port: u16, scope: Scope) -> BTreeSet<String> {
    let key = FrontendKey {
        address: ip.parse::<std::net::IpAddr>().unwrap().into(),
        port: PortBe::from_host(port),
        protocol: Protocol::TCP,
        scope,
    };
    let picks = maps.picks(&key).unwrap();
    picks.iter().map(|backend| backend.address.to_string()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn endpoints_in_use_are_those_of_the_rules(changes in prop::collection::vec(change(), 1..20)) {
        let (mut slices, mut zone) = (vec![Vec::new(); 3], None);
        let mut table = ServiceTable::new(node(zone), Limits::default(), &IdState::default());
        let mut maps = MapModel::default();
        table.apply_service(&serde_json::from_value(service()).unwrap());
        for change in changes {
            match change {
                Change::Zone(new) => {
                    zone = new;
                    table.set_node(node(zone));
                }
                Change::Slice(at, mut endpoints) => {
                    endpoints.sort_by_key(|endpoint| endpoint.host);
                    endpoints.dedup_by_key(|endpoint| endpoint.host);
                    table.apply_slice(&serde_json::from_value(slice(at, &endpoints)).unwrap());
                    slices[at] = endpoints;
                }
            }
            maps.apply_all(&table.take_ops());
            let [cluster, local] = expected(&slices, zone);
            prop_assert_eq!(&seen(&maps, "10.0.0.1", 80, Scope::ANY), &cluster);
            prop_assert_eq!(&seen(&maps, "172.29.0.1", NODE_PORT, Scope::ANY), &cluster);
            prop_assert_eq!(&seen(&maps, "172.29.0.1", NODE_PORT, Scope::EXTERNAL), &local);
        }
        while table.has_deferred() {
            maps.apply_all(&table.take_ops());
        }
        let mut restarted = ServiceTable::new(node(zone), Limits::default(), &maps.state());
        restarted.apply_service(&serde_json::from_value(service()).unwrap());
        for (at, endpoints) in slices.iter().enumerate() {
            restarted.apply_slice(&serde_json::from_value(slice(at, endpoints)).unwrap());
        }
        prop_assert_eq!(restarted.take_ops(), []);
    }
}

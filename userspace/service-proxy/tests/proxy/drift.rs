//! Maps that somebody else writes to.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use serde_json::json;
use skep_abi::{
    BackendId, BackendValue, FrontendKey, FrontendValue, PortBe, ServiceFlags, ServiceId, ServiceValue,
    SourceRangeKey,
};
use skep_bpf_maps::{MemoryMaps, ServiceMaps, Table};
use skep_client::testing::FakeTransport;
use tokio::time::sleep;

use crate::support::{Running, eventually, maps, put_service, put_slice, start};

const SERVICES: u8 = 200;
/// Every stripe has had its turn by then.
const ROUND: Duration = Duration::from_secs(61);

fn repaired(proxy: &Running, map: &str) -> f64 {
    let line = format!("skep_proxy_drift_repaired_total{{map=\"{map}\"}}");
    proxy.try_metric(&line).unwrap_or(0.0)
}

type Content = (
    Vec<(FrontendKey, FrontendValue)>,
    Vec<(ServiceId, ServiceValue)>,
    Vec<(u32, BackendId)>,
    Vec<(BackendId, BackendValue)>,
);

fn content(maps: &MemoryMaps) -> Content {
    (
        maps.frontends().entries().unwrap(),
        maps.services().entries().unwrap(),
        maps.slots().entries().unwrap(),
        maps.backends().entries().unwrap(),
    )
}

/// Removes one entry, replaces another, and adds one.
fn corrupt<K: Copy, V: Copy>(table: &dyn Table<K, V>, foreign: (K, V)) {
    let entries = table.entries().unwrap();
    let [first, .., last] = &entries[..] else {
        panic!("few entries")
    };
    table.delete(&first.0).unwrap();
    table.put(&last.0, &foreign.1).unwrap();
    table.put(&foreign.0, &foreign.1).unwrap();
}

async fn started(api: &FakeTransport, maps: &Arc<MemoryMaps>) -> Running {
    for n in 0..SERVICES {
        put_service(api, &format!("s{n}"), &format!("10.64.0.{n}"), 0);
        put_slice(
            api,
            &format!("s{n}"),
            &[&format!("10.128.0.{n}"), &format!("10.128.1.{n}")],
            None,
        );
    }
    let proxy = start(api, maps);
    eventually("the first sync", || {
        maps.frontends().entries().unwrap().len() == usize::from(SERVICES)
    })
    .await;
    proxy
}

#[tokio::test(start_paused = true)]
async fn what_others_change_in_any_map_is_set_right_within_a_minute() {
    let (api, maps) = (FakeTransport::new(), maps());
    let proxy = started(&api, &maps).await;
    let right = content(&maps);
    let key = FrontendKey {
        port: PortBe::from_host(9),
        ..FrontendKey::default()
    };
    let service = ServiceValue {
        slot_count: 7,
        flags: ServiceFlags::PRESENT,
        ..ServiceValue::default()
    };
    let backend = BackendValue {
        weight: 9,
        ..BackendValue::default()
    };
    corrupt(
        maps.frontends(),
        (
            key,
            FrontendValue {
                service: ServiceId(9_999),
                ..FrontendValue::default()
            },
        ),
    );
    corrupt(maps.services(), (ServiceId(4_000), service));
    corrupt(maps.slots(), (4_000, BackendId(77)));
    corrupt(maps.backends(), (BackendId(4_000), backend));
    sleep(ROUND).await;
    assert!(content(&maps) == right);
    for map in ["FRONTENDS", "SERVICES", "SLOTS", "BACKENDS"] {
        assert_eq!(repaired(&proxy, map), 3.0, "{map}");
    }
    let writes = maps.writes();
    sleep(ROUND).await;
    assert_eq!(maps.writes(), writes, "nothing is repaired twice");
    for (map, entries) in [
        ("FRONTENDS", 200.0),
        ("SERVICES", 200.0),
        ("SLOTS", 400.0),
        ("BACKENDS", 400.0),
    ] {
        let metric = |name| proxy.metric(&format!("skep_proxy_map_{name}{{map=\"{map}\"}}"));
        assert_eq!(metric("entries"), entries, "{map}");
        assert_eq!(metric("capacity"), 4_096.0, "{map}");
    }
    proxy.stop().await;
}

#[tokio::test(start_paused = true)]
async fn source_ranges_and_node_ports_are_set_right_too() {
    let (api, maps) = (FakeTransport::new(), maps());
    let object = json!({
        "metadata": {"namespace": "default", "name": "web", "uid": "web"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.64.0.7", "clusterIPs": ["10.64.0.7"],
            "loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8::/32", "203.0.113.0/24"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30_080}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}},
    });
    api.put::<Service>(&serde_json::from_value(object).unwrap());
    let proxy = start(&api, &maps);
    let content = || {
        (
            maps.source_ranges().entries().unwrap(),
            maps.node_ports().entries().unwrap(),
        )
    };
    eventually("the first sync", || {
        content().0.len() == 2 && content().1.len() == 1
    })
    .await;
    let right = content();
    let (range, _) = right.0[0];
    maps.source_ranges().delete(&range).unwrap();
    let foreign = SourceRangeKey {
        prefix_length: 32,
        ..range
    };
    maps.source_ranges().put(&foreign, &1).unwrap();
    maps.node_ports().put(&right.1[0].0, &0b11).unwrap();
    maps.node_ports().put(&7, &1).unwrap();
    sleep(ROUND).await;
    assert_eq!(content(), right);
    for map in ["SOURCE_RANGES", "NODE_PORTS"] {
        assert_eq!(repaired(&proxy, map), 2.0, "{map}");
    }
    proxy.stop().await;
}

#[tokio::test(start_paused = true)]
async fn changes_under_way_are_not_taken_for_drift() {
    let (api, maps) = (FakeTransport::new(), maps());
    let proxy = started(&api, &maps).await;
    for round in 0..2_000_u32 {
        let name = format!("s{}", round % u32::from(SERVICES));
        let hosts: Vec<String> = (0..round % 7)
            .map(|host| format!("10.129.{host}.{}", round % 250))
            .collect();
        put_slice(
            &api,
            &name,
            &hosts.iter().map(String::as_str).collect::<Vec<_>>(),
            None,
        );
        sleep(Duration::from_millis(u64::from(round % 67))).await;
    }
    sleep(ROUND).await;
    for map in ["FRONTENDS", "SERVICES", "SLOTS", "BACKENDS"] {
        assert_eq!(repaired(&proxy, map), 0.0, "{map}");
    }
    proxy.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_the_maps_refuse_is_tried_again() {
    let (api, maps) = (FakeTransport::new(), maps());
    let proxy = started(&api, &maps).await;
    let right = content(&maps);
    let (key, _) = right.0[3];
    maps.frontends().delete(&key).unwrap();
    maps.fail_all_writes(true);
    sleep(ROUND).await;
    maps.fail_all_writes(false);
    eventually("the frontend is back", || content(&maps) == right).await;
    proxy.stop().await;
}

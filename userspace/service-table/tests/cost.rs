//! One endpoint's change writes that endpoint, however many Services and endpoints there are beside it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;
use skep_abi::BackendFlags;
use skep_service_table::{IdState, Limits, MapOp, NodeView, ServiceTable};

const SERVICES: usize = 300;
const ENDPOINTS: u8 = 10;

fn service(table: &mut ServiceTable, at: usize) {
    let ip = format!("10.64.{}.{}", at / 250, at % 250);
    let spec = json!({"clusterIPs": [ip], "ports": [{"port": 80}]});
    let object = json!({"metadata": {"namespace": "d", "name": format!("s{at}")}, "spec": spec});
    table.apply_service(&serde_json::from_value(object).unwrap());
}

/// Endpoints 0 to `count`; those of `terminating` are on their way out.
fn slice(table: &mut ServiceTable, at: usize, count: u8, terminating: &[u8]) {
    let endpoints: Vec<_> = (0..count)
        .map(|host| {
            let leaving = terminating.contains(&host);
            let conditions = json!({"ready": !leaving, "serving": true, "terminating": leaving});
            json!({"addresses": [format!("10.{}.{}.{host}", 128 + at / 250, at % 250)], "conditions": conditions})
        })
        .collect();
    let metadata = json!({
        "namespace": "d", "name": format!("s{at}-x"), "labels": {"kubernetes.io/service-name": format!("s{at}")},
    });
    let object = json!({
        "metadata": metadata, "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints,
    });
    table.apply_slice(&serde_json::from_value(object).unwrap());
}

fn table() -> ServiceTable {
    let mut table = ServiceTable::new(NodeView::default(), Limits::default(), &IdState::default());
    for at in 0..SERVICES {
        service(&mut table, at);
        slice(&mut table, at, ENDPOINTS, &[]);
    }
    assert_eq!(
        table.take_ops().len(),
        SERVICES * (2 * usize::from(ENDPOINTS) + 3)
    );
    assert_eq!(table.port_count(), SERVICES);
    table
}

#[test]
fn ports_are_counted_as_services_come_and_go() {
    let mut table = table();
    service(&mut table, SERVICES);
    table.take_ops();
    assert_eq!(table.port_count(), SERVICES + 1);
    table.remove_service("d", "s7");
    table.remove_service("d", "s8");
    table.take_ops();
    assert_eq!(table.port_count(), SERVICES - 1);
}

#[test]
fn an_added_endpoint_costs_its_backend_its_slot_and_the_count() {
    let mut table = table();
    slice(&mut table, 7, ENDPOINTS + 1, &[]);
    let ops = table.take_ops();
    assert!(
        matches!(ops[..], [MapOp::PutBackend(..), MapOp::PutSlot(..), MapOp::PutService(_, value)] if value.slot_count == 11),
        "{ops:?}"
    );
    assert!(!table.has_deferred());
}

#[test]
fn a_terminating_endpoint_costs_its_flags_the_hole_and_the_count_and_leaves_later() {
    let mut table = table();
    slice(&mut table, 7, ENDPOINTS, &[3]);
    let ops = table.take_ops();
    let [
        MapOp::PutBackend(gone, value),
        MapOp::PutSlot(..),
        MapOp::PutService(_, set),
    ] = ops[..]
    else {
        panic!("{ops:?}")
    };
    assert!(value.flags.contains(BackendFlags::TERMINATING));
    assert_eq!(set.slot_count, 9);
    // The hole at the end is emptied when no lookup can be under way any more; the backend stays while listed.
    assert!(table.has_deferred());
    assert!(matches!(table.take_ops()[..], [MapOp::DeleteSlot(_)]));
    slice(&mut table, 7, 3, &[]);
    let later: Vec<_> = [table.take_ops(), table.take_ops()].concat();
    assert!(later.contains(&MapOp::DeleteBackend(gone)), "{later:?}");
    assert!(!table.has_deferred());
}

/// Endpoints hinted for these zones, in their order.
fn zonal_slice(table: &mut ServiceTable, at: usize, zones: &[&str]) {
    let endpoints: Vec<_> = zones
        .iter()
        .enumerate()
        .map(|(host, zone)| {
            let hints = json!({"forZones": [{"name": zone}]});
            json!({"addresses": [format!("10.{}.{}.{host}", 128 + at / 250, at % 250)], "hints": hints})
        })
        .collect();
    let metadata = json!({
        "namespace": "d", "name": format!("s{at}-x"), "labels": {"kubernetes.io/service-name": format!("s{at}")},
    });
    let object = json!({
        "metadata": metadata, "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints,
    });
    table.apply_slice(&serde_json::from_value(object).unwrap());
}

#[test]
fn an_endpoint_with_hints_costs_its_own_work_and_the_last_of_the_zone_costs_the_set() {
    let mut table = table();
    table.set_node(NodeView {
        zone: "a".to_owned(),
        ..NodeView::default()
    });
    zonal_slice(&mut table, 7, &["a", "a", "b", "b", "b", "b", "b", "b"]);
    table.take_ops();
    table.take_ops();
    zonal_slice(&mut table, 7, &["a", "a", "b", "b", "b", "b", "b", "b", "b"]);
    let elsewhere = table.take_ops();
    assert!(
        matches!(elsewhere[..], [MapOp::PutBackend(..)]),
        "another zone's endpoint is none of this node's: {elsewhere:?}"
    );
    zonal_slice(&mut table, 7, &["a", "a", "b", "b", "b", "b", "b", "b", "b", "a"]);
    let here = table.take_ops();
    assert!(
        matches!(here[..], [MapOp::PutBackend(..), MapOp::PutSlot(..), MapOp::PutService(_, value)] if value.slot_count == 3),
        "{here:?}"
    );
    zonal_slice(&mut table, 7, &["b", "b", "b", "b", "b", "b", "b", "b", "b", "b"]);
    let ops = table.take_ops();
    let slots = ops.iter().filter(|op| matches!(op, MapOp::PutSlot(..))).count();
    assert_eq!(
        (ops.len(), slots),
        (11, 10),
        "the zone is empty, all are used: {ops:?}"
    );
}

#[test]
fn the_same_objects_again_cost_nothing() {
    let mut table = table();
    service(&mut table, 7);
    slice(&mut table, 7, ENDPOINTS, &[]);
    assert_eq!(table.take_ops(), []);
}

#[test]
fn a_replaced_endpoint_takes_the_place_of_the_old_one() {
    let mut table = table();
    slice(&mut table, 7, ENDPOINTS, &[9]);
    table.take_ops();
    table.take_ops();
    slice(&mut table, 7, ENDPOINTS, &[2]);
    let ops = table.take_ops();
    let slots = ops.iter().filter(|op| matches!(op, MapOp::PutSlot(..))).count();
    assert_eq!((ops.len(), slots), (3, 1), "{ops:?}");
}

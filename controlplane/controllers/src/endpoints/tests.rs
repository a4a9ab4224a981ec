//! The plan's table of cases.

use super::plan::plan;
use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::{Value, json};
use std::sync::Arc;

fn service(ports: Value) -> Service {
    serde_json::from_value(json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "d", "labels": { "app": "web" } },
        "spec": { "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": { "app": "web" },
            "ports": ports } }))
    .unwrap()
}

fn pod(number: usize, ready: bool) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": format!("p{number}"), "namespace": "d", "uid": format!("u{number:05}") },
            "spec": { "nodeName": "n1", "containers": [{ "name": "c", "ports": [
                { "name": "web", "containerPort": 8000 + number % 2 }] }] },
            "status": { "podIP": format!("10.1.{}.{}", number / 250, number % 250),
                "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] } }))
        .unwrap(),
    )
}

#[test]
fn ready_and_unready_addresses_share_a_subset() {
    let service = service(json!([{ "name": "a", "port": 80, "targetPort": 8080 },
        { "name": "b", "port": 81, "targetPort": 8081 }]));
    let endpoints = plan(&service, &[pod(1, true), pod(2, false)], None, None).unwrap();
    assert_eq!(
        serde_json::to_value(&endpoints).unwrap()["subsets"],
        json!([{
            "addresses": [{ "ip": "10.1.0.1", "nodeName": "n1",
                "targetRef": { "kind": "Pod", "namespace": "d", "name": "p1", "uid": "u00001" } }],
            "notReadyAddresses": [{ "ip": "10.1.0.2", "nodeName": "n1",
                "targetRef": { "kind": "Pod", "namespace": "d", "name": "p2", "uid": "u00002" } }],
            "ports": [{ "name": "a", "port": 8080, "protocol": "TCP" },
                { "name": "b", "port": 8081, "protocol": "TCP" }] }])
    );
    assert_eq!(endpoints.metadata.labels.as_ref().unwrap()["app"], "web");
    assert_eq!(
        plan(&service, &[pod(1, true), pod(2, false)], Some(&endpoints), None),
        None
    );
}

#[test]
fn named_ports_that_differ_make_subsets_of_their_own() {
    let service = service(json!([{ "port": 80, "targetPort": "web" }]));
    let endpoints = plan(&service, &[pod(1, true), pod(2, true), pod(3, true)], None, None).unwrap();
    let subsets = endpoints.subsets.unwrap();
    let seen: Vec<_> = subsets
        .iter()
        .map(|subset| {
            (
                subset.addresses.as_ref().unwrap().len(),
                subset.ports.as_ref().unwrap()[0].port,
            )
        })
        .collect();
    assert_eq!(seen, [(2, 8001), (1, 8000)]);
    assert_eq!(subsets[0].ports.as_ref().unwrap()[0].name, None);
}

#[test]
fn no_pods_no_subsets() {
    let service = service(json!([{ "port": 80 }]));
    let endpoints = plan(&service, &[], None, None).unwrap();
    assert_eq!(endpoints.subsets, None);
    assert_eq!(plan(&service, &[], Some(&endpoints), None), None);
}

#[test]
fn more_than_a_thousand_addresses_are_cut_and_said_so() {
    let service = service(json!([{ "port": 80 }]));
    let count = |ready: usize, unready: usize| {
        let pods: Vec<_> = (0..ready + unready)
            .map(|number| pod(number, number < ready))
            .collect();
        let endpoints = plan(&service, &pods, None, None).unwrap();
        let subset = endpoints.subsets.unwrap().remove(0);
        let cut = endpoints.metadata.annotations.is_some_and(|annotations| {
            annotations
                .get("endpoints.kubernetes.io/over-capacity")
                .is_some_and(|value| value == "truncated")
        });
        (
            subset.addresses.map_or(0, |list| list.len()),
            subset.not_ready_addresses.map_or(0, |list| list.len()),
            cut,
        )
    };
    assert_eq!(count(1000, 0), (1000, 0, false));
    assert_eq!(count(1200, 50), (1000, 0, true));
    assert_eq!(count(900, 200), (900, 100, true));
}

//! The plan's table of cases.

use super::plan::plan;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use serde_json::{Value, json};
use std::sync::Arc;

fn service(selector: Value) -> Service {
    serde_json::from_value(json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "db", "namespace": "d" }, "spec": { "selector": selector } }))
    .unwrap()
}

fn endpoints(labels: Value, annotations: Value) -> Endpoints {
    serde_json::from_value(json!({ "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": "db", "namespace": "d", "uid": "ep", "labels": labels, "annotations": annotations },
        "subsets": [{ "addresses": [{ "ip": "192.0.2.1" }, { "ip": "2001:db8::1" }],
            "notReadyAddresses": [{ "ip": "192.0.2.2", "hostname": "b" }],
            "ports": [{ "name": "sql", "port": 5432 }] }] }))
    .unwrap()
}

#[test]
fn each_family_is_mirrored() {
    let endpoints = endpoints(json!({ "a": "b" }), json!({ "note": "x" }));
    let writes = plan(Some(&service(json!(null))), Some(&endpoints), &[]);
    let slices = serde_json::to_value(&writes.create).unwrap();
    assert_eq!(
        slices[0],
        json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "generateName": "db-", "namespace": "d", "annotations": { "note": "x" },
                "labels": { "a": "b", "kubernetes.io/service-name": "db",
                    "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io" },
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Endpoints", "name": "db", "uid": "ep",
                    "controller": true, "blockOwnerDeletion": true }] },
            "ports": [{ "name": "sql", "port": 5432, "protocol": "TCP" }],
            "endpoints": [{ "addresses": ["192.0.2.1"], "conditions": { "ready": true } },
                { "addresses": ["192.0.2.2"], "conditions": { "ready": false }, "hostname": "b" }] })
    );
    assert_eq!(slices[1]["addressType"], "IPv6");
    assert_eq!(slices.as_array().unwrap().len(), 2);
}

#[test]
fn what_is_not_to_be_mirrored_is_removed() {
    let plain = endpoints(json!({}), json!({}));
    let mut slices = plan(Some(&service(json!(null))), Some(&plain), &[]).create;
    slices[0].metadata.name = Some("db-1".to_owned());
    let existing = [Arc::new(slices.remove(0))];
    let skipped = endpoints(
        json!({ "endpointslice.kubernetes.io/skip-mirror": "true" }),
        json!({}),
    );
    let leader = endpoints(
        json!({}),
        json!({ "control-plane.alpha.kubernetes.io/leader": "{}" }),
    );
    let by_hand = service(json!(null));
    let selecting = service(json!({ "app": "db" }));
    for (service, endpoints) in [
        (Some(&by_hand), Some(&skipped)),
        (Some(&by_hand), Some(&leader)),
        (Some(&by_hand), None),
        (Some(&selecting), Some(&plain)),
        (None, Some(&plain)),
    ] {
        let writes = plan(service, endpoints, &existing);
        assert_eq!(
            (writes.create.len(), writes.update.len(), writes.delete.len()),
            (0, 0, 1)
        );
    }
    let kept = plan(Some(&by_hand), Some(&plain), &existing);
    assert!(kept.delete.is_empty() && kept.update.is_empty());
}

//! Objects in few words, for the tests of this crate.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

/// A Service with `spec`.
pub(crate) fn service(namespace: &str, name: &str, spec: Value) -> Service {
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

/// A headless Service with `spec` and `clusterIP: None`.
pub(crate) fn headless(namespace: &str, name: &str, mut spec: Value) -> Service {
    spec["clusterIP"] = json!("None");
    service(namespace, name, spec)
}

/// An EndpointSlice of `service`.
pub(crate) fn slice(
    namespace: &str,
    name: &str,
    service: &str,
    ports: &Value,
    endpoints: &Value,
) -> EndpointSlice {
    let metadata = json!({
        "namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": service},
    });
    let object = json!({"metadata": metadata, "addressType": "IPv4", "ports": ports, "endpoints": endpoints});
    serde_json::from_value(object).unwrap()
}

//! Objects for the plugins' tables.

use std::sync::Arc;

use serde_json::Value;

use crate::{NodeInfo, PodInfo};

pub(super) fn pod(object: Value) -> Arc<PodInfo> {
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(object).unwrap())))
}

/// A pod with this spec.
pub(super) fn pod_with(spec: Value) -> Arc<PodInfo> {
    pod(serde_json::json!({ "metadata": { "name": "p", "namespace": "default" }, "spec": spec }))
}

pub(super) fn node(object: Value) -> NodeInfo {
    NodeInfo::new(Arc::new(serde_json::from_value(object).unwrap()))
}

/// The reasons of a rejection; none when accepted.
pub(super) fn reasons(result: Result<(), crate::Rejection>) -> Vec<String> {
    result.err().map(|rejection| rejection.0).unwrap_or_default()
}

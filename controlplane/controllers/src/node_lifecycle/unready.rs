//! Pods of a node that fell silent are not ready, whatever they last said. Pure.

use crate::pods;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

/// The strategic merge patch of the pod's status; None: it is not ready already.
pub(crate) fn plan(pod: &Pod, now: Timestamp) -> Option<Value> {
    if !pods::is_ready(pod) {
        return None;
    }
    Some(json!({
        "metadata": { "uid": pod.metadata.uid },
        "status": { "conditions": [{
            "type": pods::POD_READY, "status": "False", "lastTransitionTime": Time(now) }] }
    }))
}

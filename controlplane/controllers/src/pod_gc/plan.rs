//! Which ended pods are too many. Pure.

use crate::pods;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

/// The ended pods beyond the threshold: evicted ones first, then the oldest.
pub(crate) fn excess(all: Vec<Arc<Pod>>, threshold: usize) -> Vec<Arc<Pod>> {
    let mut ended: Vec<Arc<Pod>> = all.into_iter().filter(|pod| pods::is_terminal(pod)).collect();
    let count = ended.len().saturating_sub(threshold);
    ended.sort_by_key(|pod| {
        let evicted = pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted");
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (!evicted, created, pod.metadata.name.clone())
    });
    ended.truncate(count);
    ended
}

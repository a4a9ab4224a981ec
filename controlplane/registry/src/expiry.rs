//! Deletes what is kept for a time only, such as events.

use std::sync::Arc;

use jiff::Timestamp;
use skep_api::GroupVersionResource;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::registry::Inner;
use crate::{DeleteOptions, SharedObject};

/// Deletes what has expired, at every interval, until `shutdown`.
pub(crate) async fn run(registry: Arc<Inner>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(registry.config.expiry_interval);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sweep(&registry, Timestamp::now()) => {}
        }
    }
}

async fn sweep(registry: &Inner, now: Timestamp) {
    for info in registry.table.iter() {
        let Some(slot) = registry.cache.slot(&info.gvr) else {
            continue;
        };
        let objects = registry.cache.snapshot(slot).objects;
        let expired: Vec<&SharedObject> = objects
            .values()
            .filter(|object| object.object().expires_at().is_some_and(|at| at < now))
            .collect();
        for object in expired {
            delete(registry, &info.gvr, object).await;
        }
    }
}

async fn delete(registry: &Inner, resource: &GroupVersionResource, object: &SharedObject) {
    // One that was renewed meanwhile stays.
    let options = DeleteOptions {
        resource_version: Some(object.revision()),
        ..DeleteOptions::default()
    };
    match registry.delete(resource, object.key(), &options).await {
        Ok(_) => debug!(%resource, key = %object.key(), "expired"),
        Err(error) if error.is_not_found() || error.is_conflict() => {}
        Err(error) => warn!(%resource, key = %object.key(), %error, "deleting what has expired failed"),
    }
}

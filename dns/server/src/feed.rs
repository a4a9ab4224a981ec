//! Keeps the zone current: objects from informers in, snapshots out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skep_dns_records::Zone;
use skep_runtime::{Change, InformerSet};
use tokio_util::sync::CancellationToken;

use crate::handler::Current;
use crate::metrics::DnsMetrics;

/// Follows the API until cancelled. The first snapshot is published once everything that exists is in it.
pub(crate) async fn run(
    informers: &InformerSet,
    mut zone: Zone,
    current: Current,
    metrics: DnsMetrics,
    shutdown: CancellationToken,
) {
    let mut services = informers.all::<Service>().subscribe();
    let mut slices = informers.all::<EndpointSlice>().subscribe();
    let mut namespaces = informers.all::<Namespace>().subscribe();
    let synced = informers.synced(&shutdown);
    tokio::pin!(synced);
    let mut published = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            whole = &mut synced, if !published => {
                if !whole {
                    return;
                }
                published = true;
                tracing::info!("the zone is complete");
            }
            Some(change) = services.next() => apply_service(&mut zone, &change),
            Some(change) = slices.next() => apply_slice(&mut zone, &change),
            Some(change) = namespaces.next() => apply_namespace(&mut zone, &change),
        }
        // What has come meanwhile goes into the same snapshot.
        while let Some(change) = services.try_next() {
            apply_service(&mut zone, &change);
        }
        while let Some(change) = slices.try_next() {
            apply_slice(&mut zone, &change);
        }
        while let Some(change) = namespaces.try_next() {
            apply_namespace(&mut zone, &change);
        }
        if published {
            let snapshot = zone.snapshot();
            metrics.set_services(snapshot.service_count());
            current.store(Some(Arc::new(snapshot)));
        }
    }
}

fn apply_service(zone: &mut Zone, change: &Change<Service>) {
    match change.after() {
        Some(service) => zone.apply_service(service),
        None => {
            let (namespace, name) = names(&change.object().metadata);
            zone.remove_service(namespace, name);
        }
    }
}

fn apply_slice(zone: &mut Zone, change: &Change<EndpointSlice>) {
    match change.after() {
        Some(slice) => zone.apply_slice(slice),
        None => {
            let (namespace, name) = names(&change.object().metadata);
            zone.remove_slice(namespace, name);
        }
    }
}

fn apply_namespace(zone: &mut Zone, change: &Change<Namespace>) {
    let (_, name) = names(&change.object().metadata);
    match change.after() {
        Some(_) => zone.apply_namespace(name),
        None => zone.remove_namespace(name),
    }
}

fn names(metadata: &ObjectMeta) -> (&str, &str) {
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

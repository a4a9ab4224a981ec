//! EndpointSlices for hand-written Endpoints of Services without a selector, so that readers need look at
//! EndpointSlices alone.

mod plan;
#[cfg(test)]
mod tests;

use crate::context::{Context, Task};
use crate::endpointslice::packing;
use crate::endpointslice::writer::{WAIT_LIMIT, Writer};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use skep_api::{ApiError, ObjectExt, ObjectKey};
use skep_runtime::{Action, Index, Store};
use std::sync::Arc;

const WORKERS: usize = 2;

pub(crate) fn controller(context: &Context) -> Task {
    let queue = context.queue::<ObjectKey>("endpoint_slice_mirroring");
    let endpoints = context.informers.all::<Endpoints>();
    let services = context.informers.all::<Service>();
    let slices = context.informers.all::<EndpointSlice>();
    let writer = Writer::new(context.client.clone(), slices.store(), plan::MANAGER);
    let this = Arc::new(Mirroring {
        endpoints: endpoints.store(),
        services: services.store(),
        slices_by_service: slices.index(|slice| packing::index_value(slice, plan::MANAGER)),
        writer: writer.clone(),
    });
    endpoints.feed(&queue, |endpoints| vec![endpoints.key()]);
    services.feed(&queue, |service| vec![service.key()]);
    let slice_queue = queue.clone();
    slices.on_change(move |change| {
        if let Some(key) = packing::service_of(change.object(), plan::MANAGER)
            && writer.is_news(change)
        {
            slice_queue.add(key);
        }
    });
    context.reconcile(queue, WORKERS, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    })
}

struct Mirroring {
    endpoints: Store<Endpoints>,
    services: Store<Service>,
    slices_by_service: Index<EndpointSlice>,
    writer: Writer,
}

impl Mirroring {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ApiError> {
        let existing = self.slices_by_service.get(&key.to_string());
        if !self.writer.is_current(&key, &existing) {
            return Ok(Action::RequeueAfter(WAIT_LIMIT));
        }
        let service = self.services.get(&key);
        let endpoints = self.endpoints.get(&key);
        let creating = service
            .as_ref()
            .is_some_and(|service| service.metadata.deletion_timestamp.is_none());
        let writes = plan::plan(service.as_deref(), endpoints.as_deref(), &existing);
        self.writer.apply(&key, writes, creating).await?;
        if endpoints.is_none() {
            self.writer.forget(&key);
        }
        Ok(Action::Done)
    }
}

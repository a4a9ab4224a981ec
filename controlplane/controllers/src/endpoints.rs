//! Endpoints (core v1) of Services with a selector: the older form of EndpointSlices, one object per
//! Service, cut off at 1,000 addresses.

mod plan;
#[cfg(test)]
mod tests;

use crate::context::{Context, Task, namespace_is_terminating, unless_gone};
use crate::endpointslice::{TriggerTimes, services_of};
use crate::service_pods;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use parking_lot::Mutex;
use skep_api::{ApiError, ObjectExt, ObjectKey};
use skep_client::Client;
use skep_runtime::{Action, Change, Store};
use std::sync::Arc;

const WORKERS: usize = 5;

pub(crate) fn controller(context: &Context) -> Task {
    let queue = context.queue::<ObjectKey>("endpoint");
    let services = context.informers.all::<Service>();
    let endpoints = context.informers.all::<Endpoints>();
    let this = Arc::new(EndpointsController {
        client: context.client.clone(),
        services: services.store(),
        pods: context.informers.all::<Pod>().store(),
        endpoints: endpoints.store(),
        trigger_times: Mutex::default(),
    });
    services.feed(&queue, |service| vec![service.key()]);
    let (own, known) = (queue.clone(), services.store());
    endpoints.on_change(move |change| {
        // Those without a Service are hand-written, or were left behind while nobody watched: these are
        // found when the informer shows them first.
        let key = change.object().key();
        if known.get(&key).is_some() || (matches!(change, Change::Added(_)) && plan::is_ours(change.object()))
        {
            own.add(key);
        }
    });
    let (pod_queue, known) = (queue.clone(), services.store());
    context.informers.all::<Pod>().on_change(move |change| {
        for key in services_of(&known, change) {
            pod_queue.add(key);
        }
    });
    context.reconcile(queue, WORKERS, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    })
}

struct EndpointsController {
    client: Client,
    services: Store<Service>,
    pods: Store<Pod>,
    endpoints: Store<Endpoints>,
    trigger_times: Mutex<TriggerTimes>,
}

impl EndpointsController {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ApiError> {
        let current = self.endpoints.get(&key);
        let Some(service) = self.services.get(&key) else {
            self.trigger_times.lock().forget(&key);
            if current.is_some() {
                unless_gone(self.client.delete::<Endpoints>(&key, &Default::default()).await)?;
            }
            return Ok(Action::Done);
        };
        let Some(selector) = service_pods::selector(&service) else {
            return Ok(Action::Done);
        };
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| service_pods::selects(selector, pod));
        let triggered = self.trigger_times.lock().next(&key, &service, &pods);
        let Some(wanted) = plan::plan(&service, &pods, current.as_deref(), triggered) else {
            return Ok(Action::Done);
        };
        if current.is_some() {
            self.client.update(&wanted).await?;
            return Ok(Action::Done);
        }
        match self.client.create(&wanted).await {
            // The informer will show it.
            Err(error) if namespace_is_terminating(&error) || error.is_already_exists() => {}
            result => drop(result?),
        }
        Ok(Action::Done)
    }
}

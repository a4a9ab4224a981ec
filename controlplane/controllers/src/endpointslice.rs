//! EndpointSlices of Services with a selector: the pods behind them, at most 100 to a slice.

mod desired;
pub(crate) mod packing;
#[cfg(test)]
mod tests;
mod trigger_time;
pub(crate) mod writer;

pub(crate) use desired::pod_reference;
pub(crate) use trigger_time::TriggerTimes;

use crate::context::{Context, Task};
use crate::owner;
use crate::service_pods::{self, HEADLESS_LABEL, TRIGGER_TIME};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use packing::{MANAGED_BY_LABEL, SERVICE_NAME_LABEL, Template, Writes};
use parking_lot::Mutex;
use skep_api::{ApiError, ObjectExt, ObjectKey};
use skep_runtime::{Action, Change, Index, Store, WorkQueue};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use writer::Writer;

const WORKERS: usize = 5;
const MANAGER: &str = "endpointslice-controller.k8s.io";
const MAX_ENDPOINTS_PER_SLICE: usize = 100;
/// A pod was bound to a node that the informer does not show yet.
const NODE_MISSING_DELAY: Duration = Duration::from_secs(1);

pub(crate) fn controller(context: &Context) -> Task {
    let queue = context.queue("endpoint_slice");
    let services = context.informers.all::<Service>();
    let slices = context.informers.all::<EndpointSlice>();
    let writer = Writer::new(context.client.clone(), slices.store(), MANAGER);
    let this = Arc::new(Slices {
        services: services.store(),
        pods: context.informers.all::<Pod>().store(),
        nodes: context.informers.all::<Node>().store(),
        slices_by_service: slices.index(|slice| packing::index_value(slice, MANAGER)),
        writer: writer.clone(),
        trigger_times: Mutex::default(),
        queue: queue.clone(),
    });
    services.feed(&queue, |service| vec![service.key()]);
    let slice_queue = queue.clone();
    slices.on_change(move |change| {
        if let Some(key) = packing::service_of(change.object(), MANAGER)
            && writer.is_news(change)
        {
            slice_queue.add(key);
        }
    });
    let on_pod = this.clone();
    context
        .informers
        .all::<Pod>()
        .on_change(move |change| on_pod.queue_services_of(change));
    context.reconcile(queue, WORKERS, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    })
}

struct Slices {
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices_by_service: Index<EndpointSlice>,
    writer: Writer,
    trigger_times: Mutex<TriggerTimes>,
    queue: WorkQueue<ObjectKey>,
}

impl Slices {
    fn queue_services_of(&self, change: &Change<Pod>) {
        for key in services_of(&self.services, change) {
            self.queue.add(key);
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ApiError> {
        let Some(service) = self.services.get(&key) else {
            // The garbage collector deletes its slices.
            self.trigger_times.lock().forget(&key);
            self.writer.forget(&key);
            return Ok(Action::Done);
        };
        let Some(selector) = service_pods::selector(&service) else {
            return Ok(Action::Done);
        };
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| service_pods::selects(selector, pod));
        let existing = self.slices_by_service.get(&key.to_string());
        if !self.writer.is_current(&key, &existing) {
            // The slices' own events queue the Service before that.
            return Ok(Action::RequeueAfter(writer::WAIT_LIMIT));
        }
        let triggered = self.trigger_times.lock().next(&key, &service, &pods);
        let nodes = |name: &str| self.nodes.get(&ObjectKey::cluster(name));
        let (writes, node_missing) = plan(&service, &pods, &existing, &nodes, triggered);
        let creating = service.metadata.deletion_timestamp.is_none();
        self.writer.apply(&key, writes, creating).await?;
        Ok(if node_missing {
            Action::RequeueAfter(NODE_MISSING_DELAY)
        } else {
            Action::Done
        })
    }
}

/// The Services that select the pod, before or after the change.
pub(crate) fn services_of(services: &Store<Service>, change: &Change<Pod>) -> Vec<ObjectKey> {
    if let Change::Updated(old, new) = change
        && !service_pods::differs(old, new)
    {
        return Vec::new();
    }
    let selects = |service: &Service, pod: &Pod| {
        service_pods::selector(service).is_some_and(|selector| service_pods::selects(selector, pod))
    };
    let pods = [change.before(), change.after()];
    services
        .in_namespace(change.object().namespace())
        .into_iter()
        .filter(|service| pods.iter().flatten().any(|pod| selects(service, pod)))
        .map(|service| service.key())
        .collect()
}

/// The writes that bring a Service's slices in line with its pods; whether a pod's node is not known.
fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    existing: &[Arc<EndpointSlice>],
    node_of: &dyn Fn(&str) -> Option<Arc<Node>>,
    triggered: Option<Timestamp>,
) -> (Writes, bool) {
    let mut all = Writes::default();
    let mut node_missing = false;
    let families = service
        .spec
        .as_ref()
        .map(service_pods::families)
        .unwrap_or_default();
    let of_type = |slice: &EndpointSlice, wanted: &str| slice.address_type == wanted;
    for family in &families {
        let desired = desired::desired(service, pods, *family, node_of);
        node_missing |= desired.node_missing;
        let template = template(service, family.address_type());
        let existing: Vec<_> = existing
            .iter()
            .filter(|slice| of_type(slice, template.address_type))
            .cloned()
            .collect();
        let writes = packing::pack(&template, &existing, desired.groups, true);
        all.create.extend(writes.create);
        all.update.extend(writes.update);
        all.delete.extend(writes.delete);
    }
    let dropped = existing.iter().filter(|slice| {
        !families
            .iter()
            .any(|family| of_type(slice, family.address_type()))
    });
    all.delete
        .extend(dropped.map(|slice| EndpointSlice::clone(slice)));
    for slice in all.create.iter_mut().chain(&mut all.update) {
        stamp_trigger_time(&mut slice.metadata.annotations, triggered);
    }
    (all, node_missing)
}

/// Says on what is written when the change behind it happened; an old time would mislead.
pub(crate) fn stamp_trigger_time(
    annotations: &mut Option<BTreeMap<String, String>>,
    triggered: Option<Timestamp>,
) {
    match triggered {
        Some(time) => {
            annotations
                .get_or_insert_default()
                .insert(TRIGGER_TIME.to_owned(), time.to_string());
        }
        None => {
            if let Some(annotations) = annotations {
                annotations.remove(TRIGGER_TIME);
            }
        }
    }
}

fn template(service: &Service, address_type: &'static str) -> Template {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if service.spec.as_ref().is_some_and(service_pods::is_headless) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME_LABEL.to_owned(), service.name().to_owned());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    Template {
        namespace: service.namespace().to_owned(),
        name: service.name().to_owned(),
        address_type,
        labels,
        annotations: BTreeMap::new(),
        owner: owner::controller_ref::<Service>(&service.metadata),
        max_per_slice: MAX_ENDPOINTS_PER_SLICE,
    }
}

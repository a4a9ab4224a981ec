//! Evicts pods from nodes with NoExecute taints that they do not tolerate, or no longer.

mod plan;
#[cfg(test)]
mod tests;

use crate::clock::{Clock, until};
use crate::context::{Context, Task, unless_gone};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use plan::Plan;
use serde_json::json;
use skep_api::{ApiError, ObjectExt, ObjectKey};
use skep_client::{Client, DeleteOptions, Patch};
use skep_runtime::{Action, Change, EventRecorder, EventType, Store};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

const WORKERS: usize = 8;

pub(crate) fn controller(context: &Context) -> Task {
    let queue = context.queue::<ObjectKey>("taint_eviction_controller");
    let nodes = context.informers.all::<Node>();
    let pods = context.informers.all::<Pod>();
    let this = Arc::new(TaintEviction {
        client: context.client.clone(),
        nodes: nodes.store(),
        pods: pods.store(),
        default_toleration: context.config.default_toleration,
        scheduled: Mutex::default(),
        events: context.recorder("taint-eviction-controller"),
        clock: context.clock,
    });
    let (of_node, by_node) = (queue.clone(), context.pods_by_node.clone());
    nodes.on_change(move |change| {
        let taints = |node: Option<&Arc<Node>>| node.map(|node| plan::no_execute(node)).unwrap_or_default();
        if taints(change.before()) != taints(change.after()) {
            by_node
                .keys(change.object().name())
                .into_iter()
                .for_each(|key| of_node.add(key));
        }
    });
    let (of_pod, known) = (queue.clone(), nodes.store());
    pods.on_change(move |change| {
        let pod = change.object();
        let bound_or_tolerates = match change {
            Change::Updated(old, new) => plan::differs(old, new),
            Change::Added(_) | Change::Deleted(_) => true,
        };
        let tainted = known
            .get(&ObjectKey::cluster(crate::pods::node_name(pod)))
            .is_some_and(|node| !plan::no_execute(&node).is_empty());
        if bound_or_tolerates && tainted {
            of_pod.add(pod.key());
        }
    });
    context.reconcile(queue, WORKERS, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    })
}

struct TaintEviction {
    client: Client,
    nodes: Store<Node>,
    pods: Store<Pod>,
    default_toleration: Duration,
    /// Pods whose time runs: to say so when it is stopped.
    scheduled: Mutex<HashSet<ObjectKey>>,
    events: EventRecorder,
    clock: Clock,
}

impl TaintEviction {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ApiError> {
        let Some(pod) = self
            .pods
            .get(&key)
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        else {
            self.scheduled.lock().remove(&key);
            return Ok(Action::Done);
        };
        let node = self.nodes.get(&ObjectKey::cluster(crate::pods::node_name(&pod)));
        let taints: Vec<Taint> = node.map(|node| plan::no_execute(&node)).unwrap_or_default();
        let now = self.clock.now();
        match plan::plan(&pod, &taints, self.default_toleration, now) {
            Plan::Stay => {
                if self.scheduled.lock().remove(&key) {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.events
                        .event(&*pod, EventType::Normal, "TaintManagerEviction", message);
                }
                Ok(Action::Done)
            }
            Plan::EvictAt(at) if at > now => {
                self.scheduled.lock().insert(key);
                Ok(Action::RequeueAfter(until(at, now)))
            }
            Plan::EvictAt(_) => {
                self.evict(&pod).await?;
                self.scheduled.lock().remove(&key);
                Ok(Action::Done)
            }
        }
    }

    async fn evict(&self, pod: &Pod) -> Result<(), ApiError> {
        let key = pod.key();
        tracing::info!(
            namespace = pod.namespace(),
            name = pod.name(),
            "evicting from a tainted node"
        );
        let message = format!("Marking for deletion Pod {key}");
        self.events
            .event(pod, EventType::Normal, "TaintManagerEviction", message);
        let patch = Patch::strategic(
            &json!({ "metadata": { "uid": pod.uid() }, "status": { "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": Time(self.clock.now()) }] } }),
        )?;
        unless_gone(self.client.patch_status::<Pod>(&key, &patch).await)?;
        let options = DeleteOptions::default().with_uid(pod.uid());
        unless_gone(self.client.delete::<Pod>(&key, &options).await).map(drop)
    }
}

//! Pods that nobody else ends: of nodes that are gone, deleted before they were bound, and ended ones
//! beyond the number that is kept.

mod plan;
#[cfg(test)]
mod tests;

use crate::clock::Clock;
use crate::context::{Context, Task, unless_gone};
use crate::pods;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use serde_json::json;
use skep_api::{ApiError, ObjectExt, ObjectKey};
use skep_client::{Client, DeleteOptions, Patch};
use skep_runtime::{Action, Change, Index, Store};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A node may be registered anew: its pods are given so long.
const NODE_QUARANTINE: Duration = Duration::from_secs(40);
/// Ended pods are counted at most once in so long.
const COUNT_INTERVAL: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Job {
    /// The pods of a node that may be gone.
    Node(String),
    /// A pod that was deleted before it was bound.
    Unbound(ObjectKey),
    /// Ended pods beyond the threshold.
    Ended,
}

pub(crate) fn controller(context: &Context) -> Task {
    let queue = context.queue::<Job>("pod_gc");
    let nodes = context.informers.all::<Node>();
    let pods = context.informers.all::<Pod>();
    let this = Arc::new(PodGc {
        client: context.client.clone(),
        nodes: nodes.store(),
        pods: pods.store(),
        pods_by_node: context.pods_by_node.clone(),
        threshold: context.config.terminated_pod_threshold,
        missing_since: Mutex::default(),
        clock: context.clock,
    });
    let of_node = queue.clone();
    nodes.on_change(move |change| {
        if let Change::Deleted(node) = change {
            of_node.add(Job::Node(node.name().to_owned()));
        }
    });
    let (of_pod, known) = (queue.clone(), nodes.store());
    pods.on_change(move |change| {
        let Some(pod) = change.after() else {
            return;
        };
        let node = pods::node_name(pod);
        if node.is_empty() && pod.metadata.deletion_timestamp.is_some() {
            of_pod.add(Job::Unbound(pod.key()));
        }
        if !node.is_empty() && known.get(&ObjectKey::cluster(node)).is_none() {
            of_pod.add(Job::Node(node.to_owned()));
        }
        if pods::is_terminal(pod) && change.before().is_none_or(|before| !pods::is_terminal(before)) {
            of_pod.add_after(Job::Ended, COUNT_INTERVAL);
        }
    });
    context.reconcile(queue, 2, move |job| {
        let this = this.clone();
        async move { this.reconcile(job).await }
    })
}

struct PodGc {
    client: Client,
    nodes: Store<Node>,
    pods: Store<Pod>,
    pods_by_node: Index<Pod>,
    threshold: usize,
    missing_since: Mutex<HashMap<String, Instant>>,
    clock: Clock,
}

impl PodGc {
    async fn reconcile(&self, job: Job) -> Result<Action, ApiError> {
        match job {
            Job::Node(name) => self.of_node(&name).await,
            Job::Unbound(key) => {
                let pod = self.pods.get(&key).filter(|pod| {
                    pods::node_name(pod).is_empty() && pod.metadata.deletion_timestamp.is_some()
                });
                if let Some(pod) = pod {
                    self.end(&pod, "PodGC: unscheduled terminating pod").await?;
                }
                Ok(Action::Done)
            }
            Job::Ended => {
                for pod in plan::excess(self.pods.list(), self.threshold) {
                    self.delete(&pod).await?;
                }
                Ok(Action::Done)
            }
        }
    }

    async fn of_node(&self, name: &str) -> Result<Action, ApiError> {
        let key = ObjectKey::cluster(name);
        let there = self.nodes.get(&key).is_some() || self.pods_by_node.keys(name).is_empty();
        let since = {
            let mut missing = self.missing_since.lock();
            if there {
                missing.remove(name);
                return Ok(Action::Done);
            }
            *missing.entry(name.to_owned()).or_insert_with(Instant::now)
        };
        if since.elapsed() < NODE_QUARANTINE {
            return Ok(Action::RequeueAfter(NODE_QUARANTINE - since.elapsed()));
        }
        // The informer may be late; what follows cannot be undone.
        if self.client.find::<Node>(&key).await?.is_none() {
            for pod in self.pods_by_node.get(name) {
                self.end(&pod, "PodGC: node no longer exists").await?;
            }
        }
        self.missing_since.lock().remove(name);
        Ok(Action::Done)
    }

    /// Says that the pod failed, then removes it without waiting for a kubelet.
    async fn end(&self, pod: &Pod, why: &str) -> Result<(), ApiError> {
        tracing::info!(
            namespace = pod.namespace(),
            name = pod.name(),
            why,
            "ending a pod"
        );
        if !pods::is_terminal(pod) {
            let patch = Patch::strategic(&json!({ "metadata": { "uid": pod.uid() }, "status": {
                "phase": "Failed", "conditions": [{ "type": "DisruptionTarget", "status": "True",
                    "reason": "DeletionByPodGC", "message": why,
                    "lastTransitionTime": Time(self.clock.now()) }] } }))?;
            unless_gone(self.client.patch_status::<Pod>(&pod.key(), &patch).await)?;
        }
        self.delete(pod).await
    }

    async fn delete(&self, pod: &Pod) -> Result<(), ApiError> {
        let options = DeleteOptions::now().with_uid(pod.uid());
        unless_gone(self.client.delete::<Pod>(&pod.key(), &options).await).map(drop)
    }
}

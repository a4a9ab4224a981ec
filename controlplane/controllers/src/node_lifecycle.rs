//! Nodes that fall silent: their conditions become Unknown, taints keep pods away and let them be evicted,
//! their pods stop being ready. All of it is taken back when they speak again.
//!
//! No clock of a node is trusted: what counts is when its lease or its Ready condition was last seen to
//! change.

mod disruption;
mod health;
mod taints;
#[cfg(test)]
mod tests;
mod unready;

use crate::clock::{Clock, until};
use crate::config::ControllersConfig;
use crate::context::{Context, Task, unless_gone};
use disruption::Zones;
use health::{Health, Ready};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use parking_lot::Mutex;
use serde_json::json;
use skep_api::{ApiError, ObjectExt, ObjectKey};
use skep_client::{Client, Patch};
use skep_runtime::{Action, EventRecorder, EventType, Index, InformerOptions, Store, WorkQueue};
use std::collections::HashMap;
use std::sync::Arc;

const WORKERS: usize = 8;
const LEASE_NAMESPACE: &str = "kube-node-lease";

pub(crate) fn controller(context: &Context) -> Task {
    let queue = context.queue::<ObjectKey>("node_lifecycle_controller");
    let nodes = context.informers.all::<Node>();
    let leases = context.informers.informer::<Lease>(InformerOptions {
        namespace: Some(LEASE_NAMESPACE.to_owned()),
        ..Default::default()
    });
    let this = Arc::new(NodeLifecycle {
        client: context.client.clone(),
        nodes: nodes.store(),
        leases: leases.store(),
        pods_by_node: context.pods_by_node.clone(),
        config: context.config.clone(),
        state: Mutex::default(),
        events: context.recorder("node-controller"),
        clock: context.clock,
        queue: queue.clone(),
    });
    nodes.feed(&queue, |node| vec![node.key()]);
    leases.feed(&queue, |lease| vec![ObjectKey::cluster(lease.name())]);
    let (known, of_pod) = (nodes.store(), queue.clone());
    context.informers.all::<Pod>().on_change(move |change| {
        // A pod that says that it is ready, of a node that says nothing.
        if let Some(pod) = change.after().filter(|pod| crate::pods::is_ready(pod)) {
            let key = ObjectKey::cluster(crate::pods::node_name(pod));
            if known
                .get(&key)
                .is_some_and(|node| health::ready(&node) == Ready::Unknown)
            {
                of_pod.add(key);
            }
        }
    });
    context.reconcile(queue, WORKERS, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    })
}

#[derive(Default)]
struct State {
    health: HashMap<String, Health>,
    zones: Zones,
}

struct NodeLifecycle {
    client: Client,
    nodes: Store<Node>,
    leases: Store<Lease>,
    pods_by_node: Index<Pod>,
    config: Arc<ControllersConfig>,
    state: Mutex<State>,
    events: EventRecorder,
    clock: Clock,
    queue: WorkQueue<ObjectKey>,
}

impl NodeLifecycle {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ApiError> {
        let Some(node) = self.nodes.get(&key) else {
            self.forget(&key.name);
            return Ok(Action::Done);
        };
        let now = self.clock.now();
        let (silent, deadline) = self.observe(&node, now);
        let before = health::ready(&node);
        let node = match health::unknown_conditions(&node, silent, now) {
            Some(conditions) => match self.write_conditions(&node, conditions).await? {
                Some(node) => node,
                None => return Ok(Action::Done),
            },
            None => node,
        };
        let ready = health::ready(&node);
        if before == Ready::True && ready == Ready::Unknown {
            tracing::warn!(node = node.name(), "node fell silent");
            let message = format!("Node {} status is now: NodeNotReady", node.name());
            self.events
                .event(&*node, EventType::Normal, "NodeNotReady", message);
        }
        let next_taint = self.taint(&node, ready, now).await?;
        if ready == Ready::Unknown {
            self.mark_pods(&node, now).await?;
        }
        let deadline = (!silent).then_some(deadline);
        Ok(match deadline.into_iter().chain(next_taint).min() {
            Some(at) => Action::RequeueAfter(until(at, now)),
            None => Action::Done,
        })
    }

    /// Takes note of signs of life. Whether the node is silent for too long, and when it will be.
    fn observe(&self, node: &Node, now: Timestamp) -> (bool, Timestamp) {
        let lease = self.leases.get(&ObjectKey::new(LEASE_NAMESPACE, node.name()));
        let sign = health::sign_of_life(node, lease.as_deref());
        let mut state = self.state.lock();
        let health = Health::after(state.health.get(node.name()), node, sign, now);
        let deadline = health.deadline(node, &self.config);
        state.health.insert(node.name().to_owned(), health);
        (deadline <= now, deadline)
    }

    fn forget(&self, name: &str) {
        let changed = {
            let mut state = self.state.lock();
            state.health.remove(name);
            state.zones.remove(name)
        };
        self.queue_all_if(changed);
    }

    /// What may be done to one node depends on how many others are well.
    fn queue_all_if(&self, changed: bool) {
        if changed {
            for node in self.nodes.list() {
                self.queue.add(node.key());
            }
        }
    }

    async fn write_conditions(
        &self,
        node: &Node,
        conditions: Vec<NodeCondition>,
    ) -> Result<Option<Arc<Node>>, ApiError> {
        let mut written = node.clone();
        written.status.get_or_insert_default().conditions = Some(conditions);
        unless_gone(self.client.update_status(&written).await)
    }

    /// Brings the taints in line; when to look again because eviction is held back.
    async fn taint(&self, node: &Node, ready: Ready, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
        let tainted = taints::evicts(node);
        let (changed, verdict) = {
            let mut state = self.state.lock();
            let changed = state.zones.set(node, ready);
            let verdict = state.zones.may_evict(node.name(), tainted, now);
            (changed, verdict)
        };
        self.queue_all_if(changed);
        if let Some(taints) = taints::plan(node, ready, verdict.evict, now) {
            self.write_taints(node, taints).await?;
        }
        Ok(verdict.again_at)
    }

    async fn write_taints(&self, node: &Node, taints: Vec<Taint>) -> Result<(), ApiError> {
        let keys: Vec<String> = taints
            .iter()
            .map(|taint| format!("{}:{}", taint.key, taint.effect))
            .collect();
        let patch = Patch::merge(&json!({
            "metadata": { "uid": node.uid(), "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": taints }
        }))?;
        if unless_gone(self.client.patch::<Node>(&node.key(), &patch).await)?.is_some() {
            tracing::info!(node = node.name(), taints = ?keys, "taints changed");
        }
        Ok(())
    }

    async fn mark_pods(&self, node: &Node, now: Timestamp) -> Result<(), ApiError> {
        for pod in self.pods_by_node.get(node.name()) {
            let Some(patch) = unready::plan(&pod, now) else {
                continue;
            };
            let patch = Patch::strategic(&patch)?;
            if unless_gone(self.client.patch_status::<Pod>(&pod.key(), &patch).await)?.is_some() {
                self.events
                    .event(&*pod, EventType::Warning, "NodeNotReady", "Node is not ready");
            }
        }
        Ok(())
    }
}

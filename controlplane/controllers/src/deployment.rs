//! Deployments: ReplicaSets, one per revision of the pod template, and the way from one to the next.

mod annotations;
mod apply;
mod conditions;
mod hash;
mod history;
#[cfg(test)]
mod loop_tests;
mod plan;
mod rollout;
mod scale;
mod sets;
mod spec;
mod status;
#[cfg(test)]
mod tests;

use crate::clock::{Clock, until};
use crate::context::{Context, Task, orphans};
use crate::{claims, owner};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use skep_api::{ApiError, LabelSelector, Object, ObjectExt, ObjectKey};
use skep_client::Client;
use skep_runtime::{Action, Change, EventRecorder, EventType, Index, Store, WorkQueue};
use std::sync::Arc;

const WORKERS: usize = 5;

pub(crate) fn controller(context: &Context) -> Task {
    let queue = context.queue("deployment");
    let deployments = context.informers.all::<Deployment>();
    let this = Arc::new(Deployments {
        client: context.client.clone(),
        deployments: deployments.store(),
        sets: context.informers.all::<ReplicaSet>().store(),
        sets_by_owner: context.sets_by_owner.clone(),
        pods_by_owner: context.pods_by_owner.clone(),
        events: context.recorder("deployment-controller"),
        clock: context.clock,
        queue: queue.clone(),
    });
    deployments.feed(&queue, |deployment| vec![deployment.key()]);
    let on_set = this.clone();
    context
        .informers
        .all::<ReplicaSet>()
        .on_change(move |change| on_set.set_changed(change));
    let on_pod = this.clone();
    context.informers.all::<Pod>().on_change(move |change| {
        if let Change::Deleted(pod) = change {
            on_pod.pod_deleted(pod);
        }
    });
    context.reconcile(queue, WORKERS, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    })
}

struct Deployments {
    client: Client,
    deployments: Store<Deployment>,
    sets: Store<ReplicaSet>,
    sets_by_owner: Index<ReplicaSet>,
    pods_by_owner: Index<Pod>,
    events: EventRecorder,
    clock: Clock,
    queue: WorkQueue<ObjectKey>,
}

impl Deployments {
    fn set_changed(&self, change: &Change<ReplicaSet>) {
        for set in [change.before(), change.after()].into_iter().flatten() {
            if let Some(key) = self.owner_of(&**set) {
                self.queue.add(key);
            }
        }
        if let Some(set) = change.after()
            && owner::controller_of(&set.metadata).is_none()
        {
            self.queue_adopters(set);
        }
    }

    /// The last pod of an old template lets a Deployment that recreates go on.
    fn pod_deleted(&self, pod: &Pod) {
        let set = owner::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet");
        let set = set.and_then(|owner| self.sets.get(&ObjectKey::new(pod.namespace(), &owner.name)));
        let Some(key) = set.and_then(|set| self.owner_of(&*set)) else {
            return;
        };
        if self
            .deployments
            .get(&key)
            .is_some_and(|deployment| !spec::Settings::of(&deployment).rolling)
        {
            self.queue.add(key);
        }
    }

    fn owner_of<K: Object>(&self, object: &K) -> Option<ObjectKey> {
        let owner = owner::controller_of(object.metadata()).filter(|owner| owner.kind == "Deployment")?;
        let key = ObjectKey::new(object.namespace(), &owner.name);
        let deployment = self.deployments.get(&key)?;
        (deployment.uid() == owner.uid).then_some(key)
    }

    fn queue_adopters(&self, set: &ReplicaSet) {
        for deployment in self.deployments.in_namespace(set.namespace()) {
            let selector = LabelSelector::from_meta(Some(&deployment.spec.selector));
            if selector.is_ok_and(|selector| !selector.is_empty() && selector.matches(set.labels())) {
                self.queue.add(deployment.key());
            }
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ApiError> {
        let Some(deployment) = self.deployments.get(&key) else {
            return Ok(Action::Done);
        };
        let Ok(selector) = LabelSelector::from_meta(Some(&deployment.spec.selector)) else {
            return Ok(Action::Done);
        };
        if selector.is_empty() {
            return self.refuse_everything(&deployment).await;
        }
        let mut candidates = self.sets_by_owner.get(deployment.uid());
        candidates.extend(self.sets_by_owner.get(&orphans(deployment.namespace())));
        let sets = claims::claim(&self.client, &*deployment, &selector, candidates).await?;
        let pods: Vec<Arc<Pod>> = if spec::Settings::of(&deployment).rolling {
            Vec::new()
        } else {
            sets.iter()
                .flat_map(|set| self.pods_by_owner.get(set.uid()))
                .collect()
        };
        let now = self.clock.now();
        let plan = plan::plan(&deployment, &sets, &pods, now);
        let recheck_at = plan.recheck_at;
        self.apply(&deployment, plan).await?;
        Ok(match recheck_at {
            Some(at) => Action::RequeueAfter(until(at, now)),
            None => Action::Done,
        })
    }

    async fn refuse_everything(&self, deployment: &Deployment) -> Result<Action, ApiError> {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        self.events
            .event(deployment, EventType::Warning, "SelectingAll", message);
        let mut status = deployment.status.clone().unwrap_or_default();
        if status.observed_generation < deployment.metadata.generation {
            status.observed_generation = deployment.metadata.generation;
            self.write_status(deployment, status).await?;
        }
        Ok(Action::Done)
    }
}

//! ReplicaSets: as many pods as wanted.
//!
//! Between asking for pods and seeing them in the informer the controller holds expectations, so that it
//! never acts twice on one need.

mod apply;
#[cfg(test)]
mod loop_tests;
mod plan;
mod rank;
mod status;
#[cfg(test)]
mod tests;

use crate::clock::{Clock, until};
use crate::context::{Context, Task, orphans};
use crate::{claims, owner, pods};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use skep_api::{ApiError, LabelSelector, ObjectExt, ObjectKey};
use skep_client::Client;
use skep_runtime::{Action, Change, EventRecorder, Expectations, Index, Store, WorkQueue};
use std::sync::Arc;

const WORKERS: usize = 5;

pub(crate) fn controller(context: &Context) -> Task {
    let queue = context.queue("replicaset");
    let this = Arc::new(ReplicaSets {
        client: context.client.clone(),
        sets: context.informers.all::<ReplicaSet>().store(),
        sets_by_owner: context.sets_by_owner.clone(),
        pods_by_owner: context.pods_by_owner.clone(),
        expectations: Expectations::new(),
        events: context.recorder("replicaset-controller"),
        clock: context.clock,
        queue: queue.clone(),
    });
    let on_set = this.clone();
    context
        .informers
        .all::<ReplicaSet>()
        .on_change(move |change| on_set.set_changed(change));
    let on_pod = this.clone();
    context
        .informers
        .all::<Pod>()
        .on_change(move |change| on_pod.pod_changed(change));
    context.reconcile(queue, WORKERS, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    })
}

struct ReplicaSets {
    client: Client,
    sets: Store<ReplicaSet>,
    sets_by_owner: Index<ReplicaSet>,
    pods_by_owner: Index<Pod>,
    expectations: Expectations,
    events: EventRecorder,
    clock: Clock,
    queue: WorkQueue<ObjectKey>,
}

impl ReplicaSets {
    fn set_changed(&self, change: &Change<ReplicaSet>) {
        let key = change.object().key();
        let replaced = match change {
            Change::Updated(old, new) => old.metadata.uid != new.metadata.uid,
            Change::Deleted(_) => true,
            Change::Added(_) => false,
        };
        if replaced {
            self.expectations.forget(&key);
        }
        self.queue.add(key);
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        match change {
            Change::Added(pod) if pod.metadata.deletion_timestamp.is_some() => self.pod_goes(pod),
            Change::Added(pod) => self.pod_came(pod),
            Change::Deleted(pod) => self.pod_goes(pod),
            Change::Updated(old, new) if old.metadata.uid != new.metadata.uid => {
                self.pod_goes(old);
                self.pod_came(new);
            }
            Change::Updated(old, new) => self.pod_updated(old, new),
        }
    }

    fn pod_came(&self, pod: &Pod) {
        match self.owner_of(pod) {
            Some(key) => {
                self.expectations.creation_observed(&key);
                self.queue.add(key);
            }
            None => self.queue_adopters(pod),
        }
    }

    fn pod_goes(&self, pod: &Pod) {
        if let Some(key) = self.owner_of(pod) {
            self.expectations.deletion_observed(&key, pod.uid());
            self.queue.add(key);
        }
    }

    fn pod_updated(&self, old: &Pod, new: &Pod) {
        if new.metadata.deletion_timestamp.is_some() {
            self.pod_goes(new);
        }
        if owner::controller_of(&old.metadata) != owner::controller_of(&new.metadata)
            && let Some(key) = self.owner_of(old)
        {
            self.queue.add(key);
        }
        match self.owner_of(new) {
            Some(key) => self.queue.add(key),
            None if old.metadata.labels != new.metadata.labels
                || old.metadata.owner_references != new.metadata.owner_references =>
            {
                self.queue_adopters(new);
            }
            None => {}
        }
    }

    /// The ReplicaSet that controls the pod, if it is (still) there.
    fn owner_of(&self, pod: &Pod) -> Option<ObjectKey> {
        let owner = owner::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
        let key = ObjectKey::new(pod.namespace(), &owner.name);
        let set = self.sets.get(&key)?;
        (set.uid() == owner.uid).then_some(key)
    }

    /// An orphan concerns every ReplicaSet whose selector matches it.
    fn queue_adopters(&self, pod: &Pod) {
        if owner::controller_of(&pod.metadata).is_some() {
            return;
        }
        for set in self.sets.in_namespace(pod.namespace()) {
            if selector(&set).is_some_and(|selector| selector.matches(pod.labels())) {
                self.queue.add(set.key());
            }
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ApiError> {
        let Some(set) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(Action::Done);
        };
        let Some(selector) = selector(&set) else {
            return Ok(Action::Done);
        };
        // Asked before the pods are looked at: what comes between shows in both.
        let trusted = self.expectations.satisfied(&key);
        let mut candidates = self.pods_by_owner.get(set.uid());
        let terminating = candidates.iter().filter(|pod| pods::is_terminating(pod)).count();
        candidates.extend(self.pods_by_owner.get(&orphans(set.namespace())));
        candidates.retain(|pod| pods::is_active(pod));
        let active = claims::claim(&self.client, &*set, &selector, candidates).await?;

        let now = self.clock.now();
        let plan = if trusted {
            plan::plan(&set, &active, &self.related(&set), now)
        } else {
            plan::Plan::Nothing
        };
        let failure = self.apply(&key, &set, plan).await.err();
        let message = failure.as_ref().map(|error| error.message.as_str());
        let status = status::status(&set, &active, terminating, message, now);
        self.write_status(&set, status).await?;
        if let Some(error) = failure {
            return Err(error);
        }
        let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
        Ok(match plan::next_available(&active, min_ready, now) {
            Some(at) => Action::RequeueAfter(until(at, now)),
            None => Action::Done,
        })
    }

    /// The pods of all ReplicaSets that have the same controller as this one.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let siblings = match owner::controller_of(&set.metadata) {
            Some(owner) => self.sets_by_owner.get(&owner.uid),
            None => Vec::new(),
        };
        let mut uids: Vec<&str> = siblings.iter().map(|sibling| sibling.uid()).collect();
        if uids.is_empty() {
            uids.push(set.uid());
        }
        uids.into_iter()
            .flat_map(|uid| self.pods_by_owner.get(uid))
            .collect()
    }
}

/// None: cannot be understood, or selects everything; validation has refused both.
fn selector(set: &ReplicaSet) -> Option<LabelSelector> {
    let selector = LabelSelector::from_meta(Some(&set.spec.selector)).ok()?;
    (!selector.is_empty()).then_some(selector)
}

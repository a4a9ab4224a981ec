//! Deleted namespaces: all content goes, pods first, then the namespace is let go.

mod conditions;
mod content;
#[cfg(test)]
mod tests;

use crate::clock::Clock;
use crate::context::{Context, Task, unless_gone};
use conditions::Outcome;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use skep_api::{ApiError, GroupVersionResource, ObjectExt, ObjectKey, ResourceTable, gvr_of};
use skep_client::Client;
use skep_runtime::{Action, Change, Store};
use std::sync::Arc;
use std::time::Duration;

const WORKERS: usize = 5;
const FINALIZER: &str = "kubernetes";
/// Between two looks at content that is going; the end of a pod is heard of sooner.
const RECHECK_DELAY: Duration = Duration::from_secs(2);

pub(crate) fn controller(context: &Context) -> Task {
    let queue = context.queue::<String>("namespace");
    let namespaces = context.informers.all::<Namespace>();
    let this = Arc::new(Namespaces {
        client: context.client.clone(),
        namespaces: namespaces.store(),
        kinds: kinds(),
        clock: context.clock,
    });
    let going = |namespace: &Namespace| namespace.metadata.deletion_timestamp.is_some();
    namespaces.feed(&queue, move |namespace| {
        if going(namespace) {
            vec![namespace.name().to_owned()]
        } else {
            Vec::new()
        }
    });
    let (known, waiting) = (namespaces.store(), queue.clone());
    context.informers.all::<Pod>().on_change(move |change| {
        let name = change.object().namespace();
        if matches!(change, Change::Deleted(_))
            && known
                .get(&ObjectKey::cluster(name))
                .is_some_and(|namespace| going(&namespace))
        {
            waiting.add(name.to_owned());
        }
    });
    context.reconcile(queue, WORKERS, move |name| {
        let this = this.clone();
        async move { this.reconcile(&name).await }
    })
}

/// Every kind that lives in namespaces, pods first: what a pod needs to end well goes after it.
fn kinds() -> Vec<GroupVersionResource> {
    let table = ResourceTable::builtin();
    let mut kinds: Vec<_> = table
        .iter()
        .filter(|row| row.namespaced && can_be_deleted(row))
        .map(|row| row.gvr.clone())
        .collect();
    let pods = gvr_of::<Pod>();
    kinds.sort_by_key(|gvr| *gvr != pods);
    kinds
}

fn can_be_deleted(row: &skep_api::ResourceInfo) -> bool {
    use skep_api::Verb::{Delete, List};
    row.verbs.contains(&List) && row.verbs.contains(&Delete)
}

struct Namespaces {
    client: Client,
    namespaces: Store<Namespace>,
    kinds: Vec<GroupVersionResource>,
    clock: Clock,
}

impl Namespaces {
    async fn reconcile(&self, name: &str) -> Result<Action, ApiError> {
        let key = ObjectKey::cluster(name);
        let shown = self.namespaces.get(&key);
        if shown.is_none_or(|shown| shown.metadata.deletion_timestamp.is_none()) {
            return Ok(Action::Done);
        }
        // What follows cannot be undone: the server's word counts, not the informer's.
        let Some(namespace) = self.client.find::<Namespace>(&key).await? else {
            return Ok(Action::Done);
        };
        if namespace.metadata.deletion_timestamp.is_none() || !is_held(&namespace) {
            return Ok(Action::Done);
        }
        let outcome = content::delete_all(&self.client, name, &self.kinds).await;
        let done = outcome.is_done();
        let failure = outcome.failures.first().cloned();
        let delay = outcome
            .grace
            .map_or(RECHECK_DELAY, |grace| (grace / 2).max(RECHECK_DELAY));
        let Some(namespace) = self.write_status(namespace, &outcome).await? else {
            return Ok(Action::Done);
        };
        if done {
            tracing::info!(namespace = name, "content is gone, letting go");
            return self.finalize(&namespace).await;
        }
        failure.map_or(Ok(Action::RequeueAfter(delay)), Err)
    }

    async fn write_status(
        &self,
        namespace: Arc<Namespace>,
        outcome: &Outcome,
    ) -> Result<Option<Arc<Namespace>>, ApiError> {
        let old = namespace.status.clone().unwrap_or_default();
        let status = conditions::status(&old, outcome, self.clock.now());
        if status == old {
            return Ok(Some(namespace));
        }
        let mut written = Namespace::clone(&namespace);
        written.status = Some(status);
        unless_gone(self.client.update_status(&written).await)
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<Action, ApiError> {
        let mut written = namespace.clone();
        let finalizers = written
            .spec
            .get_or_insert_default()
            .finalizers
            .get_or_insert_default();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        unless_gone(self.client.update_subresource("finalize", &written).await)?;
        Ok(Action::Done)
    }
}

fn is_held(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    finalizers
        .into_iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER)
}

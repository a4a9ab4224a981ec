//! Brings pods' statuses to the API. The newest one counts; what the API has already is not written again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use parking_lot::Mutex;
use skep_api::{ApiError, ObjectExt, ObjectKey};
use skep_client::Client;
use skep_runtime::{Store, WorkQueue, WorkQueueOptions};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::names::PodIdentity;
use crate::status::OWNED_CONDITIONS;

/// Statuses written at the same time.
const WORKERS: usize = 4;
/// Attempts to write over others' writes before the queue tries again.
const MAX_CONFLICTS: usize = 5;

struct Known {
    id: PodIdentity,
    status: PodStatus,
    /// The object as the last write left it: the store may not show it yet.
    written: Option<Arc<Pod>>,
}

/// Whether the API says that this node has no such pod: it is gone, or its name is now a pod of another node, which
/// this one may not touch.
pub(crate) fn is_gone(error: &ApiError) -> bool {
    error.is_not_found() || error.is_forbidden()
}

/// The newest status of every pod.
#[derive(Clone)]
pub(crate) struct StatusWriter {
    client: Client,
    pods: Store<Pod>,
    known: Arc<Mutex<HashMap<String, Known>>>,
    queue: WorkQueue<String>,
}

impl StatusWriter {
    pub(crate) fn new(client: Client, pods: Store<Pod>) -> Self {
        let queue = WorkQueue::new("pod-status", WorkQueueOptions::default());
        Self {
            client,
            pods,
            known: Arc::default(),
            queue,
        }
    }

    /// Remembers a pod's status and writes it soon.
    pub(crate) fn set(&self, id: &PodIdentity, status: PodStatus) {
        let mut all = self.known.lock();
        if let Some(known) = all.get_mut(&id.uid) {
            if known.status == status {
                return;
            }
            known.status = status;
        } else {
            let known = Known {
                id: id.clone(),
                status,
                written: None,
            };
            all.insert(id.uid.clone(), known);
        }
        drop(all);
        self.queue.add(id.uid.clone());
    }

    /// The newest status of a pod.
    pub(crate) fn get(&self, uid: &str) -> Option<PodStatus> {
        self.known.lock().get(uid).map(|known| known.status.clone())
    }

    /// Writes again if the API shows another status than the newest: someone else has written.
    pub(crate) fn check(&self, pod: &Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let known = self.known.lock();
        let Some(known) = known.get(&uid) else {
            return;
        };
        if !shows(
            pod.status.as_ref().unwrap_or(&PodStatus::default()),
            &known.status,
        ) {
            self.queue.add(uid);
        }
    }

    /// Forgets a pod.
    pub(crate) fn forget(&self, uid: &str) {
        self.known.lock().remove(uid);
    }

    /// Writes the newest status now; says whether the API still has the pod.
    ///
    /// # Errors
    /// When the API cannot be reached or refuses.
    pub(crate) async fn flush(&self, uid: &str) -> Result<bool, ApiError> {
        let found = self
            .known
            .lock()
            .get(uid)
            .map(|known| (known.id.clone(), known.status.clone(), known.written.clone()));
        let Some((id, status, written)) = found else {
            return Ok(true);
        };
        let key = ObjectKey::new(id.namespace.as_str(), id.name.as_str());
        let shown = self.pods.get(&key);
        let mut current = [shown, written]
            .into_iter()
            .flatten()
            .max_by_key(|pod| pod.resource_version());
        for _ in 0..MAX_CONFLICTS {
            let pod = match current.take() {
                Some(pod) => pod,
                None => match self.find(&key).await? {
                    Some(pod) => pod,
                    None => return Ok(false),
                },
            };
            if pod.metadata.uid.as_deref() != Some(uid) {
                // The store may be behind: only the API's word counts.
                match self.find(&key).await? {
                    Some(pod) if pod.metadata.uid.as_deref() == Some(uid) => {}
                    _ => return Ok(false),
                }
            }
            let wanted = merged(&status, &pod);
            if pod.status.as_ref() == Some(&wanted) {
                return Ok(true);
            }
            let mut update = Pod::clone(&pod);
            update.status = Some(wanted);
            match self.client.update_status(&update).await {
                Ok(written) => {
                    if let Some(known) = self.known.lock().get_mut(uid) {
                        known.written = Some(written);
                    }
                    return Ok(true);
                }
                Err(error) if is_gone(&error) => return Ok(false),
                Err(error) if error.is_conflict() => {
                    // The next round asks the API.
                    current = self.find(&key).await?;
                    if current.is_none() {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(ApiError::connection(format!(
            "pod {key} changes too fast to write its status"
        )))
    }

    /// The pod as the API has it, if it is one of this node's.
    async fn find(&self, key: &ObjectKey) -> Result<Option<Arc<Pod>>, ApiError> {
        match self.client.get::<Pod>(key).await {
            Err(error) if is_gone(&error) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Writes until cancelled.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let (writer, shutdown) = (self.clone(), shutdown.clone());
            workers.spawn(async move { writer.work(&shutdown).await });
        }
        shutdown.cancelled().await;
        self.queue.shut_down();
        workers.join_all().await;
    }

    async fn work(&self, shutdown: &CancellationToken) {
        while let Some(taken) = self.queue.next().await {
            let uid = String::clone(&taken);
            match shutdown.run_until_cancelled(self.flush(&uid)).await {
                Some(Ok(_)) | None => self.queue.forget(&uid),
                Some(Err(error)) => {
                    tracing::warn!(uid, %error, "pod status not written, trying again");
                    self.queue.add_rate_limited(uid);
                }
            }
        }
    }
}

/// Whether a status says what ours does, whenever it was said. The node lifecycle controller writes conditions too, while
/// the node is silent.
fn shows(shown: &PodStatus, ours: &PodStatus) -> bool {
    shown.phase == ours.phase
        && shown.container_statuses == ours.container_statuses
        && verdicts(shown) == verdicts(ours)
}

/// Our conditions without their times: type, status, reason.
fn verdicts(status: &PodStatus) -> BTreeSet<(&str, &str, Option<&str>)> {
    let conditions = status.conditions.iter().flatten();
    conditions
        .filter(|condition| OWNED_CONDITIONS.contains(&condition.type_.as_str()))
        .map(|condition| {
            (
                condition.type_.as_str(),
                condition.status.as_str(),
                condition.reason.as_deref(),
            )
        })
        .collect()
}

/// Our status with what others own in it: conditions of other types, the nominated node.
fn merged(status: &PodStatus, pod: &Pod) -> PodStatus {
    let mut merged = status.clone();
    let theirs = pod.status.clone().unwrap_or_default();
    let ours = merged.conditions.get_or_insert_default();
    let owned = |condition: &PodCondition| OWNED_CONDITIONS.contains(&condition.type_.as_str());
    ours.retain(owned);
    let theirs_to_keep = theirs.conditions.into_iter().flatten();
    ours.extend(theirs_to_keep.filter(|condition| !owned(condition)));
    merged.nominated_node_name = theirs.nominated_node_name;
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_api::gvr_of;
    use skep_client::testing::FakeTransport;
    use skep_runtime::{Informer, InformerOptions};

    #[tokio::test]
    async fn a_pod_of_another_node_is_none_of_ours() {
        let api = FakeTransport::new();
        let pods = Informer::<Pod>::new(api.client(), InformerOptions::default());
        let writer = StatusWriter::new(api.client(), pods.store());
        let id = PodIdentity {
            namespace: "default".to_owned(),
            name: "a".to_owned(),
            uid: "ours".to_owned(),
        };
        writer.set(&id, PodStatus::default());
        let refusal = ApiError::forbidden(&gvr_of::<Pod>(), "a", "another node's");
        api.fail_matching(usize::MAX, refusal, |_| true);
        assert_eq!(writer.flush("ours").await, Ok(false));
    }
}

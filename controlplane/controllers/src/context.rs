//! What all controllers share: the client, the informers with the indexes that several use, the clock.

use crate::clock::Clock;
use crate::config::ControllersConfig;
use crate::owner;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use skep_api::{ApiError, Object, ObjectExt};
use skep_client::Client;
use skep_runtime::{
    Action, Controller, EventRecorder, EventSource, Index, InformerSet, WorkQueue, WorkQueueOptions,
};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A controller, ready to run; its informers are registered already.
pub(crate) type Task = BoxFuture<'static, ()>;

/// After a conflict the newer object comes through the informer; this is only in case it came already.
const CONFLICT_DELAY: Duration = Duration::from_millis(250);

pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) informers: InformerSet,
    pub(crate) config: Arc<ControllersConfig>,
    pub(crate) clock: Clock,
    /// Pods by the uid of their controller; those that have none by [`orphans`] of their namespace.
    pub(crate) pods_by_owner: Index<Pod>,
    /// ReplicaSets, the same.
    pub(crate) sets_by_owner: Index<ReplicaSet>,
    /// Pods by the node they are bound to.
    pub(crate) pods_by_node: Index<Pod>,
    pub(crate) shutdown: CancellationToken,
    recorders: Mutex<Vec<EventRecorder>>,
}

/// Where [`Context::pods_by_owner`] keeps the objects of a namespace that have no controller.
pub(crate) fn orphans(namespace: &str) -> String {
    format!("orphans of {namespace}")
}

fn by_owner<K: Object>(object: &K) -> Vec<String> {
    vec![match owner::controller_of(object.metadata()) {
        Some(owner) => owner.uid.clone(),
        None => orphans(object.namespace()),
    }]
}

impl Context {
    pub(crate) fn new(
        client: Client,
        config: ControllersConfig,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> Self {
        let informers = InformerSet::new(client.clone());
        let pods = informers.all::<Pod>();
        Self {
            pods_by_owner: pods.index(by_owner),
            sets_by_owner: informers.all::<ReplicaSet>().index(by_owner),
            pods_by_node: pods.index(|pod| {
                Some(crate::pods::node_name(pod))
                    .filter(|node| !node.is_empty())
                    .map(str::to_owned)
                    .into_iter()
                    .collect()
            }),
            client,
            informers,
            config: Arc::new(config),
            clock,
            shutdown,
            recorders: Mutex::default(),
        }
    }

    pub(crate) fn queue<T: Clone + Eq + Hash + Debug + Send + Sync + 'static>(
        &self,
        name: &str,
    ) -> WorkQueue<T> {
        let options = WorkQueueOptions {
            metrics: self.config.metrics.clone(),
            ..Default::default()
        };
        WorkQueue::new(name, options)
    }

    pub(crate) fn recorder(&self, component: &str) -> EventRecorder {
        let source = EventSource {
            component: component.to_owned(),
            host: None,
        };
        let recorder = EventRecorder::new(self.client.clone(), source);
        self.recorders.lock().push(recorder.clone());
        recorder
    }

    /// Runs the queue's reconciles once every informer has synced.
    pub(crate) fn reconcile<T, F, R>(&self, queue: WorkQueue<T>, workers: usize, reconcile: F) -> Task
    where
        T: Clone + Eq + Hash + Debug + Send + Sync + 'static,
        F: Fn(T) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Action, ApiError>> + Send + 'static,
    {
        let (informers, shutdown) = (self.informers.clone(), self.shutdown.clone());
        async move {
            if informers.synced(&shutdown).await {
                let quiet = move |key| {
                    let result = reconcile(key);
                    async move { unless_conflict(result.await) }
                };
                Controller::new(queue).workers(workers).run(quiet, shutdown).await;
            }
        }
        .boxed()
    }

    /// What runs beside the controllers: informers and event writers.
    pub(crate) fn services(&self) -> Vec<(&'static str, Task)> {
        let shutdown = self.shutdown.clone();
        let informers = self.informers.clone();
        let mut tasks: Vec<(&'static str, Task)> =
            vec![("informers", async move { informers.run(shutdown).await }.boxed())];
        for recorder in self.recorders.lock().drain(..) {
            let shutdown = self.shutdown.clone();
            tasks.push(("events", async move { recorder.run(shutdown).await }.boxed()));
        }
        tasks
    }
}

/// A conflict means that the plan was made of an old object: nothing went wrong, plan again.
fn unless_conflict(result: Result<Action, ApiError>) -> Result<Action, ApiError> {
    match result {
        Err(error) if error.is_conflict() => {
            tracing::debug!(%error, "conflict");
            Ok(Action::RequeueAfter(CONFLICT_DELAY))
        }
        other => other,
    }
}

/// Whether the request was refused because its namespace is being deleted: not worth another try.
pub(crate) fn namespace_is_terminating(error: &ApiError) -> bool {
    let causes = error.details.as_ref().and_then(|details| details.causes.as_ref());
    causes
        .into_iter()
        .flatten()
        .any(|cause| cause.reason.as_deref() == Some("NamespaceTerminating"))
}

/// `Ok` also where the object is gone already.
pub(crate) fn unless_gone<T>(result: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

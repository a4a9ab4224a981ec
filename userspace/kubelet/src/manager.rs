//! The pods of this node: one worker each, woken by what concerns it; and what no pod owns is taken away.

mod source;

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::{Mutex, RwLock};
use skep_runtime::{Change, Informer, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::names::{self, PodIdentity};
use crate::objects::Waker;
use crate::observed::Observed;
use crate::probes::{ProbeEvent, Prober};
use crate::shared::Shared;
use crate::worker::{PodWorker, SyncError, Wanted, WorkerParts};

/// How often what no pod owns is looked for.
const TIDY_PERIOD: Duration = Duration::from_secs(60);

/// A pod's worker, seen from outside.
struct Entry {
    id: PodIdentity,
    wanted: watch::Sender<Wanted>,
    waker: Arc<Waker>,
    view: Arc<RwLock<Observed>>,
}

/// The pods of this node.
pub(crate) struct Manager {
    shared: Arc<Shared>,
    prober: Arc<Prober>,
    store: Store<Pod>,
    pods: Arc<Mutex<HashMap<String, Entry>>>,
    tasks: TaskTracker,
}

impl Manager {
    pub(crate) fn new(shared: Arc<Shared>, store: Store<Pod>) -> Arc<Self> {
        let pods: Arc<Mutex<HashMap<String, Entry>>> = Arc::default();
        let (told, about) = (Arc::clone(&pods), Arc::clone(&shared));
        let prober = Prober::new(
            Arc::clone(&shared.runtime),
            Arc::new(move |event| tell_probe(&about, &told, &event)),
            shared.shutdown.clone(),
        );
        Arc::new(Self {
            shared,
            prober: Arc::new(prober),
            store,
            pods,
            tasks: TaskTracker::new(),
        })
    }

    /// Follows the API's pods until cancelled; then waits for the workers to let go of theirs.
    pub(crate) async fn run(&self, informer: &Informer<Pod>, shutdown: &CancellationToken) {
        let mut changes = informer.subscribe();
        let following = async {
            while let Some(change) = changes.next().await {
                self.apply(change);
            }
        };
        let both = async {
            tokio::select! {
                () = following => {}
                () = self.tidy(informer) => {}
            }
        };
        shutdown.run_until_cancelled(both).await;
        self.tasks.close();
        self.tasks.wait().await;
        self.prober.ended().await;
    }

    fn apply(&self, change: Change<Pod>) {
        match change {
            Change::Added(pod) => self.dispatch(pod),
            Change::Updated(old, new) => {
                if old.metadata.uid != new.metadata.uid {
                    self.gone(&old);
                }
                self.dispatch(new);
            }
            Change::Deleted(pod) => self.gone(&pod),
        }
    }

    fn dispatch(&self, pod: Arc<Pod>) {
        let id = PodIdentity::of(&pod);
        self.shared.statuses.check(&pod);
        let mut pods = self.pods.lock();
        match pods.get(&id.uid) {
            Some(entry) => drop(entry.wanted.send_replace(Wanted::Object(pod))),
            None => self.spawn(&mut pods, id, Wanted::Object(pod)),
        }
    }

    fn gone(&self, pod: &Arc<Pod>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(entry) = self.pods.lock().get(&uid) {
            drop(entry.wanted.send_replace(Wanted::Gone(Some(Arc::clone(pod)))));
        }
    }

    fn spawn(&self, pods: &mut HashMap<String, Entry>, id: PodIdentity, wanted: Wanted) {
        let (sender, receiver) = watch::channel(wanted);
        let waker = Arc::new(Waker::default());
        let view = Arc::new(RwLock::new(Observed::default()));
        let worker = PodWorker::new(WorkerParts {
            shared: Arc::clone(&self.shared),
            prober: Arc::clone(&self.prober),
            id: id.clone(),
            wanted: receiver,
            waker: Arc::clone(&waker),
            view: Arc::clone(&view),
        });
        let uid = id.uid.clone();
        pods.insert(
            uid.clone(),
            Entry {
                id,
                wanted: sender,
                waker,
                view,
            },
        );
        let metrics = self.shared.metrics.clone();
        metrics.pods.inc();
        let known = Arc::clone(&self.pods);
        self.tasks.spawn(async move {
            // A worker that fails takes nobody along: the next change of its pod, or tidying, brings another.
            if let Err(panic) = AssertUnwindSafe(worker.run()).catch_unwind().await {
                metrics.sync_errors.inc();
                tracing::error!(uid, panic = text(&*panic), "a pod's worker panicked");
            }
            known.lock().remove(&uid);
            metrics.pods.dec();
        });
    }

    /// Wakes the pod that a container or sandbox belongs to. Unknown ones are left to [`Self::tidy`].
    pub(crate) fn wake_by_runtime_id(&self, id: &str) {
        for entry in self.pods.lock().values() {
            let view = entry.view.read();
            let owns = view.containers.iter().any(|container| container.id == id)
                || view.sandboxes.iter().any(|sandbox| sandbox.id == id);
            if owns {
                entry.waker.wake();
            }
        }
    }

    /// Wakes a pod.
    pub(crate) fn wake(&self, uid: &str) {
        if let Some(entry) = self.pods.lock().get(uid) {
            entry.waker.wake();
        }
    }

    /// Wakes all pods.
    pub(crate) fn wake_all(&self) {
        for entry in self.pods.lock().values() {
            entry.waker.wake();
        }
    }

    /// Looks after what no pod owns, again and again.
    async fn tidy(&self, informer: &Informer<Pod>) {
        informer.synced().await;
        let mut period = tokio::time::interval(TIDY_PERIOD);
        loop {
            period.tick().await;
            if let Err(error) = self.tidy_once().await {
                tracing::warn!(%error, "tidying failed");
            }
        }
    }

    /// Ends sandboxes of pods that the API does not have, and removes directories and cgroups that are nobody's. A pod
    /// whose worker failed gets another.
    ///
    /// What is found here was there before its owners are asked for, and a pod that the API does not have never comes
    /// back under its uid: what is nobody's then stays nobody's.
    async fn tidy_once(&self) -> Result<(), SyncError> {
        let sandboxes = self.shared.runtime.list_pod_sandboxes(None).await?;
        let shared = Arc::clone(&self.shared);
        let (directories, cgroups) = self
            .blocking(move || (shared.volumes.known(), shared.cgroups.known()))
            .await?;
        let orphaned: HashSet<String> = {
            let mut pods = self.pods.lock();
            for pod in self.store.list() {
                let id = PodIdentity::of(&pod);
                if !pods.contains_key(&id.uid) {
                    self.spawn(&mut pods, id, Wanted::Object(pod));
                }
            }
            for sandbox in sandboxes {
                let Some(id) = identity(&sandbox.labels) else {
                    continue;
                };
                if !pods.contains_key(&id.uid) {
                    tracing::info!(pod = %id, sandbox = sandbox.id, "the API has no such pod: ending it");
                    self.spawn(&mut pods, id, Wanted::Gone(None));
                }
            }
            let uids = cgroups.iter().map(|(uid, _)| uid).chain(&directories);
            uids.filter(|uid| !pods.contains_key(*uid)).cloned().collect()
        };
        let shared = Arc::clone(&self.shared);
        self.blocking(move || {
            for uid in directories.iter().filter(|uid| orphaned.contains(*uid)) {
                if let Err(error) = shared.volumes.remove(uid) {
                    tracing::warn!(uid, %error, "a directory of no pod was not removed");
                }
            }
            for (_, path) in cgroups.iter().filter(|(uid, _)| orphaned.contains(uid)) {
                if let Err(error) = shared.cgroups.remove(path) {
                    tracing::warn!(path, %error, "a cgroup of no pod was not removed");
                }
            }
        })
        .await
    }

    /// Runs what blocks on a thread for it, which is waited for at the end.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SyncError> {
        let done = self.tasks.spawn_blocking(work).await;
        done.map_err(|error| SyncError::Io(error.into()))
    }

    /// The running containers of all pods.
    pub(crate) fn running_containers(&self) -> Vec<(PodIdentity, crate::observed::Container)> {
        let pods = self.pods.lock();
        let mut running = Vec::new();
        for entry in pods.values() {
            running.extend(
                entry
                    .view
                    .read()
                    .running()
                    .map(|container| (entry.id.clone(), container.clone())),
            );
        }
        running
    }

    /// The images of all containers, by the runtime's name.
    pub(crate) fn used_images(&self) -> HashSet<String> {
        let pods = self.pods.lock();
        let mut images = HashSet::new();
        for entry in pods.values() {
            images.extend(
                entry
                    .view
                    .read()
                    .containers
                    .iter()
                    .map(|container| container.image_ref.clone()),
            );
        }
        images
    }
}

/// What a panic says.
fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// Whose a sandbox or container is.
pub(crate) fn identity(labels: &HashMap<String, String>) -> Option<PodIdentity> {
    Some(PodIdentity {
        namespace: labels.get(names::POD_NAMESPACE)?.clone(),
        name: labels.get(names::POD_NAME)?.clone(),
        uid: labels.get(names::POD_UID)?.clone(),
    })
}

/// A probe's result concerns its pod; a failure is an event of it.
fn tell_probe(shared: &Shared, pods: &Mutex<HashMap<String, Entry>>, event: &ProbeEvent) {
    let pods = pods.lock();
    let Some(entry) = pods.get(&event.uid) else {
        return;
    };
    if event.changed {
        tracing::info!(
            pod = %entry.id, container = event.container, id = event.container_id,
            probe = event.kind.name(), passed = event.passed, "probe result changed"
        );
        entry.waker.wake();
    }
    if event.passed {
        return;
    }
    if let Wanted::Object(pod) = &*entry.wanted.borrow() {
        let message = format!("{} probe failed: {}", event.kind.name(), event.message);
        let about = (&**pod, event.container.as_str());
        shared
            .events
            .container(about, skep_runtime::EventType::Warning, "Unhealthy", &message);
    }
}

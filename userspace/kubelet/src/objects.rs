//! The config maps and secrets that pods of this node refer to, and no others: one watch per object, as long as a pod
//! refers to it. A change wakes the pods that do.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use parking_lot::Mutex;
use skep_api::references::References;
use skep_api::{Object, ObjectKey};
use skep_client::Client;
use skep_runtime::{Informer, InformerOptions};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::env::Referenced;

/// How long a pod waits for the API to show what it refers to.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10);

/// Wakes a pod's worker.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    notify: Notify,
    objects_changed: AtomicBool,
}

impl Waker {
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    fn objects_changed(&self) {
        self.objects_changed.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether an object that the pod refers to has changed since this was asked last.
    pub(crate) fn take_objects_changed(&self) -> bool {
        self.objects_changed.swap(false, Ordering::AcqRel)
    }
}

/// What a pod refers to could not be seen in time.
#[derive(Debug, thiserror::Error)]
#[error("timed out waiting for the API to show {key}")]
pub(crate) struct NotSynced {
    key: ObjectKey,
}

type Users = Arc<Mutex<HashMap<String, Arc<Waker>>>>;

struct Watched<K: Object> {
    informer: Informer<K>,
    users: Users,
    cancel: CancellationToken,
}

struct Watches<K: Object>(Mutex<HashMap<ObjectKey, Watched<K>>>);

impl<K: Object> Watches<K> {
    fn new() -> Self {
        Self(Mutex::default())
    }
}

/// The objects that pods refer to.
pub(crate) struct Objects {
    client: Client,
    config_maps: Watches<ConfigMap>,
    secrets: Watches<Secret>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Objects {
    pub(crate) fn new(client: Client, tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        Self {
            client,
            config_maps: Watches::new(),
            secrets: Watches::new(),
            tasks,
            shutdown,
        }
    }

    /// What the pod refers to now, which from now on is all that it refers to.
    pub(crate) async fn fetch(
        &self,
        (uid, waker): (&str, &Arc<Waker>),
        namespace: &str,
        References { config_maps, secrets }: References,
    ) -> Result<Referenced, NotSynced> {
        self.watch(&self.config_maps, uid, waker, namespace, &config_maps);
        self.watch(&self.secrets, uid, waker, namespace, &secrets);
        let mut referenced = Referenced::default();
        for name in config_maps {
            let object = read(&self.config_maps, namespace, &name).await?;
            referenced.config_maps.insert(name, object);
        }
        for name in secrets {
            let object = read(&self.secrets, namespace, &name).await?;
            referenced.secrets.insert(name, object);
        }
        Ok(referenced)
    }

    /// The pod refers to nothing any more.
    pub(crate) fn release(&self, uid: &str) {
        retain(&self.config_maps, uid, |_| false);
        retain(&self.secrets, uid, |_| false);
    }

    fn watch<K: Object>(
        &self,
        watches: &Watches<K>,
        uid: &str,
        waker: &Arc<Waker>,
        namespace: &str,
        names: &BTreeSet<String>,
    ) {
        for name in names {
            let mut watched = watches.0.lock();
            let entry = watched
                .entry(ObjectKey::new(namespace, name.as_str()))
                .or_insert_with(|| self.begin::<K>(namespace, name));
            entry.users.lock().insert(uid.to_owned(), Arc::clone(waker));
        }
        retain(watches, uid, |key| {
            key.namespace == namespace && names.contains(&key.name)
        });
    }

    fn begin<K: Object>(&self, namespace: &str, name: &str) -> Watched<K> {
        let options = InformerOptions {
            namespace: Some(namespace.to_owned()),
            label_selector: None,
            field_selector: Some(format!("metadata.name={name}")),
        };
        let informer = Informer::<K>::new(self.client.clone(), options);
        let users = Users::default();
        let told = Arc::clone(&users);
        informer.on_change(move |_| {
            for waker in told.lock().values() {
                waker.objects_changed();
            }
        });
        let cancel = self.shutdown.child_token();
        let (running, until) = (informer.clone(), cancel.clone());
        self.tasks.spawn(async move { running.run(until).await });
        Watched {
            informer,
            users,
            cancel,
        }
    }
}

async fn read<K: Object>(
    watches: &Watches<K>,
    namespace: &str,
    name: &str,
) -> Result<Option<Arc<K>>, NotSynced> {
    let key = ObjectKey::new(namespace, name);
    let informer = watches.0.lock().get(&key).map(|watched| watched.informer.clone());
    let Some(informer) = informer else {
        return Err(NotSynced { key });
    };
    match tokio::time::timeout(SYNC_TIMEOUT, informer.synced()).await {
        Ok(()) => Ok(informer.store().get(&key)),
        Err(_elapsed) => Err(NotSynced { key }),
    }
}

/// The pod no longer refers to what `keep` does not keep; what nobody refers to is no longer watched.
fn retain<K: Object>(watches: &Watches<K>, uid: &str, keep: impl Fn(&ObjectKey) -> bool) {
    watches.0.lock().retain(|key, watched| {
        let mut users = watched.users.lock();
        if !keep(key) {
            users.remove(uid);
        }
        if users.is_empty() {
            watched.cancel.cancel();
        }
        !users.is_empty()
    });
}

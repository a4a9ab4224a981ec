//! The watch cache: every object in memory, at one revision, with the changes of the last minutes.
//!
//! One feed applies the store's changes in order. Everything is read under one lock, so that what a reader sees of
//! any resources is the state at exactly [`Snapshot::revision`]. Objects lie in persistent maps: a snapshot costs
//! nothing. Changes lie in a log per resource; watchers hold positions in it and are ended when it moves past them.

mod feed;
mod log;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use parking_lot::RwLock;
use skep_api::{ApiError, GroupVersionResource, ObjectKey, ResourceInfo, ResourceTable, Revision};
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use feed::{Feed, Observer, load};
pub(crate) use log::{Change, Log, LogRead};

use crate::{RegistryConfig, SharedObject, keys};

/// Objects by their path, `namespace/name`.
pub(crate) type Objects = OrdMap<Arc<str>, SharedObject>;

/// A resource's place in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(usize);

/// A resource's objects as they were at a revision.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) objects: Objects,
    pub(crate) revision: u64,
}

struct Resource {
    info: Arc<ResourceInfo>,
    objects: Objects,
    log: Log,
}

struct State {
    revision: u64,
    resources: Vec<Resource>,
}

/// The watch cache.
pub(crate) struct Cache {
    slots: HashMap<String, Slot>,
    state: RwLock<State>,
    /// The revision up to which everything has been applied.
    progress: watch::Sender<u64>,
    /// Per resource: the position after the last change.
    changed: Vec<watch::Sender<u64>>,
    freshness_timeout: Duration,
}

impl Cache {
    fn new(table: &ResourceTable, config: &RegistryConfig) -> Self {
        let mut cache = Self {
            slots: HashMap::new(),
            state: RwLock::new(State {
                revision: 0,
                resources: Vec::new(),
            }),
            progress: watch::Sender::new(0),
            changed: Vec::new(),
            freshness_timeout: config.freshness_timeout,
        };
        for info in table.iter() {
            cache
                .slots
                .insert(keys::prefix(&info.gvr), Slot(cache.changed.len()));
            cache.changed.push(watch::Sender::new(0));
            cache.state.get_mut().resources.push(Resource {
                info: Arc::clone(info),
                objects: Objects::new(),
                log: Log::new(config.history, config.history_events, config.history_bytes),
            });
        }
        cache
    }

    pub(crate) fn slot(&self, resource: &GroupVersionResource) -> Option<Slot> {
        self.slots.get(&keys::prefix(resource)).copied()
    }

    /// The revision up to which everything has been applied.
    pub(crate) fn revision(&self) -> u64 {
        *self.progress.borrow()
    }

    /// Waits until everything up to `revision` has been applied.
    ///
    /// # Errors
    /// 504 with cause `ResourceVersionTooLarge` when that takes too long.
    pub(crate) async fn wait_for(&self, revision: u64) -> Result<(), ApiError> {
        if self.revision() >= revision {
            return Ok(());
        }
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|applied| *applied >= revision);
        match tokio::time::timeout(self.freshness_timeout, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ApiError::service_unavailable("the registry has been shut down")),
            Err(_) => Err(ApiError::too_large_resource_version(revision, self.revision())),
        }
    }

    pub(crate) fn get(&self, slot: Slot, key: &ObjectKey) -> Option<SharedObject> {
        self.state.read().resources[slot.0]
            .objects
            .get(keys::path(key).as_str())
            .cloned()
    }

    /// The newest state.
    pub(crate) fn snapshot(&self, slot: Slot) -> Snapshot {
        let state = self.state.read();
        Snapshot {
            objects: state.resources[slot.0].objects.clone(),
            revision: state.revision,
        }
    }

    /// The state at exactly `revision`, which must have been reached; `None` when the log does not go back so far.
    pub(crate) fn snapshot_at(&self, slot: Slot, revision: u64) -> Option<Snapshot> {
        let state = self.state.read();
        let Resource { objects, log, .. } = &state.resources[slot.0];
        let objects = log.rewind(objects.clone(), revision)?;
        Some(Snapshot { objects, revision })
    }

    /// The newest state, with the position in the log that follows it.
    pub(crate) fn snapshot_with_position(&self, slot: Slot) -> (Snapshot, u64) {
        let state = self.state.read();
        let Resource { objects, log, .. } = &state.resources[slot.0];
        (
            Snapshot {
                objects: objects.clone(),
                revision: state.revision,
            },
            log.end(),
        )
    }

    /// The position in the log after all changes up to `revision`; the log's floor when that is forgotten.
    pub(crate) fn position_after(&self, slot: Slot, revision: u64) -> Result<u64, u64> {
        self.state.read().resources[slot.0].log.position_after(revision)
    }

    /// Up to `limit` changes from `position` on, and the revision up to which the cache is.
    pub(crate) fn read_log(&self, slot: Slot, position: u64, limit: usize) -> (LogRead, u64) {
        let state = self.state.read();
        (state.resources[slot.0].log.read(position, limit), state.revision)
    }

    /// Forgets changes that are older than the history.
    pub(crate) fn prune(&self, now: Instant) {
        for resource in &mut self.state.write().resources {
            resource.log.prune(now);
        }
    }

    /// Tells when the log of a resource grows.
    pub(crate) fn subscribe(&self, slot: Slot) -> watch::Receiver<u64> {
        self.changed[slot.0].subscribe()
    }

    /// Applies changes of the store, which are in revision order, and then says that `revision` is reached.
    fn apply(&self, changes: Vec<(Slot, Applied)>, revision: u64, observer: &dyn Observer) {
        let now = Instant::now();
        let mut touched = Vec::new();
        {
            let mut state = self.state.write();
            for (slot, applied) in changes {
                let resource = &mut state.resources[slot.0];
                let info = Arc::clone(&resource.info);
                if let Some(change) = resource.apply(applied, now) {
                    observer.changed(&info, change);
                    touched.push((slot, resource.log.end()));
                }
            }
            state.revision = state.revision.max(revision);
        }
        self.progress
            .send_if_modified(|applied| std::mem::replace(applied, revision.max(*applied)) < revision);
        for (slot, end) in touched {
            self.changed[slot.0].send_replace(end);
        }
    }

    /// Replaces everything by another state: what happened in between is unknown, so all watches end.
    fn replace(&self, mut objects: HashMap<usize, Objects>, revision: u64, observer: &dyn Observer) {
        {
            let mut state = self.state.write();
            for (index, resource) in state.resources.iter_mut().enumerate() {
                resource.objects = objects.remove(&index).unwrap_or_default();
                resource.log.forget(revision);
            }
            state.revision = revision;
            observer.replaced(
                &mut state
                    .resources
                    .iter()
                    .map(|resource| (&*resource.info, &resource.objects)),
            );
        }
        self.progress.send_replace(revision);
        for changed in &self.changed {
            changed.send_modify(|_| {});
        }
    }
}

/// One change of the store, decoded.
enum Applied {
    Put(Arc<str>, SharedObject),
    Delete(Arc<str>, Revision),
}

impl Resource {
    fn apply(&mut self, applied: Applied, now: Instant) -> Option<&Change> {
        let change = match applied {
            Applied::Put(path, object) => {
                let previous = self.objects.insert(Arc::clone(&path), object.clone());
                Change {
                    path,
                    revision: object.revision(),
                    object,
                    previous,
                    deleted: false,
                }
            }
            Applied::Delete(path, revision) => {
                let previous = self.objects.remove(&*path)?;
                Change {
                    path,
                    revision,
                    object: previous.at(revision),
                    previous: Some(previous),
                    deleted: true,
                }
            }
        };
        Some(self.log.push(change, now))
    }
}

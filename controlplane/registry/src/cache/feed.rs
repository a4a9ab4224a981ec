//! The feed: loads the cache from the store and keeps applying the store's changes, in order, to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use skep_api::{ResourceInfo, ResourceTable, Revision};
use skep_store::{Entry, Event, Store, StoreError, WatchBatch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Applied, Cache, Change, Objects, Slot};
use crate::{RegistryConfig, SharedObject, keys};

/// Entries read from the store at a time while loading.
const LOAD_PAGE: usize = 1000;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// Follows what is applied to the cache, before any reader can see it. Called under the cache's lock: no waiting.
pub(crate) trait Observer: Send + Sync {
    fn changed(&self, info: &ResourceInfo, change: &Change);

    /// The whole state was replaced.
    fn replaced(&self, state: &mut dyn Iterator<Item = (&ResourceInfo, &Objects)>);
}

/// Reads everything from the store into a new cache.
pub(crate) async fn load(
    store: &Arc<dyn Store>,
    table: &ResourceTable,
    config: &RegistryConfig,
    observer: &dyn Observer,
) -> Result<Cache, StoreError> {
    let cache = Cache::new(table, config);
    reload(&cache, store.as_ref(), table, observer).await?;
    Ok(cache)
}

async fn reload(
    cache: &Cache,
    store: &dyn Store,
    table: &ResourceTable,
    observer: &dyn Observer,
) -> Result<(), StoreError> {
    let mut objects: HashMap<usize, Objects> = HashMap::new();
    let mut at = None;
    let mut after: Option<String> = None;
    let revision = loop {
        let page = store
            .list(keys::ROOT, at, after.as_deref(), Some(LOAD_PAGE))
            .await?;
        at = Some(page.revision);
        after = page.entries.last().map(|entry| entry.key.clone());
        for entry in &page.entries {
            if let Some((Slot(slot), path, object)) = decode(cache, table, entry) {
                objects.entry(slot).or_default().insert(path, object);
            }
        }
        if !page.more {
            break page.revision;
        }
    };
    cache.replace(objects, revision, observer);
    info!(revision, "cache loaded");
    Ok(())
}

/// Decodes a stored object. One that cannot be decoded is left out and told in the log: it must not take the other
/// objects down with it.
fn decode(cache: &Cache, table: &ResourceTable, entry: &Entry) -> Option<(Slot, Arc<str>, SharedObject)> {
    let (prefix, path) = keys::split(&entry.key)?;
    let slot = *cache.slots.get(prefix)?;
    let info = table.iter().nth(slot.0)?;
    match info.codec.decode(&entry.value, None) {
        Ok(object) => {
            let object = SharedObject::new(&entry.value, object, Revision(entry.mod_revision));
            Some((slot, path.into(), object))
        }
        Err(fault) => {
            error!(key = entry.key, revision = entry.mod_revision, %fault, "a stored object cannot be decoded");
            None
        }
    }
}

/// Keeps a cache fed.
pub(crate) struct Feed {
    pub(crate) cache: Arc<Cache>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) table: Arc<ResourceTable>,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Feed {
    /// Follows the store until `shutdown`. After a gap in what the store can tell, loads everything anew.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut retry = RETRY_FIRST;
        loop {
            let before = self.cache.revision();
            let ended = tokio::select! {
                () = shutdown.cancelled() => return,
                ended = self.follow() => ended,
            };
            if self.cache.revision() > before {
                retry = RETRY_FIRST;
            }
            match ended {
                Err(StoreError::Compacted { floor }) => {
                    warn!(
                        floor,
                        revision = self.cache.revision(),
                        "the feed fell behind the store's history"
                    );
                    let loaded = reload(
                        &self.cache,
                        self.store.as_ref(),
                        &self.table,
                        self.observer.as_ref(),
                    )
                    .await;
                    if let Err(error) = loaded {
                        warn!(
                            error = &error as &dyn std::error::Error,
                            "loading the cache anew failed"
                        );
                    }
                }
                Err(StoreError::Closed) | Ok(()) => {}
                Err(error) => warn!(
                    error = &error as &dyn std::error::Error,
                    "the store's watch ended"
                ),
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(retry) => retry = (retry * 2).min(RETRY_MOST),
            }
        }
    }

    async fn follow(&self) -> Result<(), StoreError> {
        let mut batches = self.store.watch(keys::ROOT, self.cache.revision()).await?;
        while let Some(batch) = batches.next().await {
            self.apply(batch?);
        }
        Ok(())
    }

    fn apply(&self, batch: WatchBatch) {
        let changes = batch
            .events
            .into_iter()
            .filter_map(|event| self.decode(event))
            .collect();
        self.cache.apply(changes, batch.revision, self.observer.as_ref());
    }

    fn decode(&self, event: Event) -> Option<(Slot, Applied)> {
        match event {
            Event::Put { entry, .. } => match decode(&self.cache, &self.table, &entry) {
                Some((slot, path, object)) => Some((slot, Applied::Put(path, object))),
                // Its former state must not be shown as the present one.
                None => self.removed(&entry.key, entry.mod_revision),
            },
            Event::Delete { key, revision, .. } => self.removed(&key, revision),
        }
    }

    fn removed(&self, key: &str, revision: u64) -> Option<(Slot, Applied)> {
        let (prefix, path) = keys::split(key)?;
        let slot = *self.cache.slots.get(prefix)?;
        Some((slot, Applied::Delete(path.into(), Revision(revision))))
    }
}

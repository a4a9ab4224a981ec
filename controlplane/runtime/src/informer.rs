//! Keeps a [`Store`] equal to what the server has, by list and watch.
//!
//! Flow: list everything (in pages of one revision), make the store equal to it, then watch from the list's revision.
//! When the watch ends it is resumed from the last revision seen (bookmarks advance it too); when that is too old (410)
//! the list begins anew, and only differences become changes. Failures back off with jitter and never empty the store.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use rand::Rng;
use skep_api::{ApiError, Object, ObjectExt, Revision, gvr_of};
use skep_client::{Client, ListOptions, ObjectList, WatchEvent, WatchOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::queue::{QueueItem, WorkQueue};
use crate::store::{Change, Index, Store};
use crate::subscription::{Shared, Subscription};

const PAGE_LIMIT: u32 = 500;
const BACKOFF_BASE: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// The server is asked to end a watch after so long, so that load spreads over servers again.
const WATCH_SECONDS: std::ops::Range<u32> = 300..600;
/// A watch from which nothing came for so long beyond that is dead.
const WATCH_GRACE: Duration = Duration::from_secs(30);

/// Which objects an informer sees. Two informers of one kind with equal options are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct InformerOptions {
    /// Only this namespace.
    pub namespace: Option<String>,
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
}

/// Says whether it wants to be told again.
type Handler<K> = Box<dyn Fn(&Change<K>) -> bool + Send + Sync>;

struct Inner<K: Object> {
    client: Client,
    options: InformerOptions,
    store: Store<K>,
    /// Held while a change is applied and told, so that every handler sees every change once and in order.
    handlers: Mutex<Vec<Handler<K>>>,
    /// Weak: dropping a subscription ends it.
    subscriptions: Mutex<Vec<Weak<Shared<K>>>>,
    synced: watch::Sender<bool>,
}

/// One kind's objects, kept current while [`run`](Self::run) runs. Cheap to clone; all clones are one.
pub struct Informer<K: Object> {
    inner: Arc<Inner<K>>,
}

impl<K: Object> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K: Object> fmt::Debug for Informer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informer")
            .field("kind", &K::KIND)
            .field("store", &self.inner.store)
            .finish()
    }
}

/// Why a round of list and watch ended.
enum Ended {
    /// The server closed the watch.
    Closed,
    /// The history after the last revision is gone, or never was: list again.
    Expired(ApiError),
    Failed(ApiError),
}

impl<K: Object> Informer<K> {
    /// An informer that does nothing until it runs. [`InformerSet`](crate::InformerSet) shares them.
    #[must_use]
    pub fn new(client: Client, options: InformerOptions) -> Self {
        let inner = Inner {
            client,
            options,
            store: Store::empty(),
            handlers: Mutex::default(),
            subscriptions: Mutex::default(),
            synced: watch::Sender::new(false),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// What the informer has seen.
    #[must_use]
    pub fn store(&self) -> Store<K> {
        self.inner.store.clone()
    }

    /// An index over the store; see [`Store::index`].
    pub fn index(&self, values_of: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Index<K> {
        self.inner.store.index(values_of)
    }

    /// Calls the handler for every change, in order, beginning with what is in the store as `Added`. The informer waits
    /// for the handler: it must be short, must not block, and must not register handlers.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.handle(Box::new(move |change| {
            handler(change);
            true
        }));
    }

    fn handle(&self, handler: Handler<K>) {
        let mut handlers = self.inner.handlers.lock();
        for object in self.inner.store.snapshot().values() {
            handler(&Change::Added(Arc::clone(object)));
        }
        handlers.push(handler);
    }

    /// The changes as an asynchronous sequence, beginning with what is in the store. Dropping it ends it.
    pub fn subscribe(&self) -> Subscription<K> {
        let shared = Shared::new();
        let weak = Arc::downgrade(&shared);
        let mut subscriptions = self.inner.subscriptions.lock();
        subscriptions.retain(|subscription| subscription.strong_count() > 0);
        subscriptions.push(Weak::clone(&weak));
        drop(subscriptions);
        self.handle(Box::new(move |change| {
            weak.upgrade().map(|shared| shared.push(change)).is_some()
        }));
        Subscription::new(shared)
    }

    /// Queues what every change concerns: `keys` is asked about the object before and after.
    pub fn feed<T: QueueItem>(
        &self,
        queue: &WorkQueue<T>,
        keys: impl Fn(&K) -> Vec<T> + Send + Sync + 'static,
    ) {
        let queue = queue.clone();
        self.on_change(move |change| {
            for object in [change.before(), change.after()].into_iter().flatten() {
                for key in keys(object) {
                    queue.add(key);
                }
            }
        });
    }

    /// Returns once the store has shown everything that existed when the informer began.
    pub async fn synced(&self) {
        let mut synced = self.inner.synced.subscribe();
        if synced.wait_for(|synced| *synced).await.is_err() {
            unreachable!("the sender lives in self");
        }
    }

    /// Whether the store has shown everything that existed when the informer began.
    #[must_use]
    pub fn has_synced(&self) -> bool {
        *self.inner.synced.borrow()
    }

    /// Keeps the store current until cancelled.
    pub async fn run(&self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.follow()).await;
        for subscription in self.inner.subscriptions.lock().drain(..) {
            if let Some(subscription) = subscription.upgrade() {
                subscription.close();
            }
        }
    }

    async fn follow(&self) {
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_MAX);
        let mut position = None;
        loop {
            let before = position;
            let ended = self.round(&mut position).await;
            if position > before {
                backoff.reset();
            }
            let resource = gvr_of::<K>().resource;
            match ended {
                Ended::Closed => tracing::debug!(%resource, "watch closed, resuming"),
                Ended::Expired(error) => {
                    tracing::info!(%resource, %error, "watch cannot be resumed, listing again");
                    position = None;
                }
                Ended::Failed(error) => {
                    tracing::warn!(%resource, %error, "list or watch failed, trying again")
                }
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// One list, if there is no position, and one watch.
    async fn round(&self, position: &mut Option<Revision>) -> Ended {
        let from = match *position {
            Some(from) => from,
            None => match self.list().await {
                Ok(list) => {
                    let revision = list.revision;
                    self.replace(list.items);
                    self.inner.synced.send_replace(true);
                    *position = Some(revision);
                    revision
                }
                Err(error) => return Ended::Failed(error),
            },
        };
        match self.watch(from, position).await {
            Ok(()) => Ended::Closed,
            Err(error) if error.is_gone() || error.is_too_large_resource_version() => Ended::Expired(error),
            Err(error) => Ended::Failed(error),
        }
    }

    /// Everything, in pages; whole if the pages' revision expires between them.
    async fn list(&self) -> Result<ObjectList<K>, ApiError> {
        match self.list_pages(Some(PAGE_LIMIT)).await {
            Err(error) if error.is_gone() => self.list_pages(None).await,
            result => result,
        }
    }

    async fn list_pages(&self, limit: Option<u32>) -> Result<ObjectList<K>, ApiError> {
        let InformerOptions {
            namespace,
            label_selector,
            field_selector,
        } = &self.inner.options;
        let mut options = ListOptions {
            label_selector: label_selector.clone(),
            field_selector: field_selector.clone(),
            limit,
            ..ListOptions::default()
        };
        let mut all: ObjectList<K> = self.inner.client.list(namespace.as_deref(), &options).await?;
        while let Some(token) = all.continue_token.take() {
            options.continue_token = Some(token);
            let page = self.inner.client.list(namespace.as_deref(), &options).await?;
            all.items.extend(page.items);
            all.continue_token = page.continue_token;
        }
        Ok(all)
    }

    async fn watch(&self, from: Revision, position: &mut Option<Revision>) -> Result<(), ApiError> {
        let InformerOptions {
            namespace,
            label_selector,
            field_selector,
        } = &self.inner.options;
        let seconds = rand::rng().random_range(WATCH_SECONDS);
        let options = WatchOptions {
            label_selector: label_selector.clone(),
            field_selector: field_selector.clone(),
            resource_version: Some(from),
            bookmarks: true,
            timeout_seconds: Some(seconds),
            send_initial_events: false,
        };
        let mut events = self
            .inner
            .client
            .watch::<K>(namespace.as_deref(), &options)
            .await?;
        let patience = Duration::from_secs(u64::from(seconds)) + WATCH_GRACE;
        loop {
            let Ok(event) = tokio::time::timeout(patience, events.next()).await else {
                tracing::warn!(resource = %gvr_of::<K>().resource, "watch fell silent");
                return Ok(());
            };
            let Some(event) = event.transpose()? else {
                return Ok(());
            };
            let revision = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let revision = object.resource_version();
                    self.apply(object, true);
                    revision
                }
                WatchEvent::Deleted(object) => {
                    let revision = object.resource_version();
                    self.apply(object, false);
                    revision
                }
                WatchEvent::Bookmark { revision, .. } => Some(revision),
            };
            *position = revision.max(*position);
        }
    }

    /// Makes the store equal to the list.
    fn replace(&self, items: Vec<Arc<K>>) {
        let keys: BTreeSet<_> = items.iter().map(|object| object.key()).collect();
        for (key, object) in self.inner.store.snapshot() {
            if !keys.contains(&key) {
                self.apply(object, false);
            }
        }
        for object in items {
            let known = self.inner.store.get(&object.key());
            if known
                .is_none_or(|known| known.metadata().resource_version != object.metadata().resource_version)
            {
                self.apply(object, true);
            }
        }
    }

    fn apply(&self, object: Arc<K>, exists: bool) {
        let mut handlers = self.inner.handlers.lock();
        let old = self
            .inner
            .store
            .set(&object.key(), exists.then(|| Arc::clone(&object)));
        let change = match (old, exists) {
            (None, true) => Change::Added(object),
            (Some(old), true) => Change::Updated(old, object),
            (Some(_), false) => Change::Deleted(object),
            (None, false) => return,
        };
        handlers.retain(|handler| handler(&change));
    }
}

#[cfg(test)]
mod tests;

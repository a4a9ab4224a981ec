//! Changes of a store as an asynchronous sequence. Changes of one object that nobody has taken yet are merged, so that a
//! slow reader holds at most one change per object, and never slows the informer.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use skep_api::{Object, ObjectExt, ObjectKey};
use tokio::sync::Notify;

use crate::Change;

struct Pending<K> {
    /// In the order of each object's first untaken change; keys whose change was cancelled may be absent from `changes`.
    order: VecDeque<ObjectKey>,
    changes: HashMap<ObjectKey, Change<K>>,
    closed: bool,
}

pub(crate) struct Shared<K> {
    pending: Mutex<Pending<K>>,
    notify: Notify,
}

impl<K: Object> Shared<K> {
    pub(crate) fn new() -> Arc<Self> {
        let pending = Pending {
            order: VecDeque::new(),
            changes: HashMap::new(),
            closed: false,
        };
        Arc::new(Self {
            pending: Mutex::new(pending),
            notify: Notify::new(),
        })
    }

    pub(crate) fn push(&self, change: &Change<K>) {
        let key = change.object().key();
        let mut pending = self.pending.lock();
        let merged = match pending.changes.remove(&key) {
            None => {
                pending.order.push_back(key.clone());
                Some(change.clone())
            }
            Some(earlier) => merge(&earlier, change),
        };
        if let Some(merged) = merged {
            pending.changes.insert(key, merged);
        } else {
            pending.order.retain(|other| *other != key);
        }
        drop(pending);
        self.notify.notify_one();
    }

    pub(crate) fn close(&self) {
        self.pending.lock().closed = true;
        self.notify.notify_one();
    }
}

/// Two changes of one object as one; none when they cancel each other.
fn merge<K>(earlier: &Change<K>, later: &Change<K>) -> Option<Change<K>> {
    let object = |object: &Arc<K>| Arc::clone(object);
    match (earlier.before(), later.after()) {
        (None, None) => None,
        (None, Some(new)) => Some(Change::Added(object(new))),
        (Some(old), Some(new)) => Some(Change::Updated(object(old), object(new))),
        (Some(_), None) => Some(Change::Deleted(object(later.object()))),
    }
}

/// The changes of one informer's store, from its state at the subscription (as `Added`) on.
pub struct Subscription<K> {
    shared: Arc<Shared<K>>,
}

impl<K> fmt::Debug for Subscription<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("pending", &self.shared.pending.lock().changes.len())
            .finish()
    }
}

impl<K: Object> Subscription<K> {
    pub(crate) fn new(shared: Arc<Shared<K>>) -> Self {
        Self { shared }
    }

    /// The next change; none when the informer has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Change<K>> {
        loop {
            let shared = Arc::clone(&self.shared);
            let notified = shared.notify.notified();
            if let Some(change) = self.try_next() {
                return Some(change);
            }
            if shared.pending.lock().closed {
                return None;
            }
            notified.await;
        }
    }

    /// The next change that is there already.
    pub fn try_next(&mut self) -> Option<Change<K>> {
        let mut pending = self.shared.pending.lock();
        let key = pending.order.pop_front()?;
        pending.changes.remove(&key)
    }
}

//! A work queue as controllers need it.
//!
//! Guarantees: an item is in work at most once at a time; an item added while it is in work is handed out again
//! afterwards; nothing added is lost; items added many times before they are taken are taken once.
//! Bounded by the number of distinct items.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backoff::exponential;
use crate::queue_metrics::{QueueMeters, WorkQueueMetrics};

/// What can be queued: usually an `ObjectKey`.
pub trait QueueItem: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static {}

impl<T: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static> QueueItem for T {}

/// Delays come from the API too (grace periods): longer ones would leave the clock's range, and an item that comes early
/// is only looked at in vain.
const LONGEST_DELAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// How failures of one item are spaced: `base_delay · 2^failures`, at most `max_delay`.
#[derive(Clone, Debug)]
pub struct WorkQueueOptions {
    pub base_delay: Duration,
    pub max_delay: Duration,
    pub metrics: Option<WorkQueueMetrics>,
}

impl Default for WorkQueueOptions {
    fn default() -> Self {
        Self {
            base_delay: Duration::from_millis(5),
            max_delay: Duration::from_secs(60),
            metrics: None,
        }
    }
}

struct State<T> {
    ready: VecDeque<T>,
    /// What is to be done: in `ready`, or waiting for the end of its present work. With the time it was added.
    dirty: HashMap<T, Instant>,
    in_work: HashSet<T>,
    /// When each delayed item is due; entries of `timers` that disagree are stale.
    due: HashMap<T, Instant>,
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    timer_items: HashMap<u64, T>,
    next_timer: u64,
    failures: HashMap<T, u32>,
    shut_down: bool,
}

struct Inner<T> {
    name: String,
    options: WorkQueueOptions,
    meters: Option<QueueMeters>,
    state: Mutex<State<T>>,
    /// One permit is enough: whoever takes an item and leaves others wakes the next.
    notify: Notify,
}

/// The queue. Cheap to clone; all clones are one.
pub struct WorkQueue<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T> fmt::Debug for WorkQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.state.lock();
        f.debug_struct("WorkQueue")
            .field("name", &self.inner.name)
            .field("ready", &state.ready.len())
            .field("in_work", &state.in_work.len())
            .field("delayed", &state.due.len())
            .finish()
    }
}

impl<T: QueueItem> WorkQueue<T> {
    /// An empty queue; the name is for logs and metrics.
    #[must_use]
    pub fn new(name: &str, options: WorkQueueOptions) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashMap::new(),
            in_work: HashSet::new(),
            due: HashMap::new(),
            timers: BinaryHeap::new(),
            timer_items: HashMap::new(),
            next_timer: 0,
            failures: HashMap::new(),
            shut_down: false,
        };
        let meters = options.metrics.as_ref().map(|metrics| metrics.queue(name));
        let inner = Inner {
            name: name.to_owned(),
            options,
            meters,
            state: Mutex::new(state),
            notify: Notify::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Items that could be taken now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.state.lock().ready.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// To be done as soon as a worker is free.
    pub fn add(&self, item: T) {
        let mut state = self.inner.state.lock();
        self.add_locked(&mut state, item);
    }

    fn add_locked(&self, state: &mut State<T>, item: T) {
        if state.shut_down || state.dirty.contains_key(&item) {
            return;
        }
        state.dirty.insert(item.clone(), Instant::now());
        if let Some(meters) = &self.inner.meters {
            meters.added();
        }
        if !state.in_work.contains(&item) {
            state.ready.push_back(item);
            self.measure(state);
            self.inner.notify.notify_one();
        }
    }

    /// To be done after the delay, or when the item is due anyway, whichever is sooner.
    pub fn add_after(&self, item: T, delay: Duration) {
        let mut state = self.inner.state.lock();
        if delay.is_zero() {
            return self.add_locked(&mut state, item);
        }
        let at = Instant::now() + delay.min(LONGEST_DELAY);
        if state.shut_down || state.due.get(&item).is_some_and(|due| *due <= at) {
            return;
        }
        state.due.insert(item.clone(), at);
        let timer = state.next_timer;
        state.next_timer += 1;
        state.timers.push(Reverse((at, timer)));
        state.timer_items.insert(timer, item);
        drop(state);
        self.inner.notify.notify_one();
    }

    /// To be done again after a delay that doubles with each call until [`forget`](Self::forget).
    pub fn add_rate_limited(&self, item: T) {
        let failures = {
            let mut state = self.inner.state.lock();
            let failures = state.failures.entry(item.clone()).or_default();
            *failures += 1;
            *failures - 1
        };
        if let Some(meters) = &self.inner.meters {
            meters.retried();
        }
        let delay = exponential(
            self.inner.options.base_delay,
            self.inner.options.max_delay,
            failures,
        );
        self.add_after(item, delay);
    }

    /// The item went well: its next failure waits the shortest delay again.
    pub fn forget(&self, item: &T) {
        self.inner.state.lock().failures.remove(item);
    }

    /// How often the item has failed since it was last forgotten.
    #[must_use]
    pub fn failures(&self, item: &T) -> u32 {
        self.inner.state.lock().failures.get(item).copied().unwrap_or(0)
    }

    /// Waits for an item and takes it into work, until the returned guard is dropped. None once the queue is shut down.
    /// Safe to cancel.
    pub async fn next(&self) -> Option<Taken<T>> {
        loop {
            let notified = self.inner.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let wake_at = {
                let mut state = self.inner.state.lock();
                if state.shut_down {
                    self.inner.notify.notify_one();
                    return None;
                }
                self.promote_due(&mut state);
                if let Some(item) = self.take(&mut state) {
                    return Some(item);
                }
                state.timers.peek().map(|Reverse((at, _))| *at)
            };
            match wake_at {
                Some(at) => {
                    tokio::select! {
                        () = notified => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => notified.await,
            }
        }
    }

    fn take(&self, state: &mut State<T>) -> Option<Taken<T>> {
        let item = state.ready.pop_front()?;
        let waited = state.dirty.remove(&item).map(|added| added.elapsed());
        state.in_work.insert(item.clone());
        // Others may be ready, or due before anyone else wakes.
        if !state.ready.is_empty() || !state.timers.is_empty() {
            self.inner.notify.notify_one();
        }
        if let (Some(meters), Some(waited)) = (&self.inner.meters, waited) {
            meters.waited(waited);
        }
        self.measure(state);
        Some(Taken {
            queue: self.clone(),
            item,
            since: Instant::now(),
        })
    }

    fn promote_due(&self, state: &mut State<T>) {
        let now = Instant::now();
        while let Some(Reverse((at, timer))) = state.timers.peek().copied() {
            let Some(item) = state.timer_items.get(&timer) else {
                state.timers.pop();
                continue;
            };
            let current = state.due.get(item) == Some(&at);
            if current && at > now {
                break;
            }
            state.timers.pop();
            if let Some(item) = state.timer_items.remove(&timer)
                && current
            {
                state.due.remove(&item);
                self.add_locked(state, item);
            }
        }
    }

    fn done(&self, item: &T, since: Instant) {
        let mut state = self.inner.state.lock();
        state.in_work.remove(item);
        if let Some(meters) = &self.inner.meters {
            meters.worked(since.elapsed());
        }
        if state.dirty.contains_key(item) && !state.shut_down {
            state.ready.push_back(item.clone());
            self.measure(&state);
            self.inner.notify.notify_one();
        }
    }

    fn measure(&self, state: &State<T>) {
        if let Some(meters) = &self.inner.meters {
            meters.depth(state.ready.len());
        }
    }

    /// Ends the queue: waiting takers get none, further items are ignored.
    pub fn shut_down(&self) {
        let mut state = self.inner.state.lock();
        state.shut_down = true;
        state.ready.clear();
        state.dirty.clear();
        state.due.clear();
        state.timers.clear();
        state.timer_items.clear();
        self.measure(&state);
        self.inner.notify.notify_one();
    }
}

/// An item in work. Dropping it ends the work.
pub struct Taken<T: QueueItem> {
    queue: WorkQueue<T>,
    item: T,
    since: Instant,
}

impl<T: QueueItem> Deref for Taken<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: QueueItem> fmt::Debug for Taken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Taken").field(&self.item).finish()
    }
}

impl<T: QueueItem> Drop for Taken<T> {
    fn drop(&mut self) {
        self.queue.done(&self.item, self.since);
    }
}

#[cfg(test)]
mod tests;

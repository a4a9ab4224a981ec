//! What a recorder remembers: the events that it has written, and how much each object has caused. Both are bounded;
//! when full, the oldest entries go.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use skep_api::ObjectKey;
use tokio::time::Instant;

use super::{EventType, Record, regarding_key};

/// Entries that each memory holds.
const CAPACITY: usize = 4096;
/// Events that one object may cause at once …
pub(super) const SPAM_BURST: f64 = 25.0;
/// … and how long it takes until it may cause one more.
pub(super) const SPAM_REFILL: Duration = Duration::from_secs(300);

type Regarding = (String, ObjectKey, String);
type Sameness = (Regarding, Option<String>, EventType, String, String);

/// An event that was written.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) key: ObjectKey,
    pub(super) count: i32,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

struct Bounded<K, V> {
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
            if self.order.len() > CAPACITY
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Cache {
    seen: Bounded<Sameness, Seen>,
    buckets: Bounded<Regarding, Bucket>,
    serial: u64,
}

fn sameness(record: &Record) -> Sameness {
    (
        regarding_key(&record.regarding),
        record.regarding.field_path.clone(),
        record.kind,
        record.reason.clone(),
        record.message.clone(),
    )
}

impl Cache {
    /// Whether the object may cause one more event now.
    pub(super) fn admit(&mut self, record: &Record) -> bool {
        let now = Instant::now();
        let key = regarding_key(&record.regarding);
        let mut tokens = self.buckets.entries.get(&key).map_or(SPAM_BURST, |bucket| {
            let refilled = (now - bucket.at).as_secs_f64() / SPAM_REFILL.as_secs_f64();
            (bucket.tokens + refilled).min(SPAM_BURST)
        });
        let admitted = tokens >= 1.0;
        if admitted {
            tokens -= 1.0;
        }
        self.buckets.insert(key, Bucket { tokens, at: now });
        admitted
    }

    pub(super) fn seen(&self, record: &Record) -> Option<Seen> {
        self.seen.entries.get(&sameness(record)).cloned()
    }

    pub(super) fn remember(&mut self, record: &Record, seen: Seen) {
        self.seen.insert(sameness(record), seen);
    }

    /// Tells events of one nanosecond apart.
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

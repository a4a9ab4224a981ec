//! Records what happened to objects as core/v1 Events.
//!
//! A recorder never blocks and never fails its caller: events wait in a bounded queue, and what does not fit is dropped
//! and counted. The task that [`EventRecorder::run`] runs writes them: an event that repeats (same object, type, reason,
//! message) raises the count of the one that is there; an object that causes a stream of them is cut down to
//! 25 at once and one per five minutes after that, as upstream does.

mod cache;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource as CoreEventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use parking_lot::Mutex;
use serde_json::json;
use skep_api::{ApiError, Object, ObjectExt, ObjectKey};
use skep_client::{Client, Patch, is_unreachable};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Backoff;
use cache::{Cache, Seen};

/// Events that wait to be written.
const QUEUE_CAPACITY: usize = 1024;
/// Attempts to write one event while the server cannot be reached.
const MAX_ATTEMPTS: u32 = 8;
/// After a cancellation, how long the rest may still be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether an event is worth a person's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Who records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSource {
    /// `default-scheduler`, `kubelet`, …
    pub component: String,
    /// The node, for components that run on one.
    pub host: Option<String>,
}

#[derive(Clone, Debug)]
struct Record {
    regarding: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
    at: Timestamp,
}

struct Inner {
    sender: mpsc::Sender<Record>,
    receiver: Mutex<Option<mpsc::Receiver<Record>>>,
    dropped: AtomicU64,
    source: EventSource,
    client: Client,
}

/// Takes events. Cheap to clone; all clones are one. Nothing is written unless [`run`](Self::run) runs.
#[derive(Clone)]
pub struct EventRecorder {
    inner: Arc<Inner>,
}

impl fmt::Debug for EventRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventRecorder")
            .field("source", &self.inner.source)
            .finish_non_exhaustive()
    }
}

/// The reference to an object that an event is about.
pub fn object_reference<K: Object>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

impl EventRecorder {
    #[must_use]
    pub fn new(client: Client, source: EventSource) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
        let receiver = Mutex::new(Some(receiver));
        Self {
            inner: Arc::new(Inner {
                sender,
                receiver,
                dropped: AtomicU64::new(0),
                source,
                client,
            }),
        }
    }

    /// Records an event about an object.
    pub fn event<K: Object>(&self, object: &K, kind: EventType, reason: &str, message: impl Into<String>) {
        self.event_about(object_reference(object), kind, reason, message);
    }

    /// Records an event about what the reference names (a container of a pod by its `field_path`).
    pub fn event_about(
        &self,
        regarding: ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let record = Record {
            regarding,
            kind,
            reason: reason.to_owned(),
            message: message.into(),
            at: Timestamp::now(),
        };
        if self.inner.sender.try_send(record).is_err() {
            self.inner.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events did not fit into the queue.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inner.dropped.load(Ordering::Relaxed)
    }

    /// Writes events until cancelled, then what is queued, for at most two seconds. Only the first call does.
    pub async fn run(&self, shutdown: CancellationToken) {
        let Some(mut receiver) = self.inner.receiver.lock().take() else {
            return;
        };
        let mut cache = Cache::default();
        while let Some(Some(record)) = shutdown.run_until_cancelled(receiver.recv()).await {
            // Not cut short: an event that is being written is written once.
            self.write(&mut cache, record, &shutdown).await;
        }
        let flush = async {
            while let Ok(record) = receiver.try_recv() {
                self.write(&mut cache, record, &shutdown).await;
            }
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, flush).await.is_err() {
            tracing::warn!("events were left unwritten");
        }
    }

    async fn write(&self, cache: &mut Cache, record: Record, shutdown: &CancellationToken) {
        if !cache.admit(&record) {
            return;
        }
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
        for _ in 0..MAX_ATTEMPTS {
            let Err(error) = self.write_once(cache, &record).await else {
                return;
            };
            tracing::debug!(reason = record.reason, %error, "event not written");
            if !is_unreachable(&error) || shutdown.is_cancelled() {
                return;
            }
            shutdown
                .run_until_cancelled(tokio::time::sleep(backoff.next_delay()))
                .await;
        }
    }

    async fn write_once(&self, cache: &mut Cache, record: &Record) -> Result<(), ApiError> {
        if let Some(seen) = cache.seen(record) {
            match self.count_up(&seen, record).await {
                Ok(()) => {
                    cache.remember(
                        record,
                        Seen {
                            count: seen.count + 1,
                            ..seen
                        },
                    );
                    return Ok(());
                }
                // Its time to live is over.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let event = self.new_event(record, cache.next_serial());
        let created = self.inner.client.create(&event).await?;
        cache.remember(
            record,
            Seen {
                key: created.key(),
                count: 1,
            },
        );
        Ok(())
    }

    async fn count_up(&self, seen: &Seen, record: &Record) -> Result<(), ApiError> {
        let patch = Patch::merge(&json!({ "count": seen.count + 1, "lastTimestamp": Time(record.at) }))?;
        self.inner
            .client
            .patch::<Event>(&seen.key, &patch)
            .await
            .map(drop)
    }

    fn new_event(&self, record: &Record, serial: u64) -> Event {
        let name = record.regarding.name.as_deref().unwrap_or_default();
        let namespace = record
            .regarding
            .namespace
            .clone()
            .filter(|namespace| !namespace.is_empty());
        let time = Some(Time(record.at));
        let unique = record.at.as_nanosecond().unsigned_abs() + u128::from(serial);
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{unique:x}")),
                namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            count: Some(1),
            first_timestamp: time.clone(),
            last_timestamp: time,
            involved_object: record.regarding.clone(),
            message: Some(record.message.clone()),
            reason: Some(record.reason.clone()),
            type_: Some(record.kind.as_str().to_owned()),
            reporting_component: Some(self.inner.source.component.clone()),
            reporting_instance: self.inner.source.host.clone(),
            source: Some(CoreEventSource {
                component: Some(self.inner.source.component.clone()),
                host: self.inner.source.host.clone(),
            }),
            ..Event::default()
        }
    }
}

/// The object that an event is about.
fn regarding_key(reference: &ObjectReference) -> (String, ObjectKey, String) {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let key = ObjectKey {
        namespace: text(&reference.namespace),
        name: text(&reference.name),
    };
    (text(&reference.kind), key, text(&reference.uid))
}

#[cfg(test)]
mod tests;

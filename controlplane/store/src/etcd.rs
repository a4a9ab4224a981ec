//! The engine over an etcd cluster, through etcd's v3 interface.
//!
//! Keys lie under `<prefix>data/`. Conditions are checked by etcd's transactions. One watch over the whole prefix feeds
//! all watchers (`feed`), so that every one of them learns promptly how far it is: etcd tells a quiet watch nothing for
//! minutes, and its progress on request can overtake events in versions that are in use (etcd issue 15220).

mod connect;
mod feed;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::hub::{Hub, follow};
use crate::store::check_size;
use crate::{Entry, Listing, Store, StoreError, Watch};
use feed::{Feed, WatchHistory};
use wire::pb::response_op::Response;
use wire::pb::{Compare, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use wire::{Wire, compare, operation};

pub use connect::EtcdTls;

/// Entries that one request of a list asks for.
const PAGE: usize = 500;
/// How long a compaction waits for the feed.
const FEED_LIMIT: Duration = Duration::from_secs(5);

/// Which etcd cluster, and where in it.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// `http://host:port` or `https://host:port`; several for one cluster. A connection goes to the first that answers.
    pub endpoints: Vec<String>,
    /// Every key of this store begins with it in etcd, such as `/skep/`.
    pub prefix: String,
    /// Needed when the endpoints are `https`.
    pub tls: Option<EtcdTls>,
    /// Longest time that one request may take.
    pub timeout: Duration,
    /// How long history is kept at least; `None` leaves compaction to the cluster.
    pub history: Option<Duration>,
    /// Batches that may wait for one watcher before it is ended.
    pub watch_buffer: usize,
}

impl EtcdConfig {
    /// The defaults for a cluster at these endpoints: prefix `/skep/`, history of 5 minutes.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            prefix: "/skep/".to_owned(),
            tls: None,
            timeout: Duration::from_secs(10),
            history: Some(Duration::from_secs(300)),
            watch_buffer: 1024,
        }
    }
}

/// A store in etcd. Dropping it ends its watches and its connection.
pub struct EtcdStore {
    wire: Wire,
    hub: Arc<Hub>,
    feed: Feed,
    /// Feed and compaction; aborted with the store.
    _tasks: JoinSet<()>,
}

impl EtcdStore {
    /// Connects, makes sure that the cluster takes writes, and starts the feed.
    ///
    /// # Errors
    /// [`StoreError::Config`] for endpoints or certificates that cannot work, [`StoreError::Unavailable`].
    pub async fn connect(config: EtcdConfig) -> Result<Self, StoreError> {
        let channel = connect::channel(&config.endpoints, config.tls.as_ref())?;
        let wire = Wire::new(channel, config.prefix, config.timeout);
        // The feed begins at a change of our own: history can always be read up to where it stands.
        let revision = wire.mark().await?;
        let hub = Arc::new(Hub::new(revision, config.watch_buffer));
        let feed = Feed::new(wire.clone(), hub.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(feed.clone().run());
        if let Some(history) = config.history {
            tasks.spawn(compact_by_age(wire.clone(), history));
        }
        Ok(Self {
            wire,
            hub,
            feed,
            _tasks: tasks,
        })
    }

    /// Runs `then` if `conditions` hold, else reads the key.
    async fn transact(
        &self,
        key: &str,
        conditions: Vec<Compare>,
        then: RequestOp,
    ) -> Result<Result<TxnResponse, Option<Entry>>, StoreError> {
        let read = operation::range(RangeRequest {
            key: self.wire.key(key),
            ..Default::default()
        });
        let request = TxnRequest {
            compare: conditions,
            success: vec![then],
            failure: vec![read],
        };
        let response = self.wire.txn(request).await?;
        if response.succeeded {
            return Ok(Ok(response));
        }
        let Some(Response::ResponseRange(range)) = wire::first_response(response) else {
            return Err(wire::unexpected("a transaction without its read"));
        };
        Ok(Err(range
            .kvs
            .into_iter()
            .next()
            .map(|kv| self.wire.entry(kv))
            .transpose()?))
    }

    /// What a list or watch at `revision`, out of etcd's range, is told.
    async fn out_of_range(&self, requested: u64) -> StoreError {
        match self.wire.revision().await {
            Ok(current) if requested > current => StoreError::FutureRevision { requested, current },
            Ok(_) => match self.wire.floor().await {
                Ok(floor) => StoreError::Compacted { floor },
                Err(error) => error,
            },
            Err(error) => error,
        }
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.hub.close();
    }
}

fn refusal(current: Option<Entry>) -> StoreError {
    match current {
        None => StoreError::NotFound,
        Some(current) => StoreError::Conflict {
            current: Box::new(current),
        },
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<(Option<Entry>, u64), StoreError> {
        let request = RangeRequest {
            key: self.wire.key(key),
            ..Default::default()
        };
        let response = self.wire.range(request).await?;
        let revision = wire::revision_of(response.header.as_ref())?;
        let entry = response
            .kvs
            .into_iter()
            .next()
            .map(|kv| self.wire.entry(kv))
            .transpose()?;
        Ok((entry, revision))
    }

    async fn list(
        &self,
        prefix: &str,
        at: Option<u64>,
        start_after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Listing, StoreError> {
        let limit = limit.unwrap_or(usize::MAX);
        let mut start = match start_after {
            Some(key) if key >= prefix => self.wire.after(key),
            _ => self.wire.key(prefix),
        };
        let mut listing = Listing {
            entries: Vec::new(),
            revision: at.unwrap_or(0),
            more: true,
        };
        while listing.more && (listing.entries.len() < limit || listing.revision == 0) {
            let request = RangeRequest {
                key: start,
                range_end: self.wire.end(prefix),
                // At least one, to learn whether more follow and at which revision.
                limit: wire::signed((limit - listing.entries.len()).clamp(1, PAGE) as u64)?,
                revision: wire::signed(listing.revision)?,
            };
            let response = match self.wire.range(request).await {
                Err(error) if wire::is_out_of_range(&error) => {
                    return Err(self.out_of_range(listing.revision).await);
                }
                response => response?,
            };
            if listing.revision == 0 {
                listing.revision = wire::revision_of(response.header.as_ref())?;
            }
            listing.more = response.more;
            for kv in response.kvs {
                listing.entries.push(self.wire.entry(kv)?);
            }
            start = match listing.entries.last() {
                Some(last) => self.wire.after(&last.key),
                None => break,
            };
        }
        if listing.entries.len() > limit {
            listing.entries.truncate(limit);
            listing.more = true;
        }
        Ok(listing)
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, StoreError> {
        check_size(key, &value)?;
        let key_bytes = self.wire.key(key);
        let put = operation::put(key_bytes.clone(), value);
        match self.transact(key, vec![compare::missing(key_bytes)], put).await? {
            Ok(response) => wire::revision_of(response.header.as_ref()),
            Err(Some(current)) => Err(StoreError::AlreadyExists {
                revision: current.mod_revision,
            }),
            Err(None) => Err(wire::unexpected("a key that neither exists nor is missing")),
        }
    }

    async fn compare_and_swap(&self, key: &str, expected: u64, value: Bytes) -> Result<u64, StoreError> {
        check_size(key, &value)?;
        let key_bytes = self.wire.key(key);
        let conditions = compare::at_revision(&key_bytes, expected)?;
        let put = operation::put(key_bytes, value);
        match self.transact(key, conditions, put).await? {
            Ok(response) => wire::revision_of(response.header.as_ref()),
            Err(current) => Err(refusal(current)),
        }
    }

    async fn delete(&self, key: &str, expected: Option<u64>) -> Result<(u64, Entry), StoreError> {
        let key_bytes = self.wire.key(key);
        let conditions = match expected {
            Some(expected) => compare::at_revision(&key_bytes, expected)?,
            None => vec![compare::exists(key_bytes.clone())],
        };
        let response = match self
            .transact(key, conditions, operation::delete(key_bytes))
            .await?
        {
            Ok(response) => response,
            Err(current) => return Err(refusal(current)),
        };
        let revision = wire::revision_of(response.header.as_ref())?;
        let Some(Response::ResponseDeleteRange(deleted)) = wire::first_response(response) else {
            return Err(wire::unexpected("a transaction without its deletion"));
        };
        let entry = deleted
            .prev_kvs
            .into_iter()
            .next()
            .map(|kv| self.wire.entry(kv))
            .transpose()?;
        Ok((
            revision,
            entry.ok_or_else(|| wire::unexpected("a deletion without the last value"))?,
        ))
    }

    async fn watch(&self, prefix: &str, from: u64) -> Result<Watch, StoreError> {
        if from > self.hub.published() {
            // Perhaps only the feed is behind.
            let current = self.revision().await?;
            if from > current {
                return Err(StoreError::FutureRevision {
                    requested: from,
                    current,
                });
            }
        }
        let history = Arc::new(WatchHistory::new(self.wire.clone()));
        Ok(Watch::new(follow(
            self.hub.clone(),
            history,
            prefix.to_owned(),
            from,
        )))
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        let current = self.wire.revision().await?;
        if revision > current {
            return Err(StoreError::FutureRevision {
                requested: revision,
                current,
            });
        }
        // Our own watchers must not lose what they have not been fed yet.
        self.feed.want(revision);
        if tokio::time::timeout(FEED_LIMIT, self.hub.reached(revision))
            .await
            .is_err()
        {
            tracing::warn!(
                revision,
                "the feed is far behind and may have to start over after this compaction"
            );
        }
        match self.wire.compact(revision).await {
            // It was compacted further already.
            Err(error) if wire::is_out_of_range(&error) => Ok(()),
            done => done,
        }
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        let revision = self.wire.revision().await?;
        self.feed.want(revision);
        Ok(revision)
    }
}

/// Compacts to where the store was one history ago, again and again. Several servers may do so.
async fn compact_by_age(wire: Wire, history: Duration) {
    let mut old = None;
    loop {
        let now = match wire.revision().await {
            Ok(revision) => Some(revision),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "reading the revision to compact to failed"
                );
                None
            }
        };
        if let Some(revision) = old {
            match wire.compact(revision).await {
                Err(error) if !wire::is_out_of_range(&error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        revision,
                        "compaction failed"
                    );
                }
                _ => tracing::debug!(revision, "compacted"),
            }
        }
        old = now;
        tokio::time::sleep(history).await;
    }
}

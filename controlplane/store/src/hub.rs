//! Feeds watchers from one ordered source of changes.
//!
//! An engine publishes every durable change once, in revision order. Each watcher has a bounded buffer; one that does
//! not keep up is ended. A watch from an older revision first reads history in pieces, at its own pace, and joins the
//! live feed under the hub's lock when little is left: so there is neither a gap nor a repetition.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::{Event, StoreError, WatchBatch};

/// How far (in revisions) a watcher may be from the live feed to join it.
pub(crate) const JOIN_DISTANCE: u64 = 512;
/// Least time between two batches that only tell progress.
const PROGRESS_GAP: Duration = Duration::from_millis(2);

/// Where an engine's past changes are read.
#[async_trait]
pub(crate) trait History: Send + Sync + 'static {
    /// A piece of the changes under `prefix` with `after < revision <= upto`: as many as are handy, at least one
    /// revision further. The batch's revision says how far it goes.
    async fn read(&self, prefix: &str, after: u64, upto: u64) -> Result<WatchBatch, StoreError>;
}

/// Why the hub ended a watcher.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Lagged,
    Compacted { floor: u64 },
    Closed,
}

impl From<End> for StoreError {
    fn from(end: End) -> Self {
        match end {
            End::Lagged => Self::Lagged,
            End::Compacted { floor } => Self::Compacted { floor },
            End::Closed => Self::Closed,
        }
    }
}

struct Watcher {
    prefix: String,
    batches: mpsc::Sender<WatchBatch>,
    end: Arc<OnceLock<End>>,
}

struct State {
    published: u64,
    watchers: Vec<Watcher>,
    closed: bool,
}

impl State {
    fn end_watchers(&mut self, end: End) {
        for watcher in self.watchers.drain(..) {
            watcher.end.get_or_init(|| end);
        }
    }
}

/// The live feed of one engine.
pub(crate) struct Hub {
    state: Mutex<State>,
    progress: watch::Sender<u64>,
    buffer: usize,
}

struct Subscription {
    start: u64,
    batches: mpsc::Receiver<WatchBatch>,
    progress: watch::Receiver<u64>,
    end: Arc<OnceLock<End>>,
}

impl Hub {
    /// A feed whose next change comes after `revision`; each watcher may have `buffer` batches waiting.
    pub(crate) fn new(revision: u64, buffer: usize) -> Self {
        Self {
            state: Mutex::new(State {
                published: revision,
                watchers: Vec::new(),
                closed: false,
            }),
            progress: watch::Sender::new(revision),
            buffer,
        }
    }

    /// Hands durable changes to the watchers. `revision` is the last one that they reach.
    pub(crate) fn publish(&self, events: &[Event], revision: u64) {
        let mut state = self.state.lock();
        if revision <= state.published {
            return;
        }
        state.watchers.retain(|watcher| {
            let events: Vec<Event> = events
                .iter()
                .filter(|event| event.key().starts_with(&watcher.prefix))
                .cloned()
                .collect();
            if events.is_empty() {
                return !watcher.batches.is_closed();
            }
            match watcher.batches.try_send(WatchBatch { events, revision }) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    watcher.end.get_or_init(|| End::Lagged);
                    false
                }
            }
        });
        state.published = revision;
        drop(state);
        // After the batches: whoever sees this revision has them all in its buffer.
        self.progress.send_replace(revision);
    }

    /// The last revision that was published.
    pub(crate) fn published(&self) -> u64 {
        self.state.lock().published
    }

    /// Waits until changes up to `revision` have been published.
    pub(crate) async fn reached(&self, revision: u64) {
        // Fails only when this hub, which is borrowed here, is gone.
        drop(
            self.progress
                .subscribe()
                .wait_for(|published| *published >= revision)
                .await,
        );
    }

    /// Ends every watcher: there is nothing more to publish.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.end_watchers(End::Closed);
        state.closed = true;
    }

    /// Ends every watcher there is now, as changes up to `floor` cannot be had, and goes on after `revision`.
    pub(crate) fn restart(&self, floor: u64, revision: u64) {
        let mut state = self.state.lock();
        state.end_watchers(End::Compacted { floor });
        state.published = state.published.max(revision);
        let published = state.published;
        drop(state);
        self.progress.send_replace(published);
    }

    fn subscribe(&self, prefix: &str) -> Result<Subscription, StoreError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        let (sender, batches) = mpsc::channel(self.buffer);
        let end = Arc::new(OnceLock::new());
        state.watchers.push(Watcher {
            prefix: prefix.to_owned(),
            batches: sender,
            end: end.clone(),
        });
        Ok(Subscription {
            start: state.published,
            batches,
            progress: self.progress.subscribe(),
            end,
        })
    }
}

/// The changes under `prefix` after `from`: history first, then live.
pub(crate) fn follow(
    hub: Arc<Hub>,
    history: Arc<dyn History>,
    prefix: String,
    from: u64,
) -> impl Stream<Item = Result<WatchBatch, StoreError>> + Send + 'static {
    let follower = Follower {
        hub,
        history,
        prefix,
        cursor: from,
        live: None,
        greeted: false,
        last_progress: None,
    };
    futures::stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Ok(batch) => Some((Ok(batch), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

struct Follower {
    hub: Arc<Hub>,
    history: Arc<dyn History>,
    prefix: String,
    /// Everything up to here has been given out.
    cursor: u64,
    live: Option<Subscription>,
    /// Whether something was given out: the first batch comes at once, to tell where the watch stands.
    greeted: bool,
    last_progress: Option<Instant>,
}

impl Follower {
    async fn next(&mut self) -> Result<WatchBatch, StoreError> {
        loop {
            if self.live.is_none() && self.hub.published().saturating_sub(self.cursor) <= JOIN_DISTANCE {
                self.live = Some(self.hub.subscribe(&self.prefix)?);
            }
            let upto = self
                .live
                .as_ref()
                .map_or_else(|| self.hub.published(), |live| live.start);
            if self.cursor < upto {
                let batch = self.history.read(&self.prefix, self.cursor, upto).await?;
                self.cursor = batch.revision;
                self.greeted = true;
                return Ok(batch);
            }
            if !self.greeted {
                self.greeted = true;
                return Ok(WatchBatch {
                    events: Vec::new(),
                    revision: self.cursor,
                });
            }
            if let Some(live) = &mut self.live {
                return live.next(&mut self.cursor, &mut self.last_progress).await;
            }
        }
    }
}

impl Subscription {
    async fn next(
        &mut self,
        cursor: &mut u64,
        last_progress: &mut Option<Instant>,
    ) -> Result<WatchBatch, StoreError> {
        loop {
            let not_before = last_progress.map(|at| at + PROGRESS_GAP);
            let progress = &mut self.progress;
            let moved = async {
                if let Some(at) = not_before {
                    tokio::time::sleep_until(at).await;
                }
                // The hub drops this sender together with the batches' senders: that arm reports the end.
                if progress.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let received = tokio::select! {
                biased;
                batch = self.batches.recv() => Some(batch),
                () = moved => None,
            };
            let received = match received {
                Some(received) => received,
                None => {
                    let reached = *self.progress.borrow_and_update();
                    match self.batches.try_recv() {
                        Ok(batch) => Some(batch),
                        Err(mpsc::error::TryRecvError::Disconnected) => None,
                        Err(mpsc::error::TryRecvError::Empty) if reached > *cursor => {
                            *cursor = reached;
                            *last_progress = Some(Instant::now());
                            return Ok(WatchBatch {
                                events: Vec::new(),
                                revision: reached,
                            });
                        }
                        Err(mpsc::error::TryRecvError::Empty) => continue,
                    }
                }
            };
            let Some(mut batch) = received else {
                return Err(self.end.get().copied().unwrap_or(End::Closed).into());
            };
            if batch.revision <= *cursor {
                continue;
            }
            // A watch may have begun ahead of a feed that lags behind its server.
            batch.events.retain(|event| event.revision() > *cursor);
            *cursor = batch.revision;
            return Ok(batch);
        }
    }
}

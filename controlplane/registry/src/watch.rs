//! Watching: a reader of the cache's log, with the initial state, selectors and bookmarks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use skep_api::{ApiError, GroupVersionResource, Revision};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Change, LogRead, Slot, Snapshot};
use crate::read::check_selector;
use crate::registry::Inner;
use crate::{Scope, SharedObject, WatchEvent, WatchOptions, WatchStream, error, keys};

/// Changes taken from the log at a time.
const READ_LIMIT: usize = 256;

/// Where a watch begins.
enum Start {
    /// With the state, as ADDED events.
    State,
    /// With what happens after a revision.
    After(u64),
}

impl Inner {
    pub(crate) async fn watch(
        &self,
        resource: &GroupVersionResource,
        scope: &Scope,
        options: &WatchOptions,
    ) -> Result<WatchStream, ApiError> {
        let (info, slot) = self.resource(resource)?;
        check_selector(&info, &options.labels, &options.fields)?;
        let start = self.start(resource, options).await?;
        let mut watcher = Watcher {
            changed: self.cache.subscribe(slot),
            cache: Arc::clone(&self.cache),
            slot,
            prefix: keys::scope_prefix(scope),
            options: options.clone(),
            position: 0,
            sent: 0,
            pending: VecDeque::new(),
            bookmark_interval: self.config.bookmark_interval,
            next_bookmark: Instant::now() + self.config.bookmark_interval,
            shutdown: self.shutdown.clone(),
            ended: false,
        };
        match start {
            Start::State => {
                let (snapshot, position) = self.cache.snapshot_with_position(slot);
                watcher.position = position;
                watcher.begin_with(&snapshot);
            }
            Start::After(revision) => match self.cache.position_after(slot, revision) {
                Ok(position) => {
                    watcher.position = position;
                    watcher.sent = revision;
                }
                Err(floor) => {
                    let gone = error::too_old(floor);
                    return Ok(WatchStream::new(stream::once(async { Err(gone) })));
                }
            },
        }
        let events = stream::unfold(watcher, |mut watcher| async {
            let event = watcher.next().await?;
            Some((event, watcher))
        });
        Ok(WatchStream::new(events))
    }

    async fn start(
        &self,
        resource: &GroupVersionResource,
        options: &WatchOptions,
    ) -> Result<Start, ApiError> {
        match (options.resource_version, options.send_initial_events) {
            (None, Some(false)) => {
                self.fresh(resource).await?;
                Ok(Start::After(self.cache.revision()))
            }
            (None, _) => {
                self.fresh(resource).await?;
                Ok(Start::State)
            }
            (Some(Revision(0)), Some(false)) => Ok(Start::After(self.cache.revision())),
            (Some(Revision(0)), _) => Ok(Start::State),
            (Some(Revision(revision)), initial) => {
                self.cache.wait_for(revision).await?;
                Ok(if initial == Some(true) {
                    Start::State
                } else {
                    Start::After(revision)
                })
            }
        }
    }
}

struct Watcher {
    cache: Arc<Cache>,
    slot: Slot,
    prefix: String,
    options: WatchOptions,
    changed: watch::Receiver<u64>,
    /// The place in the log; everything before it is sent or pending.
    position: u64,
    /// The newest revision the client knows of.
    sent: u64,
    pending: VecDeque<WatchEvent>,
    bookmark_interval: Duration,
    next_bookmark: Instant,
    shutdown: CancellationToken,
    ended: bool,
}

impl Watcher {
    fn begin_with(&mut self, snapshot: &Snapshot) {
        let from = Arc::from(self.prefix.as_str());
        let objects = snapshot
            .objects
            .range::<_, Arc<str>>(from..)
            .take_while(|(path, _)| path.starts_with(&self.prefix))
            .filter(|(_, object)| self.matches(object))
            .map(|(_, object)| WatchEvent::Added(object.clone()));
        self.pending = objects.collect();
        self.sent = snapshot.revision;
        if self.options.send_initial_events == Some(true) && self.options.bookmarks {
            let revision = Revision(snapshot.revision);
            self.pending.push_back(WatchEvent::Bookmark {
                revision,
                initial_events_end: true,
            });
        }
    }

    async fn next(&mut self) -> Option<Result<WatchEvent, ApiError>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(Ok(event));
            }
            if self.ended || self.shutdown.is_cancelled() {
                return None;
            }
            // Before reading, so that no change after the read goes unnoticed.
            self.changed.borrow_and_update();
            let (read, revision) = self.cache.read_log(self.slot, self.position, READ_LIMIT);
            match read {
                LogRead::Forgotten(floor) => {
                    self.ended = true;
                    return Some(Err(error::too_old(floor)));
                }
                LogRead::Changes(changes, position) if changes.is_empty() => {
                    self.position = position;
                    if let Some(bookmark) = self.due_bookmark(revision) {
                        return Some(Ok(bookmark));
                    }
                    self.wait().await;
                }
                LogRead::Changes(changes, position) => {
                    self.position = position;
                    self.take(&changes);
                }
            }
        }
    }

    fn take(&mut self, changes: &[Change]) {
        for change in changes
            .iter()
            .filter(|change| change.path.starts_with(&self.prefix))
        {
            if let Some(event) = self.translate(change) {
                self.sent = change.revision.0;
                self.pending.push_back(event);
            }
        }
    }

    /// What the change means to one who sees only what matches.
    fn translate(&self, change: &Change) -> Option<WatchEvent> {
        let before = change.previous.as_ref().filter(|object| self.matches(object));
        let after = !change.deleted && self.matches(&change.object);
        match (before, after) {
            (None, false) => None,
            (None, true) => Some(WatchEvent::Added(change.object.clone())),
            (Some(_), true) => Some(WatchEvent::Modified(change.object.clone())),
            (Some(_), false) if change.deleted => Some(WatchEvent::Deleted(change.object.clone())),
            (Some(before), false) => Some(WatchEvent::Deleted(before.at(change.revision))),
        }
    }

    fn matches(&self, object: &SharedObject) -> bool {
        object.matches(&self.options.labels, &self.options.fields)
    }

    /// A bookmark at `revision`, up to which everything has been sent, when one is due and says something new.
    fn due_bookmark(&mut self, revision: u64) -> Option<WatchEvent> {
        if !self.options.bookmarks || Instant::now() < self.next_bookmark {
            return None;
        }
        self.next_bookmark = Instant::now() + self.bookmark_interval;
        if revision <= self.sent {
            return None;
        }
        self.sent = revision;
        Some(WatchEvent::Bookmark {
            revision: Revision(revision),
            initial_events_end: false,
        })
    }

    async fn wait(&mut self) {
        let bookmark = tokio::time::sleep_until(self.next_bookmark);
        tokio::select! {
            changed = self.changed.changed() => self.ended = changed.is_err(),
            () = bookmark, if self.options.bookmarks => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

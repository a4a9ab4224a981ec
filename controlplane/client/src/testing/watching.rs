//! Watches of the in-memory API: each reads the one log at its own pace.

use std::collections::VecDeque;

use futures::{StreamExt, stream};
use serde_json::Value;
use skep_api::{ApiError, GroupVersionResource, Revision};

use super::object::{Filter, query, set_revision};
use super::state::{Entry, State};
use super::{FakeTransport, raw};
use crate::transport::RawWatchStream;
use crate::{ApiRequest, RawWatchEvent};

struct Watcher {
    fake: FakeTransport,
    changed: tokio::sync::watch::Receiver<()>,
    resource: GroupVersionResource,
    filter: Filter,
    position: Revision,
    epoch: u64,
    bookmarks: Option<u64>,
    ready: VecDeque<Result<RawWatchEvent, ApiError>>,
    ended: bool,
}

pub(super) fn open(fake: &FakeTransport, request: &ApiRequest) -> Result<RawWatchStream, ApiError> {
    let filter = Filter::of(request)?;
    let changed = fake.inner.changed.subscribe();
    let state = fake.inner.state.lock();
    let now = state.revision();
    let from = match query(request, "resourceVersion") {
        None | Some("" | "0") => None,
        Some(text) => Some(
            text.parse::<Revision>()
                .map_err(|error| ApiError::bad_request(error.to_string()))?,
        ),
    };
    let initial = query(request, "sendInitialEvents") == Some("true");
    let mut ready = VecDeque::new();
    match from {
        Some(from) if from > now => return Err(ApiError::too_large_resource_version(from.0, now.0)),
        Some(from) if state.is_compacted(from) => {
            return Err(ApiError::expired(format!(
                "too old resource version: {from} ({now})"
            )));
        }
        Some(_) if !initial => {}
        _ => {
            let objects = state
                .all(&request.resource)
                .filter(|object| filter.matches(object));
            ready.extend(objects.map(|object| Ok(RawWatchEvent::Added(raw(object)))));
            if initial {
                ready.push_back(Ok(RawWatchEvent::Bookmark {
                    revision: now,
                    initial_events_end: true,
                }));
            }
        }
    }
    let bookmarks = (query(request, "allowWatchBookmarks") == Some("true")).then_some(state.bookmarks);
    let watcher = Watcher {
        fake: fake.clone(),
        changed,
        resource: request.resource.clone(),
        filter,
        position: if initial { now } else { from.unwrap_or(now) },
        epoch: state.watch_epoch,
        bookmarks,
        ready,
        ended: false,
    };
    drop(state);
    Ok(stream::unfold(watcher, |mut watcher| async move {
        Some((watcher.next().await?, watcher))
    })
    .boxed())
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<RawWatchEvent, ApiError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            self.changed.mark_unchanged();
            let fake = self.fake.clone();
            self.read(&fake.inner.state.lock());
            // The transport, and with it the sender, lives as long as its watches.
            if self.ready.is_empty() && !self.ended && self.changed.changed().await.is_err() {
                return None;
            }
        }
    }

    fn read(&mut self, state: &State) {
        if state.watch_epoch != self.epoch {
            self.ended = true;
            self.ready.extend(state.watch_error.clone().map(Err));
            return;
        }
        for entry in state
            .log_since(self.position)
            .iter()
            .filter(|entry| entry.resource == self.resource)
        {
            self.ready.extend(event(&self.filter, entry).map(Ok));
        }
        self.position = state.revision();
        if self.bookmarks.is_some_and(|sent| sent != state.bookmarks) {
            self.bookmarks = Some(state.bookmarks);
            let bookmark = RawWatchEvent::Bookmark {
                revision: self.position,
                initial_events_end: false,
            };
            self.ready.push_back(Ok(bookmark));
        }
    }
}

/// What a write looks like to a watch: an object that leaves the selection is deleted, one that enters it is added.
fn event(filter: &Filter, entry: &Entry) -> Option<RawWatchEvent> {
    let matching = |object: &Option<Value>| object.as_ref().filter(|object| filter.matches(object)).cloned();
    match (matching(&entry.old), matching(&entry.new)) {
        (None, None) => None,
        (None, Some(new)) => Some(RawWatchEvent::Added(raw(&new))),
        (Some(_), Some(new)) => Some(RawWatchEvent::Modified(raw(&new))),
        (Some(mut old), None) => {
            if let Some(new) = &entry.new {
                set_revision(&mut old, super::object::revision(new));
            }
            Some(RawWatchEvent::Deleted(raw(&old)))
        }
    }
}

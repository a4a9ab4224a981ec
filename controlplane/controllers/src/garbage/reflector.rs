//! Follows one kind's metadata into the graph, by list and watch.
//!
//! The informers of the runtime are typed by a compiled-in kind; this one takes any row of the table.

use super::graph::Graph;
use super::metadata::{Kind, PartialObject};
use super::work::Job;
use futures::StreamExt;
use parking_lot::Mutex;
use skep_api::{ApiError, Revision};
use skep_client::{ApiRequest, ApiResponse, Client, RawObject, RawWatchEvent, Verb};
use skep_runtime::{Backoff, WorkQueue};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PAGE_LIMIT: usize = 500;
const BACKOFF_BASE: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// The server ends a watch after so long.
const WATCH_TIME: Duration = Duration::from_secs(480);
/// A watch that is silent for so long beyond that is dead.
const WATCH_GRACE: Duration = Duration::from_secs(30);

pub(crate) struct Reflector {
    client: Client,
    kind: Arc<Kind>,
    graph: Arc<Mutex<Graph>>,
    queue: WorkQueue<Job>,
    /// The uids of this kind in the graph.
    known: Mutex<HashSet<String>>,
    synced: watch::Sender<bool>,
}

impl Reflector {
    pub(crate) fn new(
        client: Client,
        kind: Arc<Kind>,
        graph: Arc<Mutex<Graph>>,
        queue: WorkQueue<Job>,
    ) -> Self {
        Self {
            client,
            kind,
            graph,
            queue,
            known: Mutex::default(),
            synced: watch::Sender::new(false),
        }
    }

    /// Returns once the graph has shown everything of this kind.
    pub(crate) async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives in `self`: the wait cannot fail.
        drop(synced.wait_for(|synced| *synced).await);
    }

    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&self) {
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_MAX);
        let mut position: Option<Revision> = None;
        loop {
            let before = position;
            if let Err(error) = self.round(&mut position).await {
                if error.is_gone() || error.is_too_large_resource_version() {
                    position = None;
                } else {
                    tracing::warn!(resource = %self.kind.gvr, %error, "metadata not followed, trying again");
                }
            }
            if position > before {
                backoff.reset();
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn round(&self, position: &mut Option<Revision>) -> Result<(), ApiError> {
        let from = match *position {
            Some(from) => from,
            None => *position.insert(self.list().await?),
        };
        let request = ApiRequest::new(Verb::Watch, self.kind.gvr.clone())
            .query("resourceVersion", from.to_string())
            .query("allowWatchBookmarks", "true")
            .query("timeoutSeconds", WATCH_TIME.as_secs().to_string());
        let mut events = self.client.raw_watch(request).await?;
        while let Ok(Some(event)) = tokio::time::timeout(WATCH_TIME + WATCH_GRACE, events.next()).await {
            let revision = match event? {
                RawWatchEvent::Added(object) | RawWatchEvent::Modified(object) => self.put(&object)?,
                RawWatchEvent::Deleted(object) => {
                    let object = PartialObject::decode(&object)?;
                    self.remove(object.uid());
                    revision_of(&object)
                }
                RawWatchEvent::Bookmark { revision, .. } => Some(revision),
            };
            *position = revision.max(*position);
        }
        Ok(())
    }

    async fn list(&self) -> Result<Revision, ApiError> {
        let mut seen = HashSet::new();
        let mut token: Option<String> = None;
        let revision = loop {
            let mut request =
                ApiRequest::new(Verb::List, self.kind.gvr.clone()).query("limit", PAGE_LIMIT.to_string());
            if let Some(token) = token.take() {
                request = request.query("continue", token);
            }
            let ApiResponse::List {
                revision,
                continue_token,
                items,
            } = self.client.raw(request).await?
            else {
                return Err(ApiError::internal("the server did not answer with a list"));
            };
            for item in items {
                seen.insert(PartialObject::decode(&item)?.uid().to_owned());
                self.put(&item)?;
            }
            match continue_token {
                Some(next) => token = Some(next),
                None => break revision,
            }
        };
        let lost: Vec<String> = self.known.lock().difference(&seen).cloned().collect();
        for uid in lost {
            self.remove(&uid);
        }
        self.synced.send_replace(true);
        Ok(revision)
    }

    fn put(&self, object: &RawObject) -> Result<Option<Revision>, ApiError> {
        let object = PartialObject::decode(object)?;
        self.known.lock().insert(object.uid().to_owned());
        let jobs = self.graph.lock().put(&self.kind, &object);
        self.add(jobs);
        Ok(revision_of(&object))
    }

    fn remove(&self, uid: &str) {
        self.known.lock().remove(uid);
        let jobs = self.graph.lock().remove(uid);
        self.add(jobs);
    }

    fn add(&self, jobs: Vec<Job>) {
        for job in jobs {
            self.queue.add(job);
        }
    }
}

fn revision_of(object: &PartialObject) -> Option<Revision> {
    object.metadata.resource_version.as_deref()?.parse().ok()
}

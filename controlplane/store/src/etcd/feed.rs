//! One watch over the whole prefix that feeds every watcher.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::watch;

use super::wire::{Received, Wire};
use crate::hub::{History, Hub};
use crate::{StoreError, WatchBatch};

/// How long the feed may be behind a revision that someone waits for, before it is moved by a write of our own. It is
/// behind for longer only when others write to the same etcd outside of our prefix.
const CATCH_UP: Duration = Duration::from_millis(100);
/// Pauses between attempts to watch: doubled up to the limit.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_LIMIT: Duration = Duration::from_secs(5);

/// Keeps the hub at the cluster's state.
#[derive(Clone)]
pub(super) struct Feed {
    wire: Wire,
    hub: Arc<Hub>,
    wanted: Arc<watch::Sender<u64>>,
}

impl Feed {
    pub(super) fn new(wire: Wire, hub: Arc<Hub>) -> Self {
        Self {
            wire,
            hub,
            wanted: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Someone will wait for the feed to reach `revision`.
    pub(super) fn want(&self, revision: u64) {
        if revision > self.hub.published() {
            self.wanted.send_if_modified(|wanted| {
                let more = revision > *wanted;
                *wanted = revision.max(*wanted);
                more
            });
        }
    }

    /// Feeds until aborted, through lost connections.
    pub(super) async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let before = self.hub.published();
            let Err(error) = self.follow().await;
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the watch on etcd broke and is made anew"
            );
            if self.hub.published() > before {
                pause = FIRST_PAUSE;
            }
            if let StoreError::Compacted { floor } = error {
                self.start_over(floor).await;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LIMIT);
        }
    }

    async fn follow(&self) -> Result<std::convert::Infallible, StoreError> {
        let mut changes = std::pin::pin!(self.wire.changes(self.hub.published()).await?);
        let mut wanted = self.wanted.subscribe();
        loop {
            tokio::select! {
                received = changes.next() => match received {
                    Some(Ok(Received::Changes { events, revision })) => self.hub.publish(&events, revision),
                    Some(Ok(Received::Compacted { floor })) => return Err(StoreError::Compacted { floor }),
                    Some(Err(error)) => return Err(error),
                    None => return Err(StoreError::unavailable("watching etcd", "the stream ended")),
                },
                moved = self.catch_up(&mut wanted) => moved?,
            }
        }
    }

    /// Waits until the feed stays behind what is wanted, then writes. May be dropped at any point and begun anew.
    async fn catch_up(&self, wanted: &mut watch::Receiver<u64>) -> Result<(), StoreError> {
        if wanted
            .wait_for(|wanted| *wanted > self.hub.published())
            .await
            .is_err()
        {
            // Nobody is left to want anything.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(CATCH_UP).await;
        if *wanted.borrow() > self.hub.published() {
            self.wire.mark().await?;
        }
        Ok(())
    }

    /// History was compacted past the feed: the watchers must list anew, the feed goes on from now.
    async fn start_over(&self, floor: u64) {
        match self.wire.mark().await {
            Ok(revision) => self.hub.restart(floor, revision),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "starting the feed over failed"
                );
            }
        }
    }
}

/// Past changes, by a watch that ends where the live feed was joined.
pub(super) struct WatchHistory {
    wire: Wire,
}

impl WatchHistory {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire }
    }
}

#[async_trait]
impl History for WatchHistory {
    async fn read(&self, prefix: &str, after: u64, upto: u64) -> Result<WatchBatch, StoreError> {
        let mut changes = std::pin::pin!(self.wire.changes(after).await?);
        // There is a change at `upto`, since the feed stands at changes only.
        match changes.next().await {
            Some(Ok(Received::Changes { mut events, revision })) => {
                events.retain(|event| event.revision() <= upto && event.key().starts_with(prefix));
                Ok(WatchBatch {
                    events,
                    revision: revision.min(upto),
                })
            }
            Some(Ok(Received::Compacted { floor })) => Err(StoreError::Compacted { floor }),
            Some(Err(error)) => Err(error),
            None => Err(StoreError::unavailable("watching etcd", "the stream ended")),
        }
    }
}

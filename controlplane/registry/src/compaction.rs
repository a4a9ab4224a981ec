//! Lets the store and the cache forget what is older than the history that is promised.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use skep_store::Store;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::cache::Cache;

/// Revisions noted per history: what is kept is at most a tenth longer than promised.
const SAMPLES: u32 = 10;

/// Compacts until `shutdown`.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    history: Duration,
    shutdown: CancellationToken,
) {
    let mut samples: VecDeque<(Instant, u64)> = VecDeque::new();
    let mut ticks = tokio::time::interval(history / SAMPLES);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = Instant::now();
        cache.prune(now);
        let mut old = None;
        while samples
            .front()
            .is_some_and(|(when, _)| now.duration_since(*when) >= history)
        {
            old = samples.pop_front();
        }
        samples.push_back((now, cache.revision()));
        let Some((_, revision)) = old else { continue };
        match store.compact(revision).await {
            Ok(()) => debug!(revision, "compacted"),
            Err(error) => warn!(
                revision,
                error = &error as &dyn std::error::Error,
                "compaction failed"
            ),
        }
    }
}

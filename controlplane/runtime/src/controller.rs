//! The reconcile loop: workers that take keys from a queue.

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::queue::{QueueItem, WorkQueue};

/// What is to happen to a key after its reconciliation went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something changes.
    Done,
    /// Again after this time, even if nothing changes.
    RequeueAfter(Duration),
}

/// Runs a reconcile function over a queue. A key that fails (or panics) comes back with exponential back-off.
#[derive(Debug)]
pub struct Controller<T> {
    queue: WorkQueue<T>,
    workers: usize,
}

impl<T: QueueItem> Controller<T> {
    /// With one worker.
    #[must_use]
    pub fn new(queue: WorkQueue<T>) -> Self {
        Self { queue, workers: 1 }
    }

    /// How many keys may be in work at once.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Reconciles until cancelled; then lets what is in work end.
    pub async fn run<F, R, E>(self, reconcile: F, shutdown: CancellationToken)
    where
        F: Fn(T) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Action, E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let mut workers = JoinSet::new();
        for _ in 0..self.workers {
            workers.spawn(work(self.queue.clone(), reconcile.clone()));
        }
        shutdown.cancelled().await;
        self.queue.shut_down();
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(queue = self.queue.name(), %error, "worker died");
            }
        }
    }
}

async fn work<T, F, R, E>(queue: WorkQueue<T>, reconcile: F)
where
    T: QueueItem,
    F: Fn(T) -> R,
    R: Future<Output = Result<Action, E>>,
    E: Display,
{
    while let Some(key) = queue.next().await {
        let result = AssertUnwindSafe(reconcile(key.clone())).catch_unwind().await;
        match result {
            Ok(Ok(Action::Done)) => queue.forget(&key),
            Ok(Ok(Action::RequeueAfter(delay))) => {
                queue.forget(&key);
                queue.add_after(key.clone(), delay);
            }
            Ok(Err(error)) => {
                tracing::warn!(queue = queue.name(), key = ?*key, failures = queue.failures(&key), %error, "reconcile failed");
                queue.add_rate_limited(key.clone());
            }
            Err(_panic) => {
                tracing::error!(queue = queue.name(), key = ?*key, "reconcile panicked");
                queue.add_rate_limited(key.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::WorkQueueOptions;

    #[tokio::test(start_paused = true)]
    async fn failures_and_panics_come_back_and_requests_are_kept() {
        let queue = WorkQueue::new("test", WorkQueueOptions::default());
        let shutdown = CancellationToken::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let controller = tokio::spawn(Controller::new(queue.clone()).workers(2).run(
            move |key: u32| {
                let log = Arc::clone(&log);
                async move {
                    let times = {
                        let mut log = log.lock();
                        log.push(key);
                        log.iter().filter(|other| **other == key).count()
                    };
                    match (key, times) {
                        (1, 1..=2) => Err("not yet"),
                        (2, 1) => panic!("once"),
                        (3, 1) => Ok(Action::RequeueAfter(Duration::from_secs(100))),
                        _ => Ok(Action::Done),
                    }
                }
            },
            shutdown.clone(),
        ));
        for key in [1, 2, 3, 4] {
            queue.add(key);
        }
        tokio::time::sleep(Duration::from_secs(99)).await;
        let count = |key| seen.lock().iter().filter(|other| **other == key).count();
        assert_eq!([1, 2, 3, 4].map(count), [3, 2, 1, 1]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(count(3), 2);
        assert_eq!(queue.failures(&1), 0);
        shutdown.cancel();
        controller.await.unwrap();
    }
}

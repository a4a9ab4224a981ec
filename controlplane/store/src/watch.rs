//! What a watcher gets.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::BoxStream;

use crate::{Event, StoreError};

/// Changes in revision order. Never splits a revision over two batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// The changes; empty when the batch only tells progress.
    pub events: Vec<Event>,
    /// Every change under the prefix with a revision up to this one has now been sent.
    pub revision: u64,
}

/// A stream of batches. After an error it ends; dropping it ends the watch.
pub struct Watch {
    batches: BoxStream<'static, Result<WatchBatch, StoreError>>,
}

impl Watch {
    /// A watch over these batches; an engine sends nothing after an error.
    pub fn new(batches: impl Stream<Item = Result<WatchBatch, StoreError>> + Send + 'static) -> Self {
        Self {
            batches: Box::pin(batches),
        }
    }
}

impl Stream for Watch {
    type Item = Result<WatchBatch, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(context)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watch").finish_non_exhaustive()
    }
}

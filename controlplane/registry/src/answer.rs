//! What the registry answers.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::BoxStream;
use skep_api::{ApiError, Revision};

use crate::SharedObject;

/// A list at one revision, in the order of the store's keys: by namespace, then name.
#[derive(Clone, Debug)]
pub struct ObjectList {
    pub revision: Revision,
    pub items: Vec<SharedObject>,
    /// Where the next page begins, when there is one.
    pub continue_token: Option<String>,
    /// How many items follow, when that is known: a limited list without selectors.
    pub remaining: Option<usize>,
}

/// The outcome of a write.
#[derive(Clone, Debug)]
pub struct Written {
    pub object: SharedObject,
    /// For the client's `Warning` headers.
    pub warnings: Vec<String>,
    pub created: bool,
}

/// The outcome of a deletion.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The object as it was, or, when it is not gone, as it now is.
    pub object: SharedObject,
    /// Whether it no longer exists. Else its deletion has been asked for and waits for somebody.
    pub gone: bool,
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    Added(SharedObject),
    Modified(SharedObject),
    /// The object as it was last, with the revision of the deletion (or of the change by which it left the selector).
    Deleted(SharedObject),
    /// Everything up to `revision` has been sent.
    Bookmark {
        revision: Revision,
        initial_events_end: bool,
    },
}

/// The events of a watch in revision order, none left out. After an error it ends.
pub struct WatchStream {
    events: BoxStream<'static, Result<WatchEvent, ApiError>>,
}

impl WatchStream {
    pub(crate) fn new(events: impl Stream<Item = Result<WatchEvent, ApiError>> + Send + 'static) -> Self {
        Self {
            events: Box::pin(events),
        }
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchEvent, ApiError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(context)
    }
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchStream")
    }
}

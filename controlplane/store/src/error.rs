//! Why an operation of a store did not succeed.

use crate::Entry;

/// Errors of every [`crate::Store`]. `Display` leaves the source out: log the chain.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `create` of a key that exists.
    #[error("the key exists already, last written at revision {revision}")]
    AlreadyExists {
        /// Revision of its last write.
        revision: u64,
    },
    /// The key does not exist.
    #[error("the key does not exist")]
    NotFound,
    /// The key's last write is another than expected.
    #[error("the key was written meanwhile, at revision {}", current.mod_revision)]
    Conflict {
        /// The entry as it is, so that a retry needs no read.
        current: Box<Entry>,
    },
    /// History before `floor` is gone: list anew, then watch from that list's revision.
    #[error("history before revision {floor} has been compacted")]
    Compacted {
        /// The oldest revision that can still be listed and watched from.
        floor: u64,
    },
    /// A revision that the store has not reached.
    #[error("revision {requested} is ahead of the store, which is at {current}")]
    FutureRevision {
        /// What was asked for.
        requested: u64,
        /// Where the store is.
        current: u64,
    },
    /// The watcher did not take its batches in time. It has missed nothing up to its last batch: watch again from there.
    #[error("the watcher fell behind and was ended")]
    Lagged,
    /// Key and value together are larger than the store takes.
    #[error("{size} bytes are more than the {limit} that one entry may have")]
    TooLarge {
        /// Size of key and value.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The store could not be reached or failed. A write that ended like this may or may not have happened.
    #[error("the store is unavailable: {during}")]
    Unavailable {
        /// What was being done.
        during: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was read is not what this engine writes.
    #[error("the store holds damaged data: {what}")]
    Corrupt {
        /// What was found where.
        what: String,
    },
    /// A configuration that cannot work.
    #[error("wrong store configuration: {what}")]
    Config {
        /// What is wrong, and with which value.
        what: String,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// An engine's failure with its cause.
    pub fn unavailable(
        during: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable {
            during,
            source: source.into(),
        }
    }
}

//! What is stored, and what happened to it.

use bytes::Bytes;

/// One key with its current (or, in history, former) value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// The bytes as they were written.
    pub value: Bytes,
    /// Revision of the write that created this life of the key.
    pub create_revision: u64,
    /// Revision of the last write; what [`crate::Store::compare_and_swap`] expects.
    pub mod_revision: u64,
}

/// A page of entries, sorted by key, all as they were at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by key bytes.
    pub entries: Vec<Entry>,
    /// The revision that the page shows. Pass it as `at` for the next page.
    pub revision: u64,
    /// Whether keys follow the last one: go on with `start_after` = its key.
    pub more: bool,
}

/// One change. Every change has a revision of its own within one engine; etcd transactions of others may share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was created or got another value.
    Put {
        /// The entry as written.
        entry: Entry,
        /// Whether the key did not exist before.
        created: bool,
        /// The value before, when there was one.
        previous: Option<Bytes>,
    },
    /// The key went away.
    Delete {
        /// The key.
        key: String,
        /// Revision of the deletion.
        revision: u64,
        /// The last value.
        previous: Entry,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { entry, .. } => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision of the change.
    pub fn revision(&self) -> u64 {
        match self {
            Self::Put { entry, .. } => entry.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

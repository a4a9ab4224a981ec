//! The trait that every engine implements; `contract` says in tests what this page says in words.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Entry, Listing, StoreError, Watch};

/// Largest key + value that every engine takes (etcd's default request limit is 1.5 MiB).
pub const MAX_ENTRY_BYTES: usize = 1_400_000;

/// A linearizable, durable key-value store with one global, growing revision.
///
/// - A write that was acknowledged survives a crash of the process and of the machine.
/// - Reads see every write that was acknowledged before they began.
/// - History is kept until compacted: [`Store::list`] at, and [`Store::watch`] from, any revision not before the floor
///   give exactly what was.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The entry under `key`, and the store's revision at which it was read.
    async fn get(&self, key: &str) -> Result<(Option<Entry>, u64), StoreError>;

    /// The keys that begin with `prefix`, in byte order: as they are now, or as they were at revision `at`; only those
    /// after `start_after`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when `at` is before the floor, [`StoreError::FutureRevision`] when it is ahead.
    async fn list(
        &self,
        prefix: &str,
        at: Option<u64>,
        start_after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Listing, StoreError>;

    /// Writes a key that does not exist; gives the revision of the write.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`].
    async fn create(&self, key: &str, value: Bytes) -> Result<u64, StoreError>;

    /// Replaces the value if the key's last write was at revision `expected`; gives the revision of the write.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] with the entry as it is.
    async fn compare_and_swap(&self, key: &str, expected: u64, value: Bytes) -> Result<u64, StoreError>;

    /// Deletes the key, if `expected` is given only when its last write was at that revision; gives the revision of
    /// the deletion and the last value.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] with the entry as it is.
    async fn delete(&self, key: &str, expected: Option<u64>) -> Result<(u64, Entry), StoreError>;

    /// Every change with a revision greater than `from` to the keys that begin with `prefix`, past and future, in
    /// revision order, none left out. The stream also tells how far it is when nothing under the prefix changes.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when changes since `from` are before the floor and can no longer be had,
    /// [`StoreError::FutureRevision`] when `from` is ahead of the store. The same and [`StoreError::Lagged`], [`StoreError::Unavailable`], [`StoreError::Closed`] may end the stream.
    async fn watch(&self, prefix: &str, from: u64) -> Result<Watch, StoreError>;

    /// Forgets the history before `revision`, which becomes the floor. Compacting again to less does nothing.
    ///
    /// # Errors
    /// [`StoreError::FutureRevision`].
    async fn compact(&self, revision: u64) -> Result<(), StoreError>;

    /// The current revision, linearizable.
    async fn revision(&self) -> Result<u64, StoreError>;

    /// Whether the store can be used now.
    ///
    /// # Errors
    /// What reads, or writes, fail with.
    async fn check(&self) -> Result<(), StoreError> {
        self.revision().await.map(drop)
    }
}

/// Refuses what an engine could not take.
pub(crate) fn check_size(key: &str, value: &Bytes) -> Result<(), StoreError> {
    let size = key.len() + value.len();
    if size > MAX_ENTRY_BYTES {
        return Err(StoreError::TooLarge {
            size,
            limit: MAX_ENTRY_BYTES,
        });
    }
    Ok(())
}

//! The embedded engine: one redb file, one thread that commits.
//!
//! Writers put commands into a bounded queue. The commit thread takes what has gathered, checks and applies it in
//! order within one transaction, makes that durable with one sync, and only then answers and feeds the watchers. So
//! two commands on one key in one group see each other, and nobody learns of a write that could still be lost.
//!
//! Tables: `keys` (key → revisions of its current version), `log` (revision → the change with its value; also the only
//! place of values), `superseded` (key, revision at which a version ended → that version's revisions), `meta`.
//! A list at an old revision merges `keys` with `superseded`; a watch from an old revision walks `log`.
//!
//! After one failed access to its file redb refuses everything. So after a failed commit (a full disk) the commit thread
//! opens the database again, hands the watchers what turned out to be durable, and refuses writes until a trial succeeds.

mod commit;
#[cfg(test)]
mod faults;
mod file;
mod queue;
mod record;
mod snapshot;
mod sweep;
mod tables;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};
use tokio::sync::oneshot;

use crate::hub::{History, Hub, follow};
use crate::store::check_size;
use crate::{Entry, Listing, Store, StoreError, Watch, WatchBatch};
use commit::Committer;
use queue::{Command, Operation, Outcome, Queue};
use snapshot::Snapshot;
use tables::Position;

/// How an embedded store is kept.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// The database file; its folder must exist.
    pub path: PathBuf,
    /// How long history is kept at least, unless [`Self::history_revisions`] is exceeded.
    pub history: Duration,
    /// Most revisions of history that are kept.
    pub history_revisions: u64,
    /// Batches that may wait for one watcher before it is ended.
    pub watch_buffer: usize,
    /// Memory for cached pages.
    pub cache_bytes: usize,
    /// How long after a failed commit writing is tried again.
    pub retry: Duration,
}

impl EmbeddedConfig {
    /// The defaults for a database at `path`: history of 5 minutes, at most a million revisions.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            history: Duration::from_secs(300),
            history_revisions: 1_000_000,
            watch_buffer: 1024,
            cache_bytes: 256 << 20,
            retry: Duration::from_secs(1),
        }
    }
}

/// The embedded store. Dropping it commits what is queued, ends its watches and joins the commit thread.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Opens the database: at first, and after each failure.
type Opener = Box<dyn FnMut() -> Result<Database, StoreError> + Send>;

struct Shared {
    /// `None` when it could not be opened again after a failure.
    database: RwLock<Option<Database>>,
    /// Whether the last commit succeeded.
    writable: AtomicBool,
    hub: Arc<Hub>,
}

impl EmbeddedStore {
    /// Opens or creates the database. Repairs what a crash left; refuses a file that another process has open.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the file cannot be used, [`StoreError::Corrupt`] when it is not ours.
    pub async fn open(config: EmbeddedConfig) -> Result<Self, StoreError> {
        blocking("opening the database", move || {
            let (path, cache_bytes) = (config.path.clone(), config.cache_bytes);
            Self::start(Box::new(move || file::open(&path, cache_bytes)), &config)
        })
        .await
    }

    /// A store in memory, for tests of what lies above: the same engine, nothing durable.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[cfg(feature = "testing")]
    pub async fn in_memory() -> Result<Self, StoreError> {
        blocking("creating the database", || {
            let mut memory = Some(redb::backends::InMemoryBackend::new());
            let open = move || {
                let memory = memory.take().ok_or(StoreError::Closed)?;
                Database::builder()
                    .create_with_backend(memory)
                    .map_err(|error| StoreError::unavailable("creating the database", error))
            };
            Self::start(Box::new(open), &EmbeddedConfig::new(""))
        })
        .await
    }

    fn start(mut open: Opener, config: &EmbeddedConfig) -> Result<Self, StoreError> {
        let database = open()?;
        let position = tables::prepare(&database)?;
        let hub = Arc::new(Hub::new(position.revision, config.watch_buffer));
        let shared = Arc::new(Shared {
            database: RwLock::new(Some(database)),
            writable: AtomicBool::new(true),
            hub,
        });
        let queue = Arc::new(Queue::new());
        let committer = Committer::new(shared.clone(), queue.clone(), open, position, config);
        let thread = std::thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(|error| StoreError::unavailable("starting the commit thread", error))?;
        Ok(Self {
            shared,
            queue,
            thread: Some(thread),
        })
    }

    async fn write(&self, operation: Operation) -> Result<Outcome, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Command { operation, reply }).await?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(Snapshot) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.shared.clone().read(read).await
    }
}

impl Shared {
    async fn read<T: Send + 'static>(
        self: Arc<Self>,
        read: impl FnOnce(Snapshot) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        blocking("reading", move || read(Snapshot::open(&self.begin_read()?)?)).await
    }

    fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        let database = self.database.read();
        opened(&database)?
            .begin_read()
            .map_err(|error| StoreError::unavailable("beginning to read", error))
    }

    fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        let database = self.database.read();
        opened(&database)?
            .begin_write()
            .map_err(|error| StoreError::unavailable("beginning to write", error))
    }

    /// Replaces a database that has failed; gives where the store stands.
    fn reopen(&self, open: &mut Opener) -> Result<Position, StoreError> {
        let mut database = self.database.write();
        // The file cannot be opened twice.
        *database = None;
        tables::prepare(database.insert(open()?))
    }
}

fn opened(database: &Option<Database>) -> Result<&Database, StoreError> {
    database.as_ref().ok_or_else(|| {
        StoreError::unavailable("using the database", "it failed and could not be opened again")
    })
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's commit thread panicked");
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: &str) -> Result<(Option<Entry>, u64), StoreError> {
        let key = key.to_owned();
        self.read(move |snapshot| Ok((snapshot.get(&key)?, snapshot.revision())))
            .await
    }

    async fn list(
        &self,
        prefix: &str,
        at: Option<u64>,
        start_after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Listing, StoreError> {
        let (prefix, start_after) = (prefix.to_owned(), start_after.map(str::to_owned));
        self.read(move |snapshot| {
            let at = snapshot.check_revision(at)?;
            snapshot.list(&prefix, at, start_after.as_deref(), limit)
        })
        .await
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, StoreError> {
        check_size(key, &value)?;
        Ok(self
            .write(Operation::Create {
                key: key.to_owned(),
                value,
            })
            .await?
            .revision)
    }

    async fn compare_and_swap(&self, key: &str, expected: u64, value: Bytes) -> Result<u64, StoreError> {
        check_size(key, &value)?;
        Ok(self
            .write(Operation::Swap {
                key: key.to_owned(),
                expected,
                value,
            })
            .await?
            .revision)
    }

    async fn delete(&self, key: &str, expected: Option<u64>) -> Result<(u64, Entry), StoreError> {
        let outcome = self
            .write(Operation::Delete {
                key: key.to_owned(),
                expected,
            })
            .await?;
        let entry = outcome.deleted.ok_or(StoreError::NotFound)?;
        Ok((outcome.revision, entry))
    }

    async fn watch(&self, prefix: &str, from: u64) -> Result<Watch, StoreError> {
        self.read(move |snapshot| snapshot.check_revision(Some(from)))
            .await?;
        let history = Arc::new(LogHistory(Arc::downgrade(&self.shared)));
        Ok(Watch::new(follow(
            self.shared.hub.clone(),
            history,
            prefix.to_owned(),
            from,
        )))
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.write(Operation::Compact { revision }).await?;
        Ok(())
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        self.read(|snapshot| Ok(snapshot.revision())).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        if !self.shared.writable.load(Ordering::Relaxed) {
            return Err(StoreError::unavailable("committing", "the last commit failed"));
        }
        self.revision().await.map(drop)
    }
}

/// Past changes, read from the log. Does not keep the database open.
struct LogHistory(Weak<Shared>);

#[async_trait]
impl History for LogHistory {
    async fn read(&self, prefix: &str, after: u64, upto: u64) -> Result<WatchBatch, StoreError> {
        let prefix = prefix.to_owned();
        let shared = self.0.upgrade().ok_or(StoreError::Closed)?;
        shared
            .read(move |snapshot| snapshot.changes(&prefix, after, upto))
            .await
    }
}

async fn blocking<T: Send + 'static>(
    during: &'static str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StoreError::unavailable(during, error)))
}

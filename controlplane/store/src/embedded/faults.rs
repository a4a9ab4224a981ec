//! What becomes of a store whose file fails.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use redb::backends::FileBackend;
use redb::{Database, StorageBackend};

use super::{EmbeddedConfig, EmbeddedStore};
use crate::{Event, Store, StoreError};

/// No fault is near.
const NEVER: i64 = i64::MAX;

/// Counts down with every change of the file; changes fail while it is at zero or below.
#[derive(Clone, Debug)]
struct Disk(Arc<AtomicI64>);

impl Disk {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NEVER)))
    }

    fn fail_after(&self, changes: i64) {
        self.0.store(changes, Ordering::SeqCst);
    }

    fn has_room(&self) -> io::Result<()> {
        if self.0.fetch_sub(1, Ordering::SeqCst) > 0 {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
}

#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    disk: Disk,
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.has_room()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.has_room()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.has_room()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

fn open(path: &Path, disk: &Disk) -> EmbeddedStore {
    let (path, disk) = (path.to_owned(), disk.clone());
    let config = EmbeddedConfig {
        retry: Duration::from_millis(20),
        ..EmbeddedConfig::new(&path)
    };
    let opener = move || {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .expect("the file opens");
        let failed = |error: redb::DatabaseError| StoreError::unavailable("opening", error);
        let file = FileBackend::new(file).map_err(failed)?;
        let disk = disk.clone();
        Database::builder()
            .create_with_backend(Faulty { file, disk })
            .map_err(failed)
    };
    EmbeddedStore::start(Box::new(opener), &config).expect("the store opens")
}

/// Creates `key` as soon as the store can be written.
async fn create_at_last(store: &EmbeddedStore, key: &str) {
    let created = async {
        while store.create(key, Bytes::new()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), created)
        .await
        .expect("the store works again");
}

#[tokio::test]
async fn a_full_disk_stops_writes_until_it_has_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::new();
    let store = open(&folder.path().join("store.redb"), &disk);
    store.create("a", Bytes::from("1")).await.expect("room");
    store.check().await.expect("well");

    disk.fail_after(0);
    for _ in 0..3 {
        let refused = store.create("b", Bytes::from("2")).await;
        assert!(
            matches!(refused, Err(StoreError::Unavailable { .. })),
            "{refused:?}"
        );
        assert!(store.check().await.is_err());
    }

    disk.fail_after(NEVER);
    create_at_last(&store, "c").await;
    store.check().await.expect("well again");
    let keys = store.list("", None, None, None).await.expect("readable");
    let keys: Vec<&str> = keys.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["a", "c"]);
}

/// Whichever change of the file fails, in the end a watch has told exactly what a list shows.
#[tokio::test]
async fn watchers_miss_nothing_that_a_failed_commit_made_durable() {
    for changes in 0..12 {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::new();
        let store = open(&folder.path().join("store.redb"), &disk);
        store.create("a", Bytes::new()).await.expect("room");
        let mut watch = store.watch("", 1).await.expect("a watch");

        disk.fail_after(changes);
        // May or may not succeed.
        drop(store.create("b", Bytes::new()).await);
        disk.fail_after(NEVER);
        create_at_last(&store, "last").await;

        let listed = store.list("", None, None, None).await.expect("readable");
        let mut listed: Vec<(u64, String)> = listed
            .entries
            .into_iter()
            .map(|entry| (entry.mod_revision, entry.key))
            .collect();
        listed.sort_unstable();
        let mut told = Vec::new();
        while told.last().is_none_or(|(_, key)| key != "last") {
            let batch = tokio::time::timeout(Duration::from_secs(20), watch.next())
                .await
                .expect("in time")
                .expect("the watch goes on")
                .expect("without an error");
            told.extend(
                batch
                    .events
                    .iter()
                    .map(|event: &Event| (event.revision(), event.key().to_owned())),
            );
        }
        assert_eq!(told, listed, "after {changes} changes");
    }
}

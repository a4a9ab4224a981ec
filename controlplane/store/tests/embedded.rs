//! The embedded engine: the contract, and what is its own.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use skep_store::{EmbeddedConfig, EmbeddedStore, Store, StoreError, contract};

async fn open(folder: &tempfile::TempDir) -> EmbeddedStore {
    EmbeddedStore::open(EmbeddedConfig::new(folder.path().join("store.redb")))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    for case in contract::cases() {
        println!("case {}", case.name);
        let folder = tempfile::tempdir().unwrap();
        (case.check)(Arc::new(open(&folder).await)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_in_memory() {
    for case in contract::cases() {
        println!("case {}", case.name);
        (case.check)(Arc::new(EmbeddedStore::in_memory().await.unwrap())).await;
    }
}

#[tokio::test]
async fn a_store_opened_again_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let created = store.create("a", Bytes::from("one")).await.unwrap();
    let swapped = store
        .compare_and_swap("a", created, Bytes::from("two"))
        .await
        .unwrap();
    let (deleted, _) = {
        store.create("b", Bytes::from("x")).await.unwrap();
        store.delete("b", None).await.unwrap()
    };
    store.compact(created).await.unwrap();
    drop(store);
    let store = open(&folder).await;
    assert_eq!(store.revision().await.unwrap(), deleted);
    let entry = store.get("a").await.unwrap().0.unwrap();
    assert_eq!(
        (entry.create_revision, entry.mod_revision, &entry.value[..]),
        (created, swapped, &b"two"[..])
    );
    let at_creation = store.list("", Some(created), None, None).await.unwrap();
    assert_eq!(at_creation.entries[0].value, "one");
    assert!(
        matches!(store.watch("", created - 1).await, Err(StoreError::Compacted { floor }) if floor == created)
    );
    let mut watch = store.watch("", created).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().events.len(), 3);
    assert_eq!(store.create("c", Bytes::new()).await.unwrap(), deleted + 1);
}

#[tokio::test]
async fn a_file_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(&folder).await;
    let again = EmbeddedStore::open(EmbeddedConfig::new(folder.path().join("store.redb"))).await;
    assert!(matches!(again, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("store.redb"), vec![7; 100_000]).unwrap();
    let opened = EmbeddedStore::open(EmbeddedConfig::new(folder.path().join("store.redb"))).await;
    assert!(matches!(opened, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn a_slow_watcher_is_ended_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        watch_buffer: 8,
        ..EmbeddedConfig::new(folder.path().join("store.redb"))
    };
    let store = EmbeddedStore::open(config).await.unwrap();
    let from = store.revision().await.unwrap();
    let mut watch = store.watch("", from).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, from);
    // One commit each: more than the buffer holds.
    for index in 0..20 {
        store.create(&format!("k/{index}"), Bytes::new()).await.unwrap();
    }
    let mut seen = Vec::new();
    let end = loop {
        match watch.next().await.unwrap() {
            Ok(batch) => seen.extend(batch.events.iter().map(skep_store::Event::revision)),
            Err(error) => break error,
        }
    };
    assert!(matches!(end, StoreError::Lagged), "{end:?}");
    assert!(watch.next().await.is_none());
    assert_eq!(seen, (from + 1..=from + 8).collect::<Vec<_>>());
    // It goes on from the last that it saw.
    let mut watch = store.watch("", from + 8).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().events.len(), 12);
}

#[tokio::test]
async fn watches_end_when_the_store_closes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let mut watch = store.watch("", store.revision().await.unwrap()).await.unwrap();
    watch.next().await.unwrap().unwrap();
    drop(store);
    assert!(matches!(watch.next().await, Some(Err(StoreError::Closed))));
    assert!(watch.next().await.is_none());
    // The watch does not keep the file.
    open(&folder).await;
}

#[tokio::test]
async fn history_is_compacted_by_age() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        history: Duration::from_millis(200),
        ..EmbeddedConfig::new(folder.path().join("store.redb"))
    };
    let store = EmbeddedStore::open(config).await.unwrap();
    let first = store.create("a", Bytes::from("1")).await.unwrap();
    let last = store
        .compare_and_swap("a", first, Bytes::from("2"))
        .await
        .unwrap();
    store.list("", Some(first), None, None).await.unwrap();
    let compacted = async {
        while store.list("", Some(first), None, None).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), compacted)
        .await
        .expect("the history ends");
    assert_eq!(
        store
            .list("", Some(last), None, None)
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
}

#[tokio::test]
async fn history_is_bounded_in_revisions() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        history_revisions: 50,
        ..EmbeddedConfig::new(folder.path().join("store.redb"))
    };
    let store = EmbeddedStore::open(config).await.unwrap();
    let mut revision = store.create("a", Bytes::from("0")).await.unwrap();
    let first = revision;
    for index in 1..120 {
        revision = store
            .compare_and_swap("a", revision, Bytes::from(format!("{index}")))
            .await
            .unwrap();
    }
    let error = store.list("", Some(first), None, None).await.unwrap_err();
    let StoreError::Compacted { floor } = error else {
        panic!("{error:?}")
    };
    assert!(
        revision - floor <= 51 && revision - floor >= 40,
        "floor {floor} of {revision}"
    );
    let at_floor = store.list("", Some(floor), None, None).await.unwrap();
    assert_eq!(at_floor.entries[0].value, format!("{}", floor - first));
}

#[tokio::test]
async fn the_file_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    drop(open(&folder).await);
    assert_eq!(mode(), 0o600);
    // One that an earlier version left open to all is tightened.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&folder).await);
    assert_eq!(mode(), 0o600);
}

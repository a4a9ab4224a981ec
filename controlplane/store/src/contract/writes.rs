//! Create, compare-and-swap, delete.

use std::sync::Arc;

use bytes::Bytes;

use super::{bytes, within};
use crate::store::MAX_ENTRY_BYTES;
use crate::{Store, StoreError};

pub(super) async fn a_created_key_reads_back(store: Arc<dyn Store>) {
    let before = store.revision().await.unwrap();
    let revision = store.create("a", bytes("one")).await.unwrap();
    assert!(revision > before);
    let (entry, read_at) = store.get("a").await.unwrap();
    let entry = entry.unwrap();
    assert_eq!((entry.key.as_str(), &entry.value[..]), ("a", &b"one"[..]));
    assert_eq!((entry.create_revision, entry.mod_revision), (revision, revision));
    assert!(read_at >= revision);
    assert!(store.revision().await.unwrap() >= revision);
}

pub(super) async fn creating_an_existing_key_is_refused(store: Arc<dyn Store>) {
    let revision = store.create("a", bytes("one")).await.unwrap();
    let error = store.create("a", bytes("two")).await.unwrap_err();
    assert!(
        matches!(error, StoreError::AlreadyExists { revision: at } if at == revision),
        "{error:?}"
    );
    assert_eq!(store.get("a").await.unwrap().0.unwrap().value, bytes("one"));
}

pub(super) async fn swap_with_the_current_revision_replaces(store: Arc<dyn Store>) {
    let created = store.create("a", bytes("one")).await.unwrap();
    let swapped = store.compare_and_swap("a", created, bytes("two")).await.unwrap();
    assert!(swapped > created);
    let entry = store.get("a").await.unwrap().0.unwrap();
    assert_eq!(entry.value, bytes("two"));
    assert_eq!((entry.create_revision, entry.mod_revision), (created, swapped));
}

pub(super) async fn swap_with_a_stale_revision_conflicts(store: Arc<dyn Store>) {
    let created = store.create("a", bytes("one")).await.unwrap();
    let swapped = store.compare_and_swap("a", created, bytes("two")).await.unwrap();
    for wrong in [created, swapped + 1, 0] {
        let error = store
            .compare_and_swap("a", wrong, bytes("three"))
            .await
            .unwrap_err();
        let StoreError::Conflict { current } = error else {
            panic!("{error:?}")
        };
        assert_eq!(
            (current.value.clone(), current.mod_revision),
            (bytes("two"), swapped)
        );
        assert_eq!((current.key.as_str(), current.create_revision), ("a", created));
    }
}

pub(super) async fn swap_of_a_missing_key_is_not_found(store: Arc<dyn Store>) {
    for expected in [0, 1] {
        let error = store
            .compare_and_swap("a", expected, bytes("one"))
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::NotFound), "{error:?}");
    }
    assert!(store.get("a").await.unwrap().0.is_none());
}

pub(super) async fn delete_gives_the_last_value(store: Arc<dyn Store>) {
    let created = store.create("a", bytes("one")).await.unwrap();
    let swapped = store.compare_and_swap("a", created, bytes("two")).await.unwrap();
    let (deleted, entry) = store.delete("a", None).await.unwrap();
    assert!(deleted > swapped);
    assert_eq!(
        (entry.value, entry.mod_revision, entry.create_revision),
        (bytes("two"), swapped, created)
    );
    assert!(store.get("a").await.unwrap().0.is_none());
    assert!(matches!(store.delete("a", None).await, Err(StoreError::NotFound)));
    assert!(matches!(
        store.delete("a", Some(swapped)).await,
        Err(StoreError::NotFound)
    ));
}

pub(super) async fn delete_with_a_stale_revision_conflicts(store: Arc<dyn Store>) {
    let created = store.create("a", bytes("one")).await.unwrap();
    let swapped = store.compare_and_swap("a", created, bytes("two")).await.unwrap();
    let error = store.delete("a", Some(created)).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Conflict { current } if current.mod_revision == swapped),
        "{error:?}"
    );
    store.delete("a", Some(swapped)).await.unwrap();
    assert!(store.get("a").await.unwrap().0.is_none());
}

pub(super) async fn a_key_created_again_has_a_new_life(store: Arc<dyn Store>) {
    let first = store.create("a", bytes("one")).await.unwrap();
    store.delete("a", Some(first)).await.unwrap();
    let second = store.create("a", bytes("two")).await.unwrap();
    let entry = store.get("a").await.unwrap().0.unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision), (second, second));
    assert!(matches!(
        store.compare_and_swap("a", first, bytes("x")).await,
        Err(StoreError::Conflict { .. })
    ));
}

pub(super) async fn revisions_grow_over_all_keys(store: Arc<dyn Store>) {
    let mut last = store.revision().await.unwrap();
    for index in 0..20 {
        let revision = store.create(&format!("key/{index}"), bytes("x")).await.unwrap();
        assert!(revision > last, "{revision} does not follow {last}");
        last = revision;
    }
    assert_eq!(store.revision().await.unwrap(), last);
}

pub(super) async fn refused_writes_leave_the_revision(store: Arc<dyn Store>) {
    let revision = store.create("a", bytes("one")).await.unwrap();
    store.create("a", bytes("two")).await.unwrap_err();
    store
        .compare_and_swap("a", revision + 7, bytes("two"))
        .await
        .unwrap_err();
    store.delete("b", None).await.unwrap_err();
    assert_eq!(store.revision().await.unwrap(), revision);
}

pub(super) async fn of_many_creators_one_wins(store: Arc<dyn Store>) {
    for round in 0..10 {
        let key = format!("race/{round}");
        let wins = race(&store, 32, move |store, racer| {
            let key = key.clone();
            async move { store.create(&key, bytes(&format!("{racer}"))).await }
        })
        .await;
        assert_eq!(wins.len(), 1, "round {round}");
        let entry = store.get(&format!("race/{round}")).await.unwrap().0.unwrap();
        assert_eq!(
            (entry.value, entry.mod_revision),
            (bytes(&format!("{}", wins[0].0)), wins[0].1)
        );
    }
}

pub(super) async fn of_many_swappers_one_wins(store: Arc<dyn Store>) {
    let mut current = store.create("race", bytes("start")).await.unwrap();
    for round in 0..20 {
        let wins = race(&store, 64, move |store, racer| async move {
            store
                .compare_and_swap("race", current, bytes(&format!("{racer}")))
                .await
        })
        .await;
        assert_eq!(wins.len(), 1, "round {round}");
        let entry = store.get("race").await.unwrap().0.unwrap();
        assert_eq!(
            (entry.value, entry.mod_revision),
            (bytes(&format!("{}", wins[0].0)), wins[0].1)
        );
        current = entry.mod_revision;
    }
}

/// The racers (with their revisions) that were told of success; all others must have been refused.
async fn race<F>(
    store: &Arc<dyn Store>,
    racers: usize,
    attempt: impl Fn(Arc<dyn Store>, usize) -> F,
) -> Vec<(usize, u64)>
where
    F: Future<Output = Result<u64, StoreError>> + Send + 'static,
{
    let racers: Vec<_> = (0..racers)
        .map(|racer| {
            let attempt = attempt(store.clone(), racer);
            tokio::spawn(async move { (racer, within("a racer", attempt).await) })
        })
        .collect();
    let mut wins = Vec::new();
    for racer in racers {
        match racer.await.unwrap() {
            (racer, Ok(revision)) => wins.push((racer, revision)),
            (_, Err(StoreError::Conflict { .. } | StoreError::AlreadyExists { .. })) => {}
            (_, Err(error)) => panic!("{error:?}"),
        }
    }
    wins
}

pub(super) async fn concurrent_increments_are_all_counted(store: Arc<dyn Store>) {
    const WRITERS: u64 = 8;
    const INCREMENTS: u64 = 10;
    store.create("counter", bytes("0")).await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut entry = store.get("counter").await.unwrap().0.unwrap();
                let mut done = 0;
                while done < INCREMENTS {
                    let count: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
                    let next = bytes(&(count + 1).to_string());
                    match store
                        .compare_and_swap("counter", entry.mod_revision, next.clone())
                        .await
                    {
                        Ok(revision) => {
                            done += 1;
                            (entry.value, entry.mod_revision) = (next, revision);
                        }
                        Err(StoreError::Conflict { current }) => entry = *current,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        within("a writer", writer).await.unwrap();
    }
    let entry = store.get("counter").await.unwrap().0.unwrap();
    assert_eq!(entry.value, bytes(&(WRITERS * INCREMENTS).to_string()));
}

pub(super) async fn odd_keys_and_values_survive(store: Arc<dyn Store>) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let values = [
        Bytes::new(),
        Bytes::from(every_byte),
        Bytes::from(vec![0xff; 300_000]),
    ];
    let keys = ["/a//b", "ключ/ß", "with space\u{1}", "\u{10ffff}"];
    for key in keys {
        for value in &values {
            let revision = store.create(key, value.clone()).await.unwrap();
            assert_eq!(store.get(key).await.unwrap().0.unwrap().value, value);
            store.delete(key, Some(revision)).await.unwrap();
        }
    }
}

pub(super) async fn an_oversized_entry_is_refused(store: Arc<dyn Store>) {
    let largest = Bytes::from(vec![7; MAX_ENTRY_BYTES - 1]);
    store.create("a", largest.clone()).await.unwrap();
    assert_eq!(store.get("a").await.unwrap().0.unwrap().value, largest);
    let error = store
        .create("b", Bytes::from(vec![7; MAX_ENTRY_BYTES]))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error:?}");
}

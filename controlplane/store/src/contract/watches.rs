//! Watches: nothing missing, nothing twice, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{bytes, events_upto, next_batch, within};
use crate::{Entry, Event, Store, StoreError};

pub(super) async fn a_watch_replays_and_goes_on(store: Arc<dyn Store>) {
    let from = store.create("w/0", bytes("before")).await.unwrap();
    let past = store.create("w/1", bytes("past")).await.unwrap();
    let mut watch = store.watch("w/", from).await.unwrap();
    let events = events_upto(&mut watch, past).await;
    assert_eq!(events.iter().map(Event::revision).collect::<Vec<_>>(), [past]);
    for index in 2..6 {
        let live = store.create(&format!("w/{index}"), bytes("live")).await.unwrap();
        let events = events_upto(&mut watch, live).await;
        assert_eq!(events.iter().map(Event::revision).collect::<Vec<_>>(), [live]);
    }
}

pub(super) async fn a_watch_sees_only_its_prefix(store: Arc<dyn Store>) {
    let from = store.revision().await.unwrap();
    let mut watch = store.watch("w/", from).await.unwrap();
    store.create("w", bytes("x")).await.unwrap();
    store.create("v/a", bytes("x")).await.unwrap();
    let inside = store.create("w/a", bytes("x")).await.unwrap();
    let last = store.create("w0", bytes("x")).await.unwrap();
    let events = events_upto(&mut watch, last).await;
    assert_eq!(events.iter().map(Event::revision).collect::<Vec<_>>(), [inside]);
    let mut replay = store.watch("w/", from).await.unwrap();
    assert_eq!(events_upto(&mut replay, last).await, events);
}

pub(super) async fn a_watch_tells_progress_at_once(store: Arc<dyn Store>) {
    let from = store.create("x", bytes("x")).await.unwrap();
    let mut watch = store.watch("w/", from).await.unwrap();
    let batch = next_batch(&mut watch).await.unwrap();
    assert!(batch.events.is_empty() && batch.revision >= from);
}

pub(super) async fn a_quiet_prefix_tells_progress(store: Arc<dyn Store>) {
    let from = store.revision().await.unwrap();
    let mut watch = store.watch("quiet/", from).await.unwrap();
    for index in 0..5 {
        let elsewhere = store.create(&format!("loud/{index}"), bytes("x")).await.unwrap();
        assert!(events_upto(&mut watch, elsewhere).await.is_empty());
    }
}

pub(super) async fn events_carry_what_was_before(store: Arc<dyn Store>) {
    let from = store.revision().await.unwrap();
    let mut live = store.watch("e/", from).await.unwrap();
    let created = store.create("e/a", bytes("one")).await.unwrap();
    let swapped = store
        .compare_and_swap("e/a", created, bytes("two"))
        .await
        .unwrap();
    let (deleted, _) = store.delete("e/a", None).await.unwrap();
    let entry = |value: &str, mod_revision| Entry {
        key: "e/a".to_owned(),
        value: bytes(value),
        create_revision: created,
        mod_revision,
    };
    let wanted = [
        Event::Put {
            entry: entry("one", created),
            created: true,
            previous: None,
        },
        Event::Put {
            entry: entry("two", swapped),
            created: false,
            previous: Some(bytes("one")),
        },
        Event::Delete {
            key: "e/a".to_owned(),
            revision: deleted,
            previous: entry("two", swapped),
        },
    ];
    assert_eq!(events_upto(&mut live, deleted).await, wanted);
    let mut replay = store.watch("e/", from).await.unwrap();
    assert_eq!(events_upto(&mut replay, deleted).await, wanted);
}

pub(super) async fn a_long_history_has_no_gap(store: Arc<dyn Store>) {
    const WRITES: usize = 1500;
    let from = store.create("h", bytes("0")).await.unwrap();
    let writers: Vec<_> = (0..10)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for index in 0..WRITES / 10 {
                    store
                        .create(&format!("h/{writer}/{index}"), bytes("x"))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        within("a writer", writer).await.unwrap();
    }
    let last = store.revision().await.unwrap();
    let mut watch = store.watch("h/", from).await.unwrap();
    let revisions: Vec<_> = events_upto(&mut watch, last)
        .await
        .iter()
        .map(Event::revision)
        .collect();
    assert_eq!(revisions, (from + 1..=last).collect::<Vec<_>>());
}

pub(super) async fn watchers_under_load_agree_with_the_list(store: Arc<dyn Store>) {
    const WRITERS: usize = 8;
    let from = store.revision().await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(churn(store.clone(), writer)))
        .collect();
    // Watchers that begin at different points of the load, each following from where it began.
    let mut watchers = Vec::new();
    for _ in 0..4 {
        let base = store.list("c/", None, None, None).await.unwrap();
        watchers.push((base.clone(), store.watch("c/", base.revision).await.unwrap()));
        tokio::task::yield_now().await;
    }
    for writer in writers {
        within("a writer", writer).await.unwrap();
    }
    let last = store.revision().await.unwrap();
    let wanted = state(&store.list("c/", None, None, None).await.unwrap().entries);
    watchers.push((
        store.list("c/", Some(from), None, None).await.unwrap(),
        store.watch("c/", from).await.unwrap(),
    ));
    for (base, mut watch) in watchers {
        let mut state = state(&base.entries);
        for event in events_upto(&mut watch, last).await {
            follow(&mut state, event);
        }
        assert_eq!(state, wanted, "a watcher from {} went another way", base.revision);
    }
}

type State = BTreeMap<String, (Bytes, u64)>;

fn state(entries: &[Entry]) -> State {
    entries
        .iter()
        .map(|entry| (entry.key.clone(), (entry.value.clone(), entry.mod_revision)))
        .collect()
}

fn follow(state: &mut State, event: Event) {
    match event {
        Event::Put {
            entry,
            created,
            previous,
        } => {
            let before = state.insert(entry.key, (entry.value, entry.mod_revision));
            assert_eq!(before.as_ref().map(|(value, _)| value), previous.as_ref());
            assert_eq!(before.is_none(), created);
        }
        Event::Delete { key, previous, .. } => {
            assert_eq!(state.remove(&key), Some((previous.value, previous.mod_revision)));
        }
    }
}

/// Creates, changes and deletes keys of its own and some that all share.
async fn churn(store: Arc<dyn Store>, writer: usize) {
    for index in 0..30 {
        let key = if index % 3 == 0 {
            format!("c/shared/{}", index % 5)
        } else {
            format!("c/{writer}/{}", index % 4)
        };
        let value = bytes(&format!("{writer}/{index}"));
        let outcome = match store.get(&key).await.unwrap().0 {
            None => store.create(&key, value).await.map(drop),
            Some(entry) if index % 4 == 0 => store.delete(&key, Some(entry.mod_revision)).await.map(drop),
            Some(entry) => store
                .compare_and_swap(&key, entry.mod_revision, value)
                .await
                .map(drop),
        };
        match outcome {
            Ok(()) => {}
            Err(StoreError::AlreadyExists { .. } | StoreError::Conflict { .. } | StoreError::NotFound) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

pub(super) async fn a_watch_from_ahead_of_the_store_is_refused(store: Arc<dyn Store>) {
    let current = store.create("a", bytes("x")).await.unwrap();
    let error = store.watch("", current + 1).await.unwrap_err();
    assert!(matches!(error, StoreError::FutureRevision { .. }), "{error:?}");
    let mut watch = store.watch("", current).await.unwrap();
    let next = store.create("b", bytes("x")).await.unwrap();
    assert_eq!(events_upto(&mut watch, next).await.len(), 1);
}

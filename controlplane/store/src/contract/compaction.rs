//! History ends at the floor, and everything from the floor on is whole.

use std::sync::Arc;

use super::{bytes, events_upto, expected, next_batch, pairs};
use crate::{Event, Store, StoreError};

/// Writes: a1, b1, a2, b deleted, c1; gives their revisions.
async fn history(store: &Arc<dyn Store>) -> [u64; 5] {
    let a1 = store.create("h/a", bytes("a1")).await.unwrap();
    let b1 = store.create("h/b", bytes("b1")).await.unwrap();
    let a2 = store.compare_and_swap("h/a", a1, bytes("a2")).await.unwrap();
    let (b_deleted, _) = store.delete("h/b", None).await.unwrap();
    let c1 = store.create("h/c", bytes("c1")).await.unwrap();
    [a1, b1, a2, b_deleted, c1]
}

pub(super) async fn lists_before_the_floor_are_refused(store: Arc<dyn Store>) {
    let [a1, b1, a2, ..] = history(&store).await;
    store.compact(a2).await.unwrap();
    for before in [a1, b1] {
        let error = store.list("h/", Some(before), None, None).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Compacted { floor } if floor == a2),
            "{error:?}"
        );
    }
}

pub(super) async fn watches_before_the_floor_are_refused_or_whole(store: Arc<dyn Store>) {
    let revisions = history(&store).await;
    let [a1, b1, a2, _, c1] = revisions;
    store.compact(a2).await.unwrap();
    for before in [a1, b1] {
        let error = match store.watch("h/", before).await {
            Err(error) => error,
            Ok(mut watch) => match next_batch(&mut watch).await {
                Err(error) => error,
                // The engine had not fed these changes to anyone yet: then it must feed them all.
                Ok(batch) => {
                    let mut seen = batch.events;
                    seen.extend(if batch.revision < c1 {
                        events_upto(&mut watch, c1).await
                    } else {
                        Vec::new()
                    });
                    let seen: Vec<_> = seen.iter().map(Event::revision).collect();
                    let wanted: Vec<_> = revisions
                        .into_iter()
                        .filter(|revision| *revision > before)
                        .collect();
                    assert_eq!(seen, wanted);
                    continue;
                }
            },
        };
        assert!(
            matches!(error, StoreError::Compacted { floor } if floor == a2),
            "{error:?}"
        );
    }
}

pub(super) async fn the_floor_itself_reads_whole(store: Arc<dyn Store>) {
    let [_, _, a2, b_deleted, c1] = history(&store).await;
    for floor in [a2, b_deleted] {
        store.compact(floor).await.unwrap();
        let listing = store.list("h/", Some(floor), None, None).await.unwrap();
        let wanted: &[_] = if floor == a2 {
            &[("h/a", "a2"), ("h/b", "b1")]
        } else {
            &[("h/a", "a2")]
        };
        assert_eq!(pairs(&listing), expected(wanted));
        let mut watch = store.watch("h/", floor).await.unwrap();
        let revisions: Vec<_> = events_upto(&mut watch, c1)
            .await
            .iter()
            .map(Event::revision)
            .collect();
        assert_eq!(
            revisions,
            if floor == a2 {
                vec![b_deleted, c1]
            } else {
                vec![c1]
            }
        );
    }
}

pub(super) async fn current_values_survive(store: Arc<dyn Store>) {
    let [a1, _, a2, _, c1] = history(&store).await;
    store.compact(c1).await.unwrap();
    let listing = store.list("h/", None, None, None).await.unwrap();
    assert_eq!(pairs(&listing), expected(&[("h/a", "a2"), ("h/c", "c1")]));
    assert_eq!(
        (
            listing.entries[0].create_revision,
            listing.entries[0].mod_revision
        ),
        (a1, a2)
    );
    let next = store.compare_and_swap("h/a", a2, bytes("a3")).await.unwrap();
    let mut watch = store.watch("h/", c1).await.unwrap();
    let events = events_upto(&mut watch, next).await;
    assert!(matches!(&events[..], [Event::Put { previous: Some(value), .. }] if *value == bytes("a2")));
    store.compact(next).await.unwrap();
    assert_eq!(store.get("h/a").await.unwrap().0.unwrap().value, bytes("a3"));
    assert_eq!(store.get("h/c").await.unwrap().0.unwrap().value, bytes("c1"));
}

pub(super) async fn compacting_to_less_does_nothing(store: Arc<dyn Store>) {
    let [a1, _, a2, ..] = history(&store).await;
    store.compact(a2).await.unwrap();
    store.compact(a1).await.unwrap();
    store.compact(a2).await.unwrap();
    assert!(matches!(
        store.list("h/", Some(a1), None, None).await,
        Err(StoreError::Compacted { .. })
    ));
    store.list("h/", Some(a2), None, None).await.unwrap();
}

pub(super) async fn compacting_ahead_of_the_store_is_refused(store: Arc<dyn Store>) {
    let [.., c1] = history(&store).await;
    let error = store.compact(c1 + 1).await.unwrap_err();
    assert!(matches!(error, StoreError::FutureRevision { .. }), "{error:?}");
}

pub(super) async fn a_watch_that_runs_survives(store: Arc<dyn Store>) {
    let from = store.revision().await.unwrap();
    let mut watch = store.watch("h/", from).await.unwrap();
    let [.., c1] = history(&store).await;
    assert_eq!(events_upto(&mut watch, c1).await.len(), 5);
    store.compact(c1).await.unwrap();
    let next = store.create("h/d", bytes("d1")).await.unwrap();
    assert_eq!(events_upto(&mut watch, next).await.len(), 1);
}

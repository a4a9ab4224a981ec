//! Get and list, now and at old revisions.

use std::sync::Arc;

use super::{bytes, expected, pairs};
use crate::{Store, StoreError};

pub(super) async fn a_missing_key_reads_as_none(store: Arc<dyn Store>) {
    let revision = store.create("ab", bytes("x")).await.unwrap();
    for missing in ["a", "abc", "b"] {
        let (entry, read_at) = store.get(missing).await.unwrap();
        assert!(entry.is_none());
        assert!(read_at >= revision);
    }
}

pub(super) async fn a_list_is_sorted_and_ends_with_its_prefix(store: Arc<dyn Store>) {
    for key in [
        "pods/b", "pods0", "pods", "pods/a", "pods/ä", "pods/a/c", "pod", "q",
    ] {
        store.create(key, bytes(key)).await.unwrap();
    }
    let listing = store.list("pods/", None, None, None).await.unwrap();
    let keys: Vec<_> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["pods/a", "pods/a/c", "pods/b", "pods/ä"]);
    assert!(!listing.more);
    assert_eq!(listing.revision, store.revision().await.unwrap());
    let all = store.list("", None, None, None).await.unwrap();
    assert_eq!(all.entries.len(), 8);
    let none = store.list("r", None, None, None).await.unwrap();
    assert!(none.entries.is_empty() && !none.more && none.revision == listing.revision);
}

pub(super) async fn pages_at_one_revision_fit_together(store: Arc<dyn Store>) {
    for index in 0..10 {
        store.create(&format!("k/{index}"), bytes("old")).await.unwrap();
    }
    let first = store.list("k/", None, None, Some(4)).await.unwrap();
    assert!(first.more && first.entries.len() == 4);
    // What happens meanwhile does not show in the next pages.
    store.delete("k/5", None).await.unwrap();
    store.create("k/55", bytes("new")).await.unwrap();
    let revision = store.get("k/6").await.unwrap().0.unwrap().mod_revision;
    store
        .compare_and_swap("k/6", revision, bytes("new"))
        .await
        .unwrap();
    let second = store
        .list("k/", Some(first.revision), Some("k/3"), Some(4))
        .await
        .unwrap();
    assert_eq!(
        pairs(&second),
        expected(&[("k/4", "old"), ("k/5", "old"), ("k/6", "old"), ("k/7", "old")])
    );
    assert!(second.more);
    assert_eq!(second.revision, first.revision);
    let third = store
        .list("k/", Some(first.revision), Some("k/7"), Some(4))
        .await
        .unwrap();
    assert_eq!(pairs(&third), expected(&[("k/8", "old"), ("k/9", "old")]));
    assert!(!third.more);
}

pub(super) async fn more_is_exact_at_the_edge(store: Arc<dyn Store>) {
    for key in ["k/a", "k/b", "l"] {
        store.create(key, bytes("x")).await.unwrap();
    }
    let listing = store.list("k/", None, None, Some(2)).await.unwrap();
    assert!(listing.entries.len() == 2 && !listing.more);
    let listing = store.list("k/", None, None, Some(1)).await.unwrap();
    assert!(listing.entries.len() == 1 && listing.more);
    let listing = store.list("k/", None, Some("k/b"), Some(1)).await.unwrap();
    assert!(listing.entries.is_empty() && !listing.more);
    // A place to go on that lies before the prefix is the beginning.
    let listing = store.list("k/", None, Some("a"), None).await.unwrap();
    assert_eq!(listing.entries.len(), 2);
}

/// Writes some history and gives the revisions after each step.
async fn history(store: &Arc<dyn Store>) -> [u64; 5] {
    let created = store.create("h/a", bytes("a1")).await.unwrap();
    let second = store.create("h/b", bytes("b1")).await.unwrap();
    let swapped = store.compare_and_swap("h/a", created, bytes("a2")).await.unwrap();
    let (deleted, _) = store.delete("h/b", None).await.unwrap();
    let again = store.create("h/b", bytes("b2")).await.unwrap();
    [created, second, swapped, deleted, again]
}

pub(super) async fn a_list_at_an_old_revision_shows_what_was(store: Arc<dyn Store>) {
    let before = store.revision().await.unwrap();
    let [created, second, swapped, deleted, again] = history(&store).await;
    let at = [
        (before, vec![]),
        (created, vec![("h/a", "a1")]),
        (second, vec![("h/a", "a1"), ("h/b", "b1")]),
        (swapped, vec![("h/a", "a2"), ("h/b", "b1")]),
        (deleted, vec![("h/a", "a2")]),
        (again, vec![("h/a", "a2"), ("h/b", "b2")]),
    ];
    for (revision, wanted) in at {
        let listing = store.list("h/", Some(revision), None, None).await.unwrap();
        assert_eq!(pairs(&listing), expected(&wanted), "at {revision}");
        assert_eq!(listing.revision, revision);
    }
    let listing = store.list("h/", Some(swapped), None, None).await.unwrap();
    let entry = &listing.entries[0];
    assert_eq!((entry.create_revision, entry.mod_revision), (created, swapped));
}

pub(super) async fn pages_of_an_old_revision_fit_together(store: Arc<dyn Store>) {
    let [_, _, swapped, ..] = history(&store).await;
    let first = store.list("h/", Some(swapped), None, Some(1)).await.unwrap();
    assert_eq!((pairs(&first), first.more), (expected(&[("h/a", "a2")]), true));
    let second = store
        .list("h/", Some(swapped), Some("h/a"), Some(1))
        .await
        .unwrap();
    assert_eq!((pairs(&second), second.more), (expected(&[("h/b", "b1")]), false));
}

pub(super) async fn a_list_ahead_of_the_store_is_refused(store: Arc<dyn Store>) {
    let current = store.create("a", bytes("x")).await.unwrap();
    let error = store.list("", Some(current + 1), None, None).await.unwrap_err();
    assert!(
        matches!(error, StoreError::FutureRevision { requested, current: at } if (requested, at) == (current + 1, current)),
        "{error:?}"
    );
}

//! The contract of [`Store`], as cases that every engine runs.
//!
//! Each case wants a store without keys; its revision and floor may be anything. A case panics when the contract is
//! broken. An engine's test walks [`cases`]; with etcd all cases share one server and differ by key prefix.

mod compaction;
mod reads;
mod watches;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;

use crate::{Event, Store, StoreError, Watch, WatchBatch};

/// No single step of a case takes longer.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// One rule of the contract.
pub struct Case {
    /// The behaviour, as a test's name.
    pub name: &'static str,
    /// Checks it on an empty store.
    pub check: fn(Arc<dyn Store>) -> BoxFuture<'static, ()>,
}

macro_rules! cases {
    ($($module:ident :: $name:ident),* $(,)?) => {
        /// Every rule.
        pub fn cases() -> Vec<Case> {
            vec![$(Case { name: stringify!($name), check: |store| Box::pin($module::$name(store)) }),*]
        }
    };
}

cases![
    writes::a_created_key_reads_back,
    writes::creating_an_existing_key_is_refused,
    writes::swap_with_the_current_revision_replaces,
    writes::swap_with_a_stale_revision_conflicts,
    writes::swap_of_a_missing_key_is_not_found,
    writes::delete_gives_the_last_value,
    writes::delete_with_a_stale_revision_conflicts,
    writes::a_key_created_again_has_a_new_life,
    writes::revisions_grow_over_all_keys,
    writes::refused_writes_leave_the_revision,
    writes::of_many_creators_one_wins,
    writes::of_many_swappers_one_wins,
    writes::concurrent_increments_are_all_counted,
    writes::odd_keys_and_values_survive,
    writes::an_oversized_entry_is_refused,
    reads::a_missing_key_reads_as_none,
    reads::a_list_is_sorted_and_ends_with_its_prefix,
    reads::pages_at_one_revision_fit_together,
    reads::more_is_exact_at_the_edge,
    reads::a_list_at_an_old_revision_shows_what_was,
    reads::pages_of_an_old_revision_fit_together,
    reads::a_list_ahead_of_the_store_is_refused,
    watches::a_watch_replays_and_goes_on,
    watches::a_watch_sees_only_its_prefix,
    watches::a_watch_tells_progress_at_once,
    watches::a_quiet_prefix_tells_progress,
    watches::events_carry_what_was_before,
    watches::a_long_history_has_no_gap,
    watches::watchers_under_load_agree_with_the_list,
    watches::a_watch_from_ahead_of_the_store_is_refused,
    compaction::lists_before_the_floor_are_refused,
    compaction::watches_before_the_floor_are_refused_or_whole,
    compaction::the_floor_itself_reads_whole,
    compaction::current_values_survive,
    compaction::compacting_to_less_does_nothing,
    compaction::compacting_ahead_of_the_store_is_refused,
    compaction::a_watch_that_runs_survives,
];

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(STEP_LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took more than {STEP_LIMIT:?}"),
    }
}

async fn next_batch(watch: &mut Watch) -> Result<WatchBatch, StoreError> {
    within("the next batch", watch.next())
        .await
        .expect("a watch ends only after an error")
}

/// Reads batches until the watch has told that everything up to `revision` was sent.
async fn events_upto(watch: &mut Watch, revision: u64) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut reached = 0;
    while reached < revision {
        let batch = next_batch(watch).await.unwrap();
        assert!(
            batch.revision >= reached,
            "progress went back from {reached} to {}",
            batch.revision
        );
        for event in batch.events {
            assert!(
                event.revision() <= batch.revision,
                "an event is ahead of its batch"
            );
            assert!(
                event.revision() > reached,
                "revision {} came late or twice",
                event.revision()
            );
            if let Some(last) = events.last() {
                assert!(last.revision() <= event.revision(), "events are out of order");
            }
            events.push(event);
        }
        reached = batch.revision;
    }
    events
}

/// Keys and values of a listing, readable in a failed assertion.
fn pairs(listing: &crate::Listing) -> Vec<(String, String)> {
    let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
    listing
        .entries
        .iter()
        .map(|entry| (entry.key.clone(), text(&entry.value)))
        .collect()
}

fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

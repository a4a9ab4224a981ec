//! [`Reservation`]: keys in the store that keep other servers from giving out the same addresses and ports.
//!
//! A server claims what its cache shows as free, reserves it, and looks once more. A Service with it that another server
//! wrote before is in the cache by then; one that another server is about to write is not possible, for that server
//! would hold the key. So a reservation lasts no longer than the write that it is for.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use skep_store::{Store, StoreError};
use tracing::warn;

use super::Resources;

/// Reservations lie beside the registry's objects.
const ROOT: &str = "/reservations/";
/// The server that made an older one is gone: no write takes so long.
const STALE_AFTER: Duration = Duration::from_secs(5 * 60);

/// The keys, with the revisions that wrote them.
#[derive(Debug, Default)]
pub(crate) struct Reservation(Vec<(String, u64)>);

impl Reservation {
    /// Reserves all of it, or gives `None` when another server has reserved some of it.
    pub(crate) async fn make(
        store: &dyn Store,
        resources: &Resources,
        now: Timestamp,
    ) -> Result<Option<Self>, StoreError> {
        let mut made = Self::default();
        for key in keys(resources) {
            match reserve(store, &key, now).await {
                Ok(Some(revision)) => made.0.push((key, revision)),
                refused => {
                    made.release(store).await;
                    return refused.map(|_| None);
                }
            }
        }
        Ok(Some(made))
    }

    pub(crate) async fn release(self, store: &dyn Store) {
        for (key, revision) in self.0 {
            if let Err(error) = store.delete(&key, Some(revision)).await {
                warn!(
                    key,
                    error = &error as &dyn std::error::Error,
                    "a reservation stays until it is stale"
                );
            }
        }
    }
}

fn keys(resources: &Resources) -> Vec<String> {
    let addresses = resources
        .addresses
        .iter()
        .map(|address| format!("{ROOT}address/{address}"));
    let ports = resources.ports.iter().map(|port| format!("{ROOT}port/{port}"));
    addresses.chain(ports).collect()
}

async fn reserve(store: &dyn Store, key: &str, now: Timestamp) -> Result<Option<u64>, StoreError> {
    let value = Bytes::from(now.as_second().to_string());
    match store.create(key, value.clone()).await {
        Err(StoreError::AlreadyExists { .. }) => {}
        outcome => return outcome.map(Some),
    }
    let (Some(entry), _) = store.get(key).await? else {
        return Ok(None);
    };
    if !is_stale(&entry.value, now) {
        return Ok(None);
    }
    match store.compare_and_swap(key, entry.mod_revision, value).await {
        Err(StoreError::Conflict { .. } | StoreError::NotFound) => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// What is no time was not written by a server that could still hold it.
fn is_stale(value: &[u8], now: Timestamp) -> bool {
    let made = std::str::from_utf8(value)
        .ok()
        .and_then(|second| second.parse::<i64>().ok());
    made.is_none_or(|made| now.as_second().saturating_sub(made).unsigned_abs() > STALE_AFTER.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_store::EmbeddedStore;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn wanted(ports: &[u16]) -> Resources {
        Resources {
            addresses: vec!["10.0.0.1".parse().unwrap()],
            ports: ports.to_vec(),
        }
    }

    #[tokio::test]
    async fn one_of_two_reserves_and_a_released_one_leaves_nothing() {
        let store = EmbeddedStore::in_memory().await.unwrap();
        let make = async |ports: &[u16], second| {
            Reservation::make(&store, &wanted(ports), at(second))
                .await
                .unwrap()
        };
        let first = make(&[1, 2], 0).await.unwrap();
        assert!(make(&[3], 10).await.is_none(), "the address is the first one's");
        first.release(&store).await;
        assert!(store.list("", None, None, None).await.unwrap().entries.is_empty());
        make(&[2], 20).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_dead_server_reserved_is_taken_over() {
        let store = EmbeddedStore::in_memory().await.unwrap();
        let make = async |second| {
            Reservation::make(&store, &wanted(&[1]), at(second))
                .await
                .unwrap()
        };
        let dead = make(0).await.unwrap();
        assert!(make(300).await.is_none());
        let mine = make(301).await.unwrap();
        // It was not dead after all: it does not take away what is no longer its own.
        dead.release(&store).await;
        assert!(make(302).await.is_none());
        mine.release(&store).await;
        make(303).await.unwrap();
    }
}

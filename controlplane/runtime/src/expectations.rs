//! Expectations: what a controller has asked the API for and has not yet seen in its informers. Until they are met, what
//! the store shows is too old to count by. As upstream's ControllerExpectations and UIDTrackingControllerExpectations.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skep_api::ObjectKey;
use tokio::time::Instant;

/// After so long an expectation is given up: the event was lost, or never to come.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

struct Expected {
    creations: usize,
    /// By uid, since a deletion may be seen as an update first and as a deletion again.
    deletions: HashSet<String>,
    since: Instant,
}

/// Expectations of one controller, by the key of the owner. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Expectations {
    expected: Arc<Mutex<HashMap<ObjectKey, Expected>>>,
}

impl fmt::Debug for Expectations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expectations")
            .field("owners", &self.expected.lock().len())
            .finish()
    }
}

impl Expectations {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn change<R>(&self, owner: &ObjectKey, change: impl FnOnce(&mut Expected) -> R) -> R {
        let mut all = self.expected.lock();
        let expected = all.entry(owner.clone()).or_insert_with(|| Expected {
            creations: 0,
            deletions: HashSet::new(),
            since: Instant::now(),
        });
        let result = change(expected);
        if expected.creations == 0 && expected.deletions.is_empty() {
            all.remove(owner);
        }
        result
    }

    /// Call before asking for `count` more objects.
    pub fn expect_creations(&self, owner: &ObjectKey, count: usize) {
        self.change(owner, |expected| {
            expected.creations += count;
            expected.since = Instant::now();
        });
    }

    /// Call before asking for the deletion of the objects with these uids.
    pub fn expect_deletions(&self, owner: &ObjectKey, uids: impl IntoIterator<Item = String>) {
        self.change(owner, |expected| {
            expected.deletions.extend(uids);
            expected.since = Instant::now();
        });
    }

    /// An object was seen to appear, or asking for it failed.
    pub fn creation_observed(&self, owner: &ObjectKey) {
        self.change(owner, |expected| {
            expected.creations = expected.creations.saturating_sub(1)
        });
    }

    /// An object was seen to go (or to begin to), or asking for it failed. Seeing it twice counts once.
    pub fn deletion_observed(&self, owner: &ObjectKey, uid: &str) {
        self.change(owner, |expected| expected.deletions.remove(uid));
    }

    /// Whether the store can be trusted for this owner: everything asked for was seen, or it was too long ago.
    #[must_use]
    pub fn satisfied(&self, owner: &ObjectKey) -> bool {
        self.expected
            .lock()
            .get(owner)
            .is_none_or(|expected| expected.since.elapsed() > TIMEOUT)
    }

    /// The owner is gone.
    pub fn forget(&self, owner: &ObjectKey) {
        self.expected.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> ObjectKey {
        ObjectKey {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn satisfied_once_everything_was_seen() {
        let expectations = Expectations::new();
        let owner = owner();
        assert!(expectations.satisfied(&owner));
        expectations.expect_creations(&owner, 2);
        expectations.expect_deletions(&owner, ["a".to_owned()]);
        expectations.creation_observed(&owner);
        expectations.deletion_observed(&owner, "a");
        expectations.deletion_observed(&owner, "a");
        assert!(!expectations.satisfied(&owner));
        expectations.creation_observed(&owner);
        assert!(expectations.satisfied(&owner));
        expectations.creation_observed(&owner);
        expectations.expect_creations(&owner, 1);
        assert!(
            !expectations.satisfied(&owner),
            "an unexpected object pays for no later one"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn given_up_after_a_while() {
        let expectations = Expectations::new();
        expectations.expect_creations(&owner(), 1);
        tokio::time::advance(TIMEOUT + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&owner()));
    }
}

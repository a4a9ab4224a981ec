//! [`Log`]: the changes of one resource over the last minutes, in revision order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use skep_api::Revision;
use tokio::time::Instant;

use super::Objects;
use crate::SharedObject;

/// One change of one object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) path: Arc<str>,
    pub(crate) revision: Revision,
    /// The object after the change; for a deletion the last state, at the deletion's revision.
    pub(crate) object: SharedObject,
    /// The object before the change; `None` when it was created.
    pub(crate) previous: Option<SharedObject>,
    pub(crate) deleted: bool,
}

impl Change {
    /// The size of both states as JSON: what the log may be the last to hold.
    fn bytes(&self) -> usize {
        let previous = self.previous.as_ref().map_or(0, |previous| previous.json().len());
        self.object.json().len() + previous
    }
}

/// What a reader of the log gets.
#[derive(Debug)]
pub(crate) enum LogRead {
    /// Changes from the asked-for position on, and the position after them.
    Changes(Vec<Change>, u64),
    /// The log has moved past the position; its floor is this revision.
    Forgotten(u64),
}

pub(crate) struct Log {
    entries: VecDeque<(Instant, Change)>,
    /// What the entries hold, see [`Change::bytes`].
    bytes: usize,
    /// The position of the first entry; positions only rise.
    start: u64,
    /// All changes after this revision are in the log.
    floor: u64,
    history: Duration,
    limit: usize,
    limit_bytes: usize,
}

impl Log {
    pub(super) fn new(history: Duration, limit: usize, limit_bytes: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            start: 0,
            floor: 0,
            history,
            limit,
            limit_bytes,
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    /// Forgets everything: what comes after `revision` will be complete.
    pub(super) fn forget(&mut self, revision: u64) {
        // One position is skipped so that no watcher takes the new end for its own place.
        self.start = self.end() + 1;
        self.entries.clear();
        self.bytes = 0;
        self.floor = revision;
    }

    pub(super) fn push(&mut self, change: Change, now: Instant) -> &Change {
        self.prune(now);
        let bytes = change.bytes();
        while self.entries.len() >= self.limit || self.bytes + bytes > self.limit_bytes {
            if !self.forget_oldest() {
                break;
            }
        }
        self.bytes += bytes;
        self.entries.push_back((now, change));
        let last = self.entries.len() - 1;
        &self.entries[last].1
    }

    /// Forgets what is older than the history.
    pub(super) fn prune(&mut self, now: Instant) {
        while self
            .entries
            .front()
            .is_some_and(|(when, _)| now.duration_since(*when) > self.history)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, oldest)) = self.entries.pop_front() else {
            return false;
        };
        self.floor = oldest.revision.0;
        self.start += 1;
        self.bytes -= oldest.bytes();
        true
    }

    pub(super) fn position_after(&self, revision: u64) -> Result<u64, u64> {
        if revision < self.floor {
            return Err(self.floor);
        }
        let index = self
            .entries
            .partition_point(|(_, change)| change.revision.0 <= revision);
        Ok(self.start + index as u64)
    }

    pub(super) fn read(&self, position: u64, limit: usize) -> LogRead {
        let Some(index) = position
            .checked_sub(self.start)
            .and_then(|index| usize::try_from(index).ok())
        else {
            return LogRead::Forgotten(self.floor);
        };
        let changes: Vec<Change> = self
            .entries
            .iter()
            .skip(index)
            .take(limit)
            .map(|(_, change)| change.clone())
            .collect();
        let next = position + changes.len() as u64;
        LogRead::Changes(changes, next)
    }

    /// From the state after all of the log back to the state at `revision`; `None` when that is forgotten.
    pub(super) fn rewind(&self, mut objects: Objects, revision: u64) -> Option<Objects> {
        if revision < self.floor {
            return None;
        }
        for (_, change) in self
            .entries
            .iter()
            .rev()
            .take_while(|(_, change)| change.revision.0 > revision)
        {
            match &change.previous {
                Some(previous) => objects.insert(Arc::clone(&change.path), previous.clone()),
                None => objects.remove(&*change.path),
            };
        }
        Some(objects)
    }
}

#[cfg(test)]
mod tests {
    use skep_api::k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, revision: u64) -> SharedObject {
        let json = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#);
        let decoded: ConfigMap = serde_json::from_str(&json).unwrap();
        SharedObject::new(json.as_bytes(), Box::new(decoded), Revision(revision))
    }

    fn put(name: &str, revision: u64, previous: Option<u64>) -> Change {
        Change {
            path: name.into(),
            revision: Revision(revision),
            object: object(name, revision),
            previous: previous.map(|revision| object(name, revision)),
            deleted: false,
        }
    }

    fn revisions(read: LogRead) -> Vec<u64> {
        match read {
            LogRead::Changes(changes, _) => changes.iter().map(|change| change.revision.0).collect(),
            LogRead::Forgotten(_) => panic!("forgotten"),
        }
    }

    #[test]
    fn old_changes_are_forgotten_by_count_and_by_age() {
        let start = Instant::now();
        let mut log = Log::new(Duration::from_secs(10), 3, usize::MAX);
        for revision in 1..=4 {
            log.push(put("a", revision, None), start);
        }
        assert_eq!(log.position_after(0), Err(1));
        assert_eq!(revisions(log.read(log.position_after(1).unwrap(), 10)), [2, 3, 4]);
        log.push(put("a", 9, None), start + Duration::from_secs(11));
        assert_eq!(log.position_after(3), Err(4));
        assert_eq!(revisions(log.read(log.position_after(4).unwrap(), 10)), [9]);
        assert!(matches!(log.read(0, 1), LogRead::Forgotten(4)));
    }

    #[test]
    fn old_changes_are_forgotten_by_bytes() {
        let now = Instant::now();
        let one = put("a", 1, None).bytes();
        let mut log = Log::new(Duration::from_secs(10), 100, 3 * one);
        for revision in 1..=4 {
            log.push(put("a", revision, None), now);
        }
        assert_eq!(log.position_after(0), Err(1));
        // A change with its state before weighs twice.
        log.push(put("a", 5, Some(4)), now);
        assert_eq!(log.position_after(2), Err(3));
        assert_eq!(revisions(log.read(log.position_after(3).unwrap(), 10)), [4, 5]);
        log.forget(5);
        for revision in 6..=8 {
            log.push(put("a", revision, None), now);
        }
        assert_eq!(
            log.position_after(5)
                .map(|position| revisions(log.read(position, 10))),
            Ok(vec![6, 7, 8])
        );
    }

    #[test]
    fn a_change_larger_than_the_log_is_still_told() {
        let mut log = Log::new(Duration::from_secs(10), 100, 1);
        log.push(put("a", 1, None), Instant::now());
        log.push(put("a", 2, Some(1)), Instant::now());
        assert_eq!(revisions(log.read(log.position_after(1).unwrap(), 10)), [2]);
    }

    #[test]
    fn pruning_forgets_by_age_without_a_new_change() {
        let start = Instant::now();
        let mut log = Log::new(Duration::from_secs(10), 100, usize::MAX);
        log.push(put("a", 1, None), start);
        log.push(put("a", 2, Some(1)), start + Duration::from_secs(5));
        log.prune(start + Duration::from_secs(11));
        assert_eq!((log.position_after(0), log.entries.len()), (Err(1), 1));
        log.prune(start + Duration::from_secs(16));
        assert_eq!(
            (log.position_after(1), log.entries.len(), log.bytes),
            (Err(2), 0, 0)
        );
        assert_eq!(log.position_after(2), Ok(log.end()));
    }

    #[test]
    fn rewinding_gives_the_state_of_then() {
        let mut log = Log::new(Duration::from_secs(10), 10, usize::MAX);
        let now = Instant::now();
        log.push(put("a", 1, None), now);
        log.push(put("b", 2, None), now);
        log.push(put("a", 3, Some(1)), now);
        let entry = |name: &str, revision| (Arc::<str>::from(name), object(name, revision));
        let last: Objects = [entry("a", 3), entry("b", 2)].into_iter().collect();
        let at = |revision| {
            let objects = log.rewind(last.clone(), revision).unwrap();
            objects
                .values()
                .map(|object| object.revision().0)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (at(3), at(2), at(1), at(0)),
            (vec![3, 2], vec![1, 2], vec![1], vec![])
        );
    }

    #[test]
    fn a_watcher_at_the_end_notices_that_everything_was_forgotten() {
        let mut log = Log::new(Duration::from_secs(10), 10, usize::MAX);
        log.push(put("a", 1, None), Instant::now());
        let end = log.end();
        log.forget(5);
        assert!(matches!(log.read(end, 1), LogRead::Forgotten(5)));
        assert_eq!(log.position_after(4), Err(5));
        assert_eq!(log.position_after(5), Ok(log.end()));
    }
}

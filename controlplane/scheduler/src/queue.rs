//! The pods that wait for a node.
//!
//! A pod is *active* (its turn comes by priority, then by waiting time), in *back-off* after a failure, *unschedulable*
//! until something relevant changes, or *gated*. The queue has no clock: the present is an argument.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use skep_api::ObjectKey;
use tokio::time::Instant;

use crate::PodInfo;
use crate::pod_info::is_gated;

const BACKOFF_BASE: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// An unschedulable pod is tried again after so long, whether or not anything relevant was seen.
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(5 * 60);

/// Where a waiting pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Active,
    Backoff,
    Unschedulable,
    Gated,
}

/// Why a pod comes (back) into the queue; upstream's event names in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    PodAdd,
    PodUpdate,
    ScheduleAttemptFailure,
    BackoffComplete,
    UnschedulableTimeout,
    NodeChange,
    AssignedPodDelete,
}

/// A pod with its history in the queue.
#[derive(Clone, Debug)]
pub(crate) struct QueuedPod {
    pub(crate) info: Arc<PodInfo>,
    /// Turns so far, the present one included once it has been popped.
    pub(crate) attempts: u32,
    /// When the pod was first active.
    pub(crate) first_active: Option<Instant>,
    failed_at: Option<Instant>,
    /// When it came to where it is.
    since: Instant,
    serial: u64,
}

impl QueuedPod {
    fn backoff_ends(&self) -> Option<Instant> {
        let doublings = self.attempts.saturating_sub(1).min(16);
        let delay = BACKOFF_BASE.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        Some(self.failed_at? + delay)
    }
}

type ActiveRank = (Reverse<i32>, Instant, u64, ObjectKey);
type TimedRank = (Instant, u64, ObjectKey);

/// See the module.
#[derive(Default)]
pub(crate) struct Queue {
    pods: HashMap<ObjectKey, (Place, QueuedPod)>,
    active: BTreeSet<ActiveRank>,
    backoff: BTreeSet<TimedRank>,
    unschedulable: BTreeSet<TimedRank>,
    next_serial: u64,
    /// How much has come in, for the metrics.
    incoming: HashMap<(Place, Cause), u64>,
}

impl Queue {
    /// A pod that has no node was seen. A known pod keeps its history; if something about it changed that scheduling
    /// looks at, it need not wait for events.
    pub(crate) fn put(&mut self, info: Arc<PodInfo>, now: Instant) {
        let gated = is_gated(&info.pod);
        match self.take(&info.key) {
            Some((place, mut pod)) if pod.info.uid() == info.uid() => {
                let changed = matters(&pod.info, &info);
                pod.info = info;
                match place {
                    _ if gated => self.insert(Place::Gated, pod, Cause::PodUpdate, now),
                    Place::Gated => self.insert(Place::Active, pod, Cause::PodAdd, now),
                    Place::Unschedulable if changed => self.wake(pod, Cause::PodUpdate, now),
                    place => self.restore(place, pod),
                }
            }
            _ => {
                let pod = QueuedPod {
                    info,
                    attempts: 0,
                    first_active: None,
                    failed_at: None,
                    since: now,
                    serial: self.next_serial,
                };
                self.next_serial += 1;
                self.insert(
                    if gated { Place::Gated } else { Place::Active },
                    pod,
                    Cause::PodAdd,
                    now,
                );
            }
        }
    }

    /// The pod has a node, or is gone.
    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        self.take(key);
    }

    /// The next pod in turn. It is not in the queue any more.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<QueuedPod> {
        self.promote(now);
        let (.., key) = self.active.first()?.clone();
        let (_, mut pod) = self.take(&key)?;
        pod.attempts += 1;
        Some(pod)
    }

    /// The pod fits nowhere now: it waits for a relevant change.
    pub(crate) fn put_unschedulable(&mut self, mut pod: QueuedPod, now: Instant) {
        pod.failed_at = Some(now);
        self.insert(Place::Unschedulable, pod, Cause::ScheduleAttemptFailure, now);
    }

    /// Placing the pod failed for a reason that is not its own.
    pub(crate) fn put_backoff(&mut self, mut pod: QueuedPod, now: Instant) {
        pod.failed_at = Some(now);
        self.insert(Place::Backoff, pod, Cause::ScheduleAttemptFailure, now);
    }

    /// Something changed: wakes the unschedulable pods for which `relevant` says that it may help.
    pub(crate) fn wake_if(&mut self, cause: Cause, now: Instant, relevant: impl Fn(&PodInfo) -> bool) {
        let keys: Vec<_> = self
            .unschedulable
            .iter()
            .filter(|(.., key)| self.pods.get(key).is_some_and(|(_, pod)| relevant(&pod.info)))
            .map(|(.., key)| key.clone())
            .collect();
        for key in keys {
            if let Some((_, pod)) = self.take(&key) {
                self.wake(pod, cause, now);
            }
        }
    }

    /// When `pop` may have something that it has not now.
    pub(crate) fn next_change(&self) -> Option<Instant> {
        let backoff = self.backoff.first().map(|(ends, ..)| *ends);
        let timeout = self
            .unschedulable
            .first()
            .map(|(since, ..)| *since + UNSCHEDULABLE_MAX);
        backoff.into_iter().chain(timeout).min()
    }

    pub(crate) fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// How many pods are active, in back-off, unschedulable and gated.
    pub(crate) fn counts(&self) -> [(Place, usize); 4] {
        let (active, backoff, unschedulable) =
            (self.active.len(), self.backoff.len(), self.unschedulable.len());
        let gated = self.pods.len() - active - backoff - unschedulable;
        [
            (Place::Active, active),
            (Place::Backoff, backoff),
            (Place::Unschedulable, unschedulable),
            (Place::Gated, gated),
        ]
    }

    /// How much has come in where and why since the last call.
    pub(crate) fn drain_incoming(&mut self) -> impl Iterator<Item = ((Place, Cause), u64)> {
        self.incoming.drain()
    }

    /// Moves what need not wait any longer to the active pods.
    fn promote(&mut self, now: Instant) {
        while let Some((ends, _, key)) = self.backoff.first().cloned()
            && ends <= now
        {
            if let Some((_, pod)) = self.take(&key) {
                self.insert(Place::Active, pod, Cause::BackoffComplete, now);
            }
        }
        while let Some((since, _, key)) = self.unschedulable.first().cloned()
            && since + UNSCHEDULABLE_MAX <= now
        {
            if let Some((_, pod)) = self.take(&key) {
                self.wake(pod, Cause::UnschedulableTimeout, now);
            }
        }
    }

    fn wake(&mut self, pod: QueuedPod, cause: Cause, now: Instant) {
        let waits = pod.backoff_ends().is_some_and(|ends| ends > now);
        self.insert(
            if waits { Place::Backoff } else { Place::Active },
            pod,
            cause,
            now,
        );
    }

    fn insert(&mut self, place: Place, mut pod: QueuedPod, cause: Cause, now: Instant) {
        pod.since = now;
        if place == Place::Active {
            pod.first_active.get_or_insert(now);
        }
        *self.incoming.entry((place, cause)).or_default() += 1;
        self.restore(place, pod);
    }

    fn restore(&mut self, place: Place, pod: QueuedPod) {
        match place {
            Place::Active => drop(self.active.insert(active_rank(&pod))),
            Place::Backoff => drop(self.backoff.insert(backoff_rank(&pod))),
            Place::Unschedulable => drop(self.unschedulable.insert(timed_rank(&pod, pod.since))),
            Place::Gated => {}
        }
        self.pods.insert(pod.info.key.clone(), (place, pod));
    }

    fn take(&mut self, key: &ObjectKey) -> Option<(Place, QueuedPod)> {
        let (place, pod) = self.pods.remove(key)?;
        match place {
            Place::Active => drop(self.active.remove(&active_rank(&pod))),
            Place::Backoff => drop(self.backoff.remove(&backoff_rank(&pod))),
            Place::Unschedulable => drop(self.unschedulable.remove(&timed_rank(&pod, pod.since))),
            Place::Gated => {}
        }
        Some((place, pod))
    }
}

fn active_rank(pod: &QueuedPod) -> ActiveRank {
    (
        Reverse(pod.info.priority),
        pod.since,
        pod.serial,
        pod.info.key.clone(),
    )
}

fn backoff_rank(pod: &QueuedPod) -> TimedRank {
    timed_rank(pod, pod.backoff_ends().unwrap_or(pod.since))
}

fn timed_rank(pod: &QueuedPod, at: Instant) -> TimedRank {
    (at, pod.serial, pod.info.key.clone())
}

/// Whether anything differs that scheduling looks at.
fn matters(old: &PodInfo, new: &PodInfo) -> bool {
    old.pod.spec != new.pod.spec || old.pod.metadata.labels != new.pod.metadata.labels
}

#[cfg(test)]
mod tests;

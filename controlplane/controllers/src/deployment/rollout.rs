//! The two ways from an old template to a new one: rolling and recreate. Pure.

use crate::deployment::history;
use crate::deployment::plan::{Work, is_complete};
use crate::deployment::sets::{actual, available, size};
use crate::deployment::spec::Settings;
use crate::{owner, pods};

/// Grows the new ReplicaSet as far as surge allows; when it cannot grow, shrinks the old ones as far as
/// availability allows.
pub(crate) fn rolling(work: &mut Work<'_>) {
    work.ensure_new_set();
    if grow_new(work) || shrink_old(work) {
        return;
    }
    if is_complete(work, &work.status) {
        history::clean(work);
    }
}

/// All old pods go first, and only when none runs any more the new ones start.
pub(crate) fn recreate(work: &mut Work<'_>) {
    let active = work.sets.active_old_places();
    if !active.is_empty() {
        for place in active {
            work.sets.scale(place, 0, &work.settings);
        }
        return;
    }
    if old_pods_run(work) {
        return;
    }
    work.ensure_new_set();
    if let Some(place) = work.sets.new_place() {
        work.sets.scale(place, work.settings.replicas, &work.settings);
    }
    if is_complete(work, &work.status) {
        history::clean(work);
    }
}

/// The size of the new ReplicaSet, of `current` pods now, when all together want `total` pods.
pub(crate) fn new_set_size(settings: &Settings, current: i32, total: i32) -> i32 {
    if !settings.rolling {
        return settings.replicas;
    }
    let room = settings.replicas + settings.max_surge - total;
    if room <= 0 {
        return current;
    }
    current + room.min(settings.replicas - current)
}

fn grow_new(work: &mut Work<'_>) -> bool {
    let Some(place) = work.sets.new_place() else {
        return false;
    };
    let current = size(work.sets.get(place));
    let wanted = work.settings.replicas;
    let target = if current >= wanted {
        wanted
    } else {
        new_set_size(&work.settings, current, work.sets.total_size())
    };
    current != target && work.sets.scale(place, target, &work.settings)
}

fn shrink_old(work: &mut Work<'_>) -> bool {
    let old = work.sets.active_old_places();
    if old.is_empty() {
        return false;
    }
    let min_available = work.settings.replicas - work.settings.max_unavailable;
    let new_unavailable = work.sets.new_set().map_or(0, |set| size(set) - available(set));
    let may_go = work.sets.total_size() - min_available - new_unavailable;
    if may_go <= 0 {
        return false;
    }
    // Pods that serve nobody go first, of whichever old ReplicaSet: they block the rollout.
    let mut gone = 0;
    for place in &old {
        let set = work.sets.get(*place);
        let (size, unavailable) = (size(set), size(set) - available(set));
        let down = unavailable.min(may_go - gone);
        if down > 0 && work.sets.scale(*place, size - down, &work.settings) {
            gone += down;
        }
    }
    let spare: i32 = work.sets.all().map(available).sum::<i32>() - min_available;
    let mut left = spare;
    for place in old {
        let size = size(work.sets.get(place));
        let down = size.min(left);
        if down > 0 && work.sets.scale(place, size - down, &work.settings) {
            left -= down;
        }
    }
    gone > 0 || left < spare
}

fn old_pods_run(work: &Work<'_>) -> bool {
    if work.sets.old().any(|set| actual(set) > 0) {
        return true;
    }
    let new_uid = work.sets.new_set().and_then(|set| set.metadata.uid.as_deref());
    work.pods.iter().any(|pod| {
        let of_new = new_uid.is_some_and(|uid| owner::is_controlled_by(&pod.metadata, uid));
        !of_new && !pods::is_terminal(pod)
    })
}

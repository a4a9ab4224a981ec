//! A Deployment whose size was changed, or that is paused: sizes without a rollout. Pure.

use crate::deployment::annotations;
use crate::deployment::plan::Work;
use crate::deployment::sets::{available, by_size, size};
use k8s_openapi::api::apps::v1::ReplicaSet;
use std::collections::BTreeMap;

/// Whether the Deployment's size is another than when its ReplicaSets were last sized.
pub(crate) fn wanted(work: &Work<'_>) -> bool {
    work.sets
        .active_places()
        .into_iter()
        .filter_map(|place| annotations::desired_replicas(work.sets.get(place)))
        .any(|desired| desired != work.settings.replicas)
}

pub(crate) fn scale(work: &mut Work<'_>) {
    if let Some(place) = active_or_latest(work) {
        let wanted = work.settings.replicas;
        if size(work.sets.get(place)) != wanted {
            work.sets.scale(place, wanted, &work.settings);
        }
    } else if work.sets.new_set().is_some_and(|set| is_saturated(work, set)) {
        for place in work.sets.active_old_places() {
            work.sets.scale(place, 0, &work.settings);
        }
    } else if work.settings.rolling {
        proportionally(work);
    }
}

/// The only ReplicaSet with pods; with none, the new or else the youngest; with several, none.
fn active_or_latest(work: &Work<'_>) -> Option<usize> {
    match work.sets.active_places().as_slice() {
        [] => work
            .sets
            .new_place()
            .or_else(|| work.sets.old_places().last().copied()),
        [only] => Some(*only),
        _ => None,
    }
}

fn is_saturated(work: &Work<'_>, set: &ReplicaSet) -> bool {
    let wanted = work.settings.replicas;
    size(set) == wanted && annotations::desired_replicas(set) == Some(wanted) && available(set) == wanted
}

/// In the middle of a rollout each ReplicaSet gets its share of the change; what rounding leaves goes to
/// the largest.
fn proportionally(work: &mut Work<'_>) {
    let mut places = work.sets.active_places();
    let total: i32 = places.iter().map(|place| size(work.sets.get(*place))).sum();
    let allowed = if work.settings.replicas > 0 {
        work.settings.replicas + work.settings.max_surge
    } else {
        0
    };
    let to_add = allowed - total;
    places.sort_by(|left, right| by_size(work.sets.get(*left), work.sets.get(*right), to_add > 0));
    let mut added = 0;
    let mut sizes = BTreeMap::new();
    for place in &places {
        let share = share(work, work.sets.get(*place), to_add, added);
        sizes.insert(*place, size(work.sets.get(*place)) + share);
        added += share;
    }
    for (rank, place) in places.into_iter().enumerate() {
        let leftover = if rank == 0 { to_add - added } else { 0 };
        let target = (sizes[&place] + leftover).max(0);
        work.sets.scale(place, target, &work.settings);
    }
}

/// The part of `to_add` (of which `added` is given out) that falls to this ReplicaSet.
fn share(work: &Work<'_>, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if size(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(work, set);
    if to_add > 0 {
        fraction.min(to_add - added)
    } else {
        fraction.max(to_add - added)
    }
}

fn fraction(work: &Work<'_>, set: &ReplicaSet) -> i32 {
    if work.settings.replicas == 0 {
        return -size(set);
    }
    let max_now = i64::from(work.settings.replicas + work.settings.max_surge);
    let max_before = annotations::max_replicas(set)
        .filter(|max| *max != 0)
        .unwrap_or_else(|| {
            work.deployment
                .status
                .as_ref()
                .and_then(|status| status.replicas)
                .unwrap_or(0)
        });
    if max_before == 0 {
        return 0;
    }
    let max_before = i64::from(max_before);
    // Rounded half up, in whole numbers.
    let new_size = (2 * i64::from(size(set)) * max_now + max_before) / (2 * max_before);
    i32::try_from(new_size).unwrap_or(i32::MAX) - size(set)
}

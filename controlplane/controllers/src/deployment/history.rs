//! Old ReplicaSets beyond `revisionHistoryLimit` are deleted, lowest revision first. Pure.

use crate::deployment::annotations;
use crate::deployment::plan::Work;
use crate::deployment::sets::{actual, by_age, size};
use k8s_openapi::api::apps::v1::ReplicaSet;

pub(crate) fn clean(work: &mut Work<'_>) {
    let Some(limit) = work.settings.history_limit else {
        return;
    };
    let mut old: Vec<&ReplicaSet> = work
        .sets
        .old()
        .filter(|set| set.metadata.deletion_timestamp.is_none())
        .collect();
    let excess = old.len().saturating_sub(limit);
    old.sort_by(|left, right| {
        annotations::revision(&left.metadata)
            .cmp(&annotations::revision(&right.metadata))
            .then_with(|| by_age(left, right))
    });
    let deletes = old
        .into_iter()
        .take(excess)
        .filter(|set| is_idle(set))
        .cloned()
        .collect();
    work.deletes = deletes;
}

/// No pods, none wanted, and its controller has seen that.
fn is_idle(set: &ReplicaSet) -> bool {
    let observed = set
        .status
        .as_ref()
        .and_then(|status| status.observed_generation)
        .unwrap_or(0);
    actual(set) == 0 && size(set) == 0 && set.metadata.generation.unwrap_or(0) <= observed
}

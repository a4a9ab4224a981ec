//! The annotations by which a Deployment and its ReplicaSets remember revisions and sizes. Pure.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Belong to the Deployment alone: never copied to its ReplicaSets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];
/// The most characters of revision history kept on one ReplicaSet.
const HISTORY_CAPACITY_CHARS: usize = 2000;

fn get<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Sets the annotation; says whether that changed it.
fn set(meta: &mut ObjectMeta, key: &str, value: String) -> bool {
    meta.annotations
        .get_or_insert_default()
        .insert(key.to_owned(), value.clone())
        != Some(value)
}

/// The revision, 0 when absent or unreadable.
pub(crate) fn revision(meta: &ObjectMeta) -> i64 {
    get(meta, REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

pub(crate) fn desired_replicas(replica_set: &ReplicaSet) -> Option<i32> {
    get(&replica_set.metadata, DESIRED_REPLICAS)?.parse().ok()
}

pub(crate) fn max_replicas(replica_set: &ReplicaSet) -> Option<i32> {
    get(&replica_set.metadata, MAX_REPLICAS)?.parse().ok()
}

/// Records the Deployment's size on a ReplicaSet; says whether that changed anything.
pub(crate) fn set_sizes(replica_set: &mut ReplicaSet, desired: i32, max: i32) -> bool {
    let meta = &mut replica_set.metadata;
    let desired_changed = set(meta, DESIRED_REPLICAS, desired.to_string());
    let max_changed = set(meta, MAX_REPLICAS, max.to_string());
    desired_changed || max_changed
}

/// Copies the Deployment's annotations and raises the revision to `new_revision`, keeping a record of the
/// revisions this ReplicaSet had before (it is rolled back to). Says whether anything changed.
pub(crate) fn sync(deployment: &Deployment, replica_set: &mut ReplicaSet, new_revision: i64) -> bool {
    let mut changed = false;
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            changed |= set(&mut replica_set.metadata, key, value.clone());
        }
    }
    let old = get(&replica_set.metadata, REVISION).map(str::to_owned);
    let old_revision = match &old {
        None => 0,
        Some(text) => match text.parse::<i64>() {
            Ok(number) => number,
            // Not ours to repair.
            Err(_) => return changed,
        },
    };
    if old_revision < new_revision {
        set(&mut replica_set.metadata, REVISION, new_revision.to_string());
        changed = true;
        if let Some(old) = old {
            remember(&mut replica_set.metadata, &old);
        }
    }
    changed
}

fn remember(meta: &mut ObjectMeta, old_revision: &str) {
    let history = get(meta, REVISION_HISTORY).unwrap_or_default().to_owned();
    let mut revisions: Vec<&str> = history
        .split(',')
        .filter(|revision| !revision.is_empty())
        .collect();
    revisions.push(old_revision);
    let mut joined = revisions.join(",");
    while joined.len() > HISTORY_CAPACITY_CHARS && revisions.len() > 1 {
        revisions.remove(0);
        joined = revisions.join(",");
    }
    set(meta, REVISION_HISTORY, joined);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Deployment {
        let mut deployment = Deployment::default();
        for (key, value) in [("team", "bees"), (REVISION, "7"), (NOT_COPIED[0], "{}")] {
            set(&mut deployment.metadata, key, value.to_owned());
        }
        deployment
    }

    #[test]
    fn own_annotations_are_copied_and_bookkeeping_is_not() {
        let mut replica_set = ReplicaSet::default();
        assert!(sync(&deployment(), &mut replica_set, 1));
        assert_eq!(get(&replica_set.metadata, "team"), Some("bees"));
        assert_eq!(get(&replica_set.metadata, REVISION), Some("1"));
        assert_eq!(get(&replica_set.metadata, NOT_COPIED[0]), None);
        assert!(
            !sync(&deployment(), &mut replica_set, 1),
            "a second time changes nothing"
        );
    }

    #[test]
    fn rolling_back_keeps_the_former_revisions() {
        let mut replica_set = ReplicaSet::default();
        for revision in [1, 3, 5] {
            sync(&deployment(), &mut replica_set, revision);
        }
        assert_eq!(get(&replica_set.metadata, REVISION), Some("5"));
        assert_eq!(get(&replica_set.metadata, REVISION_HISTORY), Some("1,3"));
        assert!(
            !sync(&deployment(), &mut replica_set, 4),
            "a revision never falls"
        );
    }

    #[test]
    fn history_is_bounded() {
        let mut replica_set = ReplicaSet::default();
        for revision in 1..1000 {
            sync(&deployment(), &mut replica_set, revision);
        }
        let history = get(&replica_set.metadata, REVISION_HISTORY).unwrap();
        assert!(history.len() <= HISTORY_CAPACITY_CHARS);
        assert!(history.ends_with(",997,998"));
    }
}

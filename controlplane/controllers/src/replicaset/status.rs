//! A ReplicaSet's status from its pods. Pure.

use crate::pods;
use crate::replicaset::plan::wanted;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const REPLICA_FAILURE: &str = "ReplicaFailure";

/// The status after a reconcile that ended with `failure` (the first refused create or delete).
pub(crate) fn status(
    replica_set: &ReplicaSet,
    pods: &[Arc<Pod>],
    terminating: usize,
    failure: Option<&str>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = &replica_set.spec;
    let template_meta = spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.as_ref());
    let template_labels = template_meta.and_then(|meta| meta.labels.as_ref());
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let available = |pod: &Arc<Pod>| pods::availability(pod, min_ready, now) == pods::Availability::Available;
    let old = replica_set.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: count(pods.len()),
        fully_labeled_replicas: Some(count(
            pods.iter().filter(|pod| has_labels(pod, template_labels)).count(),
        )),
        ready_replicas: Some(count(pods.iter().filter(|pod| pods::is_ready(pod)).count())),
        available_replicas: Some(count(pods.iter().filter(|pod| available(pod)).count())),
        terminating_replicas: Some(count(terminating)),
        observed_generation: replica_set.metadata.generation,
        conditions: conditions(replica_set, old.conditions, pods.len(), failure, now),
    }
}

fn conditions(
    replica_set: &ReplicaSet,
    old: Option<Vec<ReplicaSetCondition>>,
    have: usize,
    failure: Option<&str>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let failing = conditions.iter().any(is_failure);
    match failure {
        Some(message) if !failing => conditions.push(ReplicaSetCondition {
            type_: Some(REPLICA_FAILURE.to_owned()),
            status: Some("True".to_owned()),
            reason: Some(
                if count(have) < wanted(replica_set) {
                    "FailedCreate"
                } else {
                    "FailedDelete"
                }
                .to_owned(),
            ),
            message: Some(message.to_owned()),
            last_transition_time: Some(Time(now)),
        }),
        None if failing => conditions.retain(|condition| !is_failure(condition)),
        _ => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// Whether writing `new` over `old` would change anything a reader sees (absent counters read as zero).
pub(crate) fn differs(old: Option<&ReplicaSetStatus>, new: &ReplicaSetStatus) -> bool {
    let Some(old) = old else {
        return true;
    };
    let zero = |value: Option<i32>| value.unwrap_or(0);
    old.replicas != new.replicas
        || zero(old.fully_labeled_replicas) != zero(new.fully_labeled_replicas)
        || zero(old.ready_replicas) != zero(new.ready_replicas)
        || zero(old.available_replicas) != zero(new.available_replicas)
        || old.terminating_replicas != new.terminating_replicas
        || old.observed_generation != new.observed_generation
        || old.conditions.as_deref().unwrap_or_default() != new.conditions.as_deref().unwrap_or_default()
}

fn is_failure(condition: &ReplicaSetCondition) -> bool {
    condition.type_.as_deref() == Some(REPLICA_FAILURE)
}

fn has_labels(pod: &Pod, wanted: Option<&BTreeMap<String, String>>) -> bool {
    let empty = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
    wanted
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value))
}

fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}

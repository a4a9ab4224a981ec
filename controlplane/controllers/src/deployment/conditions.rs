//! Conditions of a Deployment. Pure.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSetCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) const AVAILABLE: &str = "Available";
pub(crate) const PROGRESSING: &str = "Progressing";
pub(crate) const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(crate) const REASON_CREATED: &str = "NewReplicaSetCreated";
pub(crate) const REASON_FOUND: &str = "FoundNewReplicaSet";
pub(crate) const REASON_CREATE_ERROR: &str = "ReplicaSetCreateError";
pub(crate) const REASON_UPDATED: &str = "ReplicaSetUpdated";
pub(crate) const REASON_COMPLETE: &str = "NewReplicaSetAvailable";
pub(crate) const REASON_TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(crate) const REASON_PAUSED: &str = "DeploymentPaused";
pub(crate) const REASON_RESUMED: &str = "DeploymentResumed";

pub(crate) fn new(
    kind: &str,
    status: &str,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.into()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

pub(crate) fn from_replica_set(condition: &ReplicaSetCondition) -> DeploymentCondition {
    DeploymentCondition {
        type_: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        last_update_time: condition.last_transition_time.clone(),
        last_transition_time: condition.last_transition_time.clone(),
    }
}

pub(crate) fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| is(condition, kind))
}

fn is(condition: &DeploymentCondition, kind: &str) -> bool {
    condition.type_.as_deref() == Some(kind)
}

pub(crate) fn has_reason(condition: Option<&DeploymentCondition>, reason: &str) -> bool {
    condition.is_some_and(|condition| condition.reason.as_deref() == Some(reason))
}

/// Puts the condition in, unless status and reason are as they were; the transition time moves only with
/// the status.
pub(crate) fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let conditions = status.conditions.get_or_insert_default();
    let current = conditions
        .iter()
        .position(|current| current.type_ == condition.type_);
    if let Some(place) = current {
        let current = conditions.remove(place);
        if current.status == condition.status {
            if current.reason == condition.reason {
                conditions.insert(place, current);
                return;
            }
            condition.last_transition_time = current.last_transition_time;
        }
    }
    conditions.push(condition);
}

/// Puts the condition in even where status and reason are as they were (its update time counts).
pub(crate) fn replace(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(current) = get(status, condition.type_.as_deref().unwrap_or_default())
        && current.status == condition.status
    {
        condition.last_transition_time = current.last_transition_time.clone();
    }
    remove(status, &condition.type_.clone().unwrap_or_default());
    status.conditions.get_or_insert_default().push(condition);
}

pub(crate) fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = status.conditions.as_mut() {
        conditions.retain(|condition| !is(condition, kind));
    }
}

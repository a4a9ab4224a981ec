//! A Deployment's status from its ReplicaSets'. Pure.

use crate::deployment::conditions::{self as conditions, AVAILABLE, PROGRESSING, REPLICA_FAILURE};
use crate::deployment::plan::{Work, is_complete};
use crate::deployment::sets::{actual, available, ready};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSet};

/// Counters and the Available condition.
pub(crate) fn counted(work: &Work<'_>) -> DeploymentStatus {
    let sum = |of: fn(&ReplicaSet) -> i32| work.sets.all().map(of).sum::<i32>();
    let available = sum(available);
    let mut status = DeploymentStatus {
        observed_generation: work.deployment.metadata.generation,
        replicas: Some(sum(actual)),
        updated_replicas: Some(work.sets.new_set().map_or(0, actual)),
        ready_replicas: Some(sum(ready)),
        available_replicas: Some(available),
        unavailable_replicas: Some((sum(actual) - available).max(0)),
        terminating_replicas: terminating(work),
        collision_count: work.status.collision_count,
        conditions: work.status.conditions.clone(),
    };
    let enough = available >= work.settings.replicas - work.settings.max_unavailable;
    let (value, reason, message) = if enough {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    conditions::set(
        &mut status,
        conditions::new(AVAILABLE, value, reason, message, work.now),
    );
    status
}

/// Unknown while any ReplicaSet that was reconciled does not tell.
fn terminating(work: &Work<'_>) -> Option<i32> {
    work.sets
        .all()
        .map(|set| {
            set.status
                .as_ref()
                .map_or(Some(0), |status| status.terminating_replicas)
        })
        .sum()
}

/// The counted status with the rollout's progress and failures.
pub(crate) fn of_rollout(work: &Work<'_>) -> DeploymentStatus {
    let mut status = counted(work);
    let Some(deadline) = work.settings.progress_deadline else {
        conditions::remove(&mut status, PROGRESSING);
        note_failure(work, &mut status);
        return status;
    };
    let current = conditions::get(&work.status, PROGRESSING);
    let done = status.replicas == status.updated_replicas
        && conditions::has_reason(current, conditions::REASON_COMPLETE);
    if !done {
        let subject = subject(work);
        if is_complete(work, &status) {
            let message = format!("{subject} has successfully progressed.");
            conditions::set(
                &mut status,
                progress("True", conditions::REASON_COMPLETE, message, work.now),
            );
        } else if has_progressed(&work.status, &status) {
            let message = format!("{subject} is progressing.");
            let condition = progress("True", conditions::REASON_UPDATED, message, work.now);
            conditions::replace(&mut status, condition);
        } else if has_timed_out(current, deadline, work.now) {
            let message = format!("{subject} has timed out progressing.");
            conditions::set(
                &mut status,
                progress("False", conditions::REASON_TIMED_OUT, message, work.now),
            );
        }
    }
    note_failure(work, &mut status);
    status
}

fn progress(value: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    conditions::new(PROGRESSING, value, reason, message, now)
}

fn subject(work: &Work<'_>) -> String {
    match work.sets.new_set() {
        Some(set) => format!(
            "ReplicaSet {:?}",
            set.metadata.name.as_deref().unwrap_or_default()
        ),
        None => format!("Deployment {:?}", work.name()),
    }
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let number = |value: Option<i32>| value.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
    number(new.updated_replicas) > number(old.updated_replicas)
        || outdated(new) < outdated(old)
        || number(new.ready_replicas) > number(old.ready_replicas)
        || number(new.available_replicas) > number(old.available_replicas)
}

fn has_timed_out(current: Option<&DeploymentCondition>, deadline: SignedDuration, now: Timestamp) -> bool {
    if conditions::has_reason(current, conditions::REASON_TIMED_OUT) {
        return true;
    }
    current
        .filter(|condition| condition.reason.as_deref() != Some(conditions::REASON_COMPLETE))
        .and_then(|condition| condition.last_update_time.as_ref())
        .is_some_and(|since| since.0 + deadline < now)
}

/// The first failure of the new ReplicaSet, else of any.
fn note_failure(work: &Work<'_>, status: &mut DeploymentStatus) {
    let failure = |set: &ReplicaSet| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions
            .iter()
            .find(|condition| condition.type_.as_deref() == Some(REPLICA_FAILURE))
            .cloned()
    };
    match work
        .sets
        .new_set()
        .and_then(failure)
        .or_else(|| work.sets.all().find_map(failure))
    {
        Some(failure) => conditions::set(status, conditions::from_replica_set(&failure)),
        None => conditions::remove(status, REPLICA_FAILURE),
    }
}

/// When an unfinished rollout would exceed its deadline.
pub(crate) fn recheck_at(work: &Work<'_>, status: &DeploymentStatus) -> Option<Timestamp> {
    let deadline = work.settings.progress_deadline?;
    let current = conditions::get(status, PROGRESSING)?;
    if work.settings.paused
        || is_complete(work, status)
        || conditions::has_reason(Some(current), conditions::REASON_TIMED_OUT)
        || conditions::has_reason(Some(current), conditions::REASON_COMPLETE)
    {
        return None;
    }
    let since = current.last_update_time.as_ref()?.0;
    // A second more: the deadline is over only after it.
    Some((since + deadline).max(work.now) + SignedDuration::from_secs(1))
}

/// Whether a reader sees a difference (absent counters read as zero).
pub(crate) fn differs(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let plain = |status: &DeploymentStatus| {
        let zero = |value: Option<i32>| Some(value.unwrap_or(0));
        DeploymentStatus {
            replicas: zero(status.replicas),
            updated_replicas: zero(status.updated_replicas),
            ready_replicas: zero(status.ready_replicas),
            available_replicas: zero(status.available_replicas),
            unavailable_replicas: zero(status.unavailable_replicas),
            ..status.clone()
        }
    };
    plain(old) != plain(new)
}

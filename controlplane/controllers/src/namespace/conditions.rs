//! What a namespace's status says of the deletion of its content. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use skep_api::{ApiError, GroupVersionResource};
use std::collections::BTreeMap;
use std::time::Duration;

/// What one round of deletion came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Objects that are still there, by kind.
    pub(crate) remaining: BTreeMap<GroupVersionResource, usize>,
    /// How many of them each finalizer holds.
    pub(crate) finalizers: BTreeMap<String, usize>,
    pub(crate) failures: Vec<ApiError>,
    /// The longest time that a pod takes to end.
    pub(crate) grace: Option<Duration>,
}

impl Outcome {
    pub(crate) fn is_done(&self) -> bool {
        self.remaining.is_empty() && self.failures.is_empty()
    }
}

/// Type, reason and message of a condition that is well, in upstream's order.
const WELL: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        "NamespaceContentRemaining",
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];

pub(crate) fn status(old: &NamespaceStatus, outcome: &Outcome, now: Timestamp) -> NamespaceStatus {
    let mut conditions = old.conditions.clone().unwrap_or_default();
    for (kind, reason, message) in WELL {
        let wrong = match kind {
            "NamespaceDeletionContentFailure" => {
                failures(outcome).map(|text| ("ContentDeletionFailed", text))
            }
            "NamespaceContentRemaining" => remaining(outcome).map(|text| ("SomeResourcesRemain", text)),
            "NamespaceFinalizersRemaining" => finalizers(outcome).map(|text| ("SomeFinalizersRemain", text)),
            _ => None,
        };
        let (status, reason, message) = match wrong {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", reason, message.to_owned()),
        };
        set(&mut conditions, kind, status, reason, message, now);
    }
    NamespaceStatus {
        phase: Some("Terminating".to_owned()),
        conditions: Some(conditions),
    }
}

fn set(
    conditions: &mut Vec<NamespaceCondition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let place = conditions
        .iter()
        .position(|condition| condition.type_ == kind)
        .unwrap_or(conditions.len());
    let since = conditions
        .get(place)
        .filter(|condition| condition.status == status)
        .and_then(|condition| condition.last_transition_time.clone());
    let condition = NamespaceCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    };
    match conditions.get_mut(place) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

fn failures(outcome: &Outcome) -> Option<String> {
    let texts: Vec<String> = outcome.failures.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| {
        format!(
            "Failed to delete all resource types, {} remaining: {}",
            texts.len(),
            texts.join(", ")
        )
    })
}

fn remaining(outcome: &Outcome) -> Option<String> {
    let texts: Vec<String> = outcome
        .remaining
        .iter()
        .map(|(gvr, count)| format!("{}.{} has {count} resource instances", gvr.resource, gvr.group))
        .collect();
    (!texts.is_empty()).then(|| format!("Some resources are remaining: {}", texts.join(", ")))
}

fn finalizers(outcome: &Outcome) -> Option<String> {
    let texts: Vec<String> = outcome
        .finalizers
        .iter()
        .map(|(name, count)| format!("{name} in {count} resource instances"))
        .collect();
    (!texts.is_empty()).then(|| {
        format!(
            "Some content in the namespace has finalizers remaining: {}",
            texts.join(", ")
        )
    })
}

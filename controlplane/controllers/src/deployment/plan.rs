//! What a Deployment needs next: ReplicaSets to create, change or delete, and its status. Pure.
//!
//! The steps and their order are upstream's: one reconcile either scales, or grows the new ReplicaSet, or
//! shrinks the old ones, and the observation of its effect starts the next.

use crate::deployment::sets::{self, HASH_LABEL, Sets};
use crate::deployment::spec::Settings;
use crate::deployment::{annotations, conditions, hash, history, rollout, scale, status};
use crate::owner;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Write {
    Create(Box<ReplicaSet>),
    Update(Box<ReplicaSet>),
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// In this order; each with what to say in an event when it is done.
    pub(crate) writes: Vec<(Write, Option<String>)>,
    pub(crate) deletes: Vec<ReplicaSet>,
    /// The status to write; None: it is so already.
    pub(crate) status: Option<DeploymentStatus>,
    /// The revision annotation to write on the Deployment; None: it is so already.
    pub(crate) revision: Option<String>,
    /// When to look again though nothing changes (progress deadline).
    pub(crate) recheck_at: Option<Timestamp>,
}

/// The state that the steps share.
pub(crate) struct Work<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) settings: Settings,
    pub(crate) sets: Sets,
    pub(crate) pods: &'a [Arc<Pod>],
    /// The observed status with the conditions that the steps add.
    pub(crate) status: DeploymentStatus,
    pub(crate) deletes: Vec<ReplicaSet>,
    pub(crate) now: Timestamp,
    revision: Option<i64>,
}

/// `replica_sets` are those the Deployment owns, `pods` those that belong to them.
pub(crate) fn plan(
    deployment: &Deployment,
    replica_sets: &[Arc<ReplicaSet>],
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> Plan {
    let mut work = Work {
        deployment,
        settings: Settings::of(deployment),
        sets: Sets::of(deployment, replica_sets),
        pods,
        status: deployment.status.clone().unwrap_or_default(),
        deletes: Vec::new(),
        now,
        revision: None,
    };
    work.sync_revision();
    if deployment.metadata.deletion_timestamp.is_some() {
        let status = status::counted(&work);
        return work.finish(status);
    }
    work.note_pause();
    let status = if work.settings.paused || scale::wanted(&work) {
        scale::scale(&mut work);
        if work.settings.paused {
            history::clean(&mut work);
        }
        status::counted(&work)
    } else {
        if work.settings.rolling {
            rollout::rolling(&mut work);
        } else {
            rollout::recreate(&mut work);
        }
        status::of_rollout(&work)
    };
    work.finish(status)
}

impl Work<'_> {
    pub(crate) fn name(&self) -> &str {
        self.deployment.metadata.name.as_deref().unwrap_or_default()
    }

    fn next_revision(&self) -> i64 {
        self.sets
            .old()
            .map(|set| annotations::revision(&set.metadata))
            .max()
            .unwrap_or(0)
            + 1
    }

    /// Keeps the present template's ReplicaSet, if there is one, at the highest revision.
    fn sync_revision(&mut self) {
        let Some(place) = self.sets.new_place() else {
            return;
        };
        let (deployment, revision) = (self.deployment, self.next_revision());
        let min_ready = self.settings.min_ready_seconds;
        self.sets.update(place, |set| {
            let noted = annotations::sync(deployment, set, revision);
            let spec = &mut set.spec;
            let differs = spec.min_ready_seconds.unwrap_or(0) != min_ready;
            if differs {
                spec.min_ready_seconds = Some(min_ready);
            }
            noted || differs
        });
        let set = self.sets.get(place);
        self.revision = Some(annotations::revision(&set.metadata));
        if self.settings.progress_deadline.is_some()
            && conditions::get(&self.status, conditions::PROGRESSING).is_none()
        {
            let message = format!(
                "Found new replica set {:?}",
                set.metadata.name.as_deref().unwrap_or("")
            );
            self.note_progress("True", conditions::REASON_FOUND, message);
        }
    }

    pub(crate) fn note_progress(&mut self, status: &str, reason: &str, message: String) {
        let condition = conditions::new(conditions::PROGRESSING, status, reason, message, self.now);
        conditions::set(&mut self.status, condition);
    }

    /// The clock of the progress deadline stands still while paused.
    fn note_pause(&mut self) {
        if self.settings.progress_deadline.is_none() {
            return;
        }
        let current = conditions::get(&self.status, conditions::PROGRESSING);
        if conditions::has_reason(current, conditions::REASON_TIMED_OUT) {
            return;
        }
        let noted = conditions::has_reason(current, conditions::REASON_PAUSED);
        if self.settings.paused && !noted {
            self.note_progress(
                "Unknown",
                conditions::REASON_PAUSED,
                "Deployment is paused".to_owned(),
            );
        } else if !self.settings.paused && noted {
            self.note_progress(
                "Unknown",
                conditions::REASON_RESUMED,
                "Deployment is resumed".to_owned(),
            );
        }
    }

    /// Makes sure that the present template has a ReplicaSet.
    pub(crate) fn ensure_new_set(&mut self) {
        if self.sets.new_place().is_some() {
            return;
        }
        let mut object = new_replica_set(self.deployment, self.settings.min_ready_seconds);
        let name = object.metadata.name.clone().unwrap_or_default();
        let size = rollout::new_set_size(&self.settings, 0, self.sets.total_size());
        object.spec.replicas = Some(size);
        let revision = self.next_revision();
        annotations::sync(self.deployment, &mut object, revision);
        annotations::set_sizes(
            &mut object,
            self.settings.replicas,
            self.settings.replicas + self.settings.max_surge,
        );
        self.revision = Some(revision);
        let event = (size > 0).then(|| format!("Scaled up replica set {name} from 0 to {size}"));
        self.sets.add_new(object, event);
        if self.settings.progress_deadline.is_some() {
            let message = format!("Created new replica set {name:?}");
            self.note_progress("True", conditions::REASON_CREATED, message);
        }
    }

    fn finish(self, new_status: DeploymentStatus) -> Plan {
        let recheck_at = status::recheck_at(&self, &new_status);
        let changed = self
            .deployment
            .status
            .as_ref()
            .is_none_or(|old| status::differs(old, &new_status));
        let noted = annotations::revision(&self.deployment.metadata);
        let writes = self
            .sets
            .into_writes()
            .into_iter()
            .map(|(object, created, event)| {
                let object = Box::new(object);
                (
                    if created {
                        Write::Create(object)
                    } else {
                        Write::Update(object)
                    },
                    event,
                )
            });
        Plan {
            writes: writes.collect(),
            deletes: self.deletes,
            status: changed.then_some(new_status),
            revision: self
                .revision
                .filter(|revision| *revision != noted)
                .map(|revision| revision.to_string()),
            recheck_at,
        }
    }
}

fn new_replica_set(deployment: &Deployment, min_ready_seconds: i32) -> ReplicaSet {
    let spec = deployment.spec.clone();
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count);
    let hash = hash::template_hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut match_labels = spec.selector.match_labels.unwrap_or_default();
    match_labels.insert(HASH_LABEL.to_owned(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!(
                "{}-{hash}",
                deployment.metadata.name.as_deref().unwrap_or_default()
            )),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owner::controller_ref::<Deployment>(&deployment.metadata)]),
            ..Default::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: Some(min_ready_seconds),
            selector: LabelSelector {
                match_labels: Some(match_labels),
                match_expressions: spec.selector.match_expressions,
            },
            template: Some(template),
        },
        status: None,
    }
}

/// Whether every wanted pod is of the present template and available, and no other pod exists.
pub(crate) fn is_complete(work: &Work<'_>, status: &DeploymentStatus) -> bool {
    let all = work.settings.replicas;
    status.updated_replicas.unwrap_or(0) == all
        && status.replicas.unwrap_or(0) == all
        && status.available_replicas.unwrap_or(0) == all
        && status.observed_generation.unwrap_or(0) >= work.deployment.metadata.generation.unwrap_or(0)
}

/// How a name collision with a ReplicaSet that is not of this Deployment and template is recorded: the
/// next reconcile hashes with the raised count.
pub(crate) fn after_collision(deployment: &Deployment) -> DeploymentStatus {
    let mut status = deployment.status.clone().unwrap_or_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    status
}

/// How a refused creation of the new ReplicaSet is recorded; None: progress is not watched.
pub(crate) fn after_create_error(
    deployment: &Deployment,
    message: &str,
    now: Timestamp,
) -> Option<DeploymentStatus> {
    Settings::of(deployment).progress_deadline?;
    let mut status = deployment.status.clone().unwrap_or_default();
    let condition = conditions::new(
        conditions::PROGRESSING,
        "False",
        conditions::REASON_CREATE_ERROR,
        message,
        now,
    );
    conditions::set(&mut status, condition);
    Some(status)
}

/// Whether `found` (of the name of the ReplicaSet to create) is in truth this Deployment's.
pub(crate) fn is_own_new_set(deployment: &Deployment, found: &ReplicaSet) -> bool {
    owner::is_controlled_by(
        &found.metadata,
        deployment.metadata.uid.as_deref().unwrap_or_default(),
    ) && sets::same_template(found.spec.template.as_ref(), Some(&deployment.spec.template))
}

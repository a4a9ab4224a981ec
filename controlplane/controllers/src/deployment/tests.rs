//! The plan's table of cases, step by step and whole rollouts against a model of the ReplicaSet
//! controller.

use super::plan::{Plan, Write, plan};
use super::{annotations, conditions};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::sync::Arc;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn deployment(replicas: i32, spec: Value) -> Deployment {
    let mut value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "d", "uid": "dep", "generation": 1 },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "web" } },
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "strategy": { "type": "RollingUpdate",
                "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } },
            "template": { "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "v1" }] } } }
    });
    for (key, field) in spec.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn set_image(deployment: &mut Deployment, image: &str) {
    let spec = &mut deployment.spec;
    spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    bump(deployment);
}

fn bump(deployment: &mut Deployment) {
    *deployment.metadata.generation.as_mut().unwrap() += 1;
}

/// A cluster of one Deployment: applies plans, and brings ReplicaSets' status after their spec.
struct Model {
    deployment: Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    pods: Vec<Arc<Pod>>,
    now: Timestamp,
    events: Vec<String>,
    /// New pods become available.
    healthy: bool,
}

impl Model {
    fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            sets: Vec::new(),
            pods: Vec::new(),
            now: now(),
            events: Vec::new(),
            healthy: true,
        }
    }

    fn plan(&self) -> Plan {
        plan(&self.deployment, &self.sets, &self.pods, self.now)
    }

    /// One reconcile and its effects on the API; says whether it wrote anything.
    fn reconcile(&mut self) -> bool {
        let plan = self.plan();
        let wrote = !plan.writes.is_empty() || !plan.deletes.is_empty() || plan.status.is_some();
        self.now += SignedDuration::from_secs(1);
        for (write, event) in plan.writes {
            self.events.extend(event);
            match write {
                Write::Create(mut set) => {
                    set.metadata.uid = set.metadata.name.clone();
                    set.metadata.creation_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now));
                    self.sets.push(Arc::from(set));
                }
                Write::Update(set) => {
                    let place = self
                        .sets
                        .iter()
                        .position(|old| old.metadata.uid == set.metadata.uid);
                    self.sets[place.unwrap()] = Arc::from(set);
                }
            }
        }
        for set in plan.deletes {
            self.sets.retain(|old| old.metadata.name != set.metadata.name);
        }
        if let Some(revision) = plan.revision {
            let annotations = self.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(annotations::REVISION.to_owned(), revision);
        }
        if let Some(status) = plan.status {
            self.deployment.status = Some(status);
        }
        wrote
    }

    /// Every ReplicaSet has its pods; returns whether that changed anything.
    fn replica_sets_act(&mut self) -> bool {
        let mut changed = false;
        for set in &mut self.sets {
            let size = set.spec.replicas.unwrap();
            let old = set.status.clone().unwrap_or_default();
            let available = if self.healthy {
                size
            } else {
                old.available_replicas.unwrap_or(0).min(size)
            };
            let status = ReplicaSetStatus {
                replicas: size,
                ready_replicas: Some(available),
                available_replicas: Some(available),
                ..old.clone()
            };
            changed |= status != old;
            Arc::make_mut(set).status = Some(status);
        }
        changed
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            let wrote = self.reconcile();
            let acted = self.replica_sets_act();
            if !wrote && !acted {
                return;
            }
            self.check_bounds();
        }
        panic!("does not settle: {:?}", self.plan());
    }

    fn check_bounds(&self) {
        let replicas = self.deployment.spec.replicas.unwrap();
        let total: i32 = self.sizes().iter().sum();
        assert!(
            total <= replicas + (replicas + 3) / 4 + 1,
            "{total} pods of {replicas} wanted"
        );
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(|set| set.spec.replicas.unwrap()).collect()
    }

    fn status(&self) -> &DeploymentStatus {
        self.deployment.status.as_ref().unwrap()
    }

    fn progress(&self) -> &str {
        conditions::get(self.status(), conditions::PROGRESSING)
            .unwrap()
            .reason
            .as_deref()
            .unwrap()
    }

    fn revisions(&self) -> Vec<i64> {
        self.sets
            .iter()
            .map(|set| annotations::revision(&set.metadata))
            .collect()
    }
}

fn settled(replicas: i32, spec: Value) -> Model {
    let mut model = Model::new(deployment(replicas, spec));
    model.settle();
    model.events.clear();
    model
}

#[test]
fn a_new_deployment_gets_its_replica_set() {
    let mut model = Model::new(deployment(3, json!({})));
    model.reconcile();
    let set = &model.sets[0];
    let labels = set.metadata.labels.as_ref().unwrap();
    let hash = &labels["pod-template-hash"];
    assert_eq!(set.metadata.name.as_deref(), Some(format!("web-{hash}").as_str()));
    let spec = &set.spec;
    assert_eq!(
        &spec.selector.match_labels.as_ref().unwrap()["pod-template-hash"],
        hash
    );
    let template = spec.template.as_ref().unwrap().metadata.as_ref().unwrap();
    assert_eq!(template.labels.as_ref(), Some(labels));
    let noted = set.metadata.annotations.as_ref().unwrap();
    assert_eq!(noted["deployment.kubernetes.io/desired-replicas"], "3");
    assert_eq!(noted["deployment.kubernetes.io/max-replicas"], "4");
    assert_eq!(noted["deployment.kubernetes.io/revision"], "1");
    assert_eq!(
        model.events,
        [format!("Scaled up replica set web-{hash} from 0 to 3")]
    );
    assert_eq!(model.progress(), "NewReplicaSetCreated");
    model.settle();
    assert_eq!(model.progress(), "NewReplicaSetAvailable");
    assert_eq!(model.status().updated_replicas, Some(3));
    assert_eq!(model.status().observed_generation, Some(1));
    assert_eq!(
        model.deployment.metadata.annotations.as_ref().unwrap()[annotations::REVISION],
        "1"
    );
}

#[test]
fn a_rolling_update_takes_surge_and_unavailable_into_account() {
    let mut model = settled(10, json!({}));
    set_image(&mut model.deployment, "v2");
    model.reconcile();
    assert_eq!(model.sizes(), [8, 3], "three above, two may lack");
    model.reconcile();
    assert_eq!(model.sizes(), [8, 5], "the two that went make room");
    model.reconcile();
    assert_eq!(
        model.sizes(),
        [8, 5],
        "nothing more before new pods are available"
    );
    model.settle();
    assert_eq!(model.sizes(), [0, 10]);
    assert_eq!(model.revisions(), [1, 2]);
    assert_eq!(model.progress(), "NewReplicaSetAvailable");
}

#[test]
fn unhealthy_new_pods_stop_the_rollout_and_the_deadline_tells() {
    let mut model = settled(4, json!({}));
    model.healthy = false;
    set_image(&mut model.deployment, "broken");
    model.settle();
    assert_eq!(model.sizes(), [3, 2], "no more than one of four lacks");
    assert_eq!(model.status().available_replicas, Some(3));
    assert_eq!(model.progress(), "ReplicaSetUpdated");
    let recheck = model.plan().recheck_at.unwrap();
    model.now = recheck;
    model.reconcile();
    assert_eq!(model.progress(), "ProgressDeadlineExceeded");
    assert!(model.plan().status.is_none());
    // Undo: the client puts the old template back.
    set_image(&mut model.deployment, "v1");
    model.healthy = true;
    model.settle();
    assert_eq!(model.sizes(), [4, 0]);
    assert_eq!(model.revisions(), [3, 2]);
    assert_eq!(model.progress(), "NewReplicaSetAvailable");
}

#[test]
fn unhealthy_old_pods_go_at_once() {
    let mut model = Model::new(deployment(4, json!({})));
    model.healthy = false;
    model.settle();
    set_image(&mut model.deployment, "fixed");
    model.reconcile();
    assert_eq!(model.sizes(), [3, 1]);
    let available = |set: &Arc<ReplicaSet>| set.status.as_ref().and_then(|status| status.available_replicas);
    assert_eq!(
        available(&model.sets[0]),
        Some(0),
        "the old pod that went was of no use"
    );
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut model = settled(2, json!({ "strategy": { "type": "Recreate" } }));
    let old_uid = model.sets[0].metadata.uid.clone().unwrap();
    model.pods = vec![Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "status": { "phase": "Running" },
            "metadata": { "name": "p", "namespace": "d", "uid": "p", "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": old_uid, "controller": true }] }
        }))
        .unwrap(),
    )];
    set_image(&mut model.deployment, "v2");
    model.settle();
    assert_eq!(model.sizes(), [0], "an old pod still runs");
    model.pods.clear();
    model.settle();
    assert_eq!(model.sizes(), [0, 2]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut model = settled(2, json!({}));
    model.deployment.spec.paused = Some(true);
    set_image(&mut model.deployment, "v2");
    model.deployment.spec.replicas = Some(5);
    model.settle();
    assert_eq!(model.sizes(), [5]);
    assert_eq!(model.progress(), "DeploymentPaused");
    model.deployment.spec.paused = Some(false);
    bump(&mut model.deployment);
    model.reconcile();
    model.settle();
    assert_eq!(model.sizes(), [0, 5]);
    assert_eq!(model.progress(), "NewReplicaSetAvailable");
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let mut model = settled(10, json!({}));
    model.healthy = false;
    set_image(&mut model.deployment, "v2");
    model.settle();
    assert_eq!(model.sizes(), [8, 5]);
    model.deployment.spec.replicas = Some(20);
    bump(&mut model.deployment);
    model.reconcile();
    // 25 pods may exist; 12 more split 8:5 of 13.
    assert_eq!(model.sizes(), [15, 10]);
    model.deployment.spec.replicas = Some(0);
    bump(&mut model.deployment);
    model.settle();
    assert_eq!(model.sizes(), [0, 0]);
}

#[test]
fn history_is_cut_to_the_limit_when_complete() {
    let mut model = settled(1, json!({ "revisionHistoryLimit": 2 }));
    for version in 2..7 {
        set_image(&mut model.deployment, &format!("v{version}"));
        model.settle();
    }
    assert_eq!(model.revisions(), [4, 5, 6]);
}

#[test]
fn undo_raises_the_old_replica_sets_revision() {
    let mut model = settled(1, json!({}));
    set_image(&mut model.deployment, "v2");
    model.settle();
    set_image(&mut model.deployment, "v1");
    model.settle();
    assert_eq!(model.revisions(), [3, 2]);
    let noted = model.sets[0].metadata.annotations.as_ref().unwrap();
    assert_eq!(noted["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(
        model.deployment.metadata.annotations.as_ref().unwrap()[annotations::REVISION],
        "3"
    );
}

#[test]
fn settled_means_no_writes() {
    let model = settled(3, json!({}));
    let plan = model.plan();
    assert!(plan.writes.is_empty() && plan.deletes.is_empty() && plan.revision.is_none());
    assert_eq!(plan.status, None);
    assert_eq!(plan.recheck_at, None);
}

#[test]
fn no_deadline_no_progress_condition() {
    let model = settled(1, json!({ "progressDeadlineSeconds": null }));
    assert!(conditions::get(model.status(), conditions::PROGRESSING).is_none());
    assert!(conditions::get(model.status(), conditions::AVAILABLE).is_some());
}

#[test]
fn failures_of_replica_sets_show_on_the_deployment() {
    let mut model = settled(1, json!({}));
    Arc::make_mut(&mut model.sets[0])
        .status
        .as_mut()
        .unwrap()
        .conditions = Some(
        serde_json::from_value(json!([{ "type": "ReplicaFailure", "status": "True",
            "reason": "FailedCreate", "message": "quota" }]))
        .unwrap(),
    );
    model.reconcile();
    let failure = conditions::get(model.status(), "ReplicaFailure").unwrap();
    assert_eq!(failure.message.as_deref(), Some("quota"));
}

#[test]
fn a_deleted_deployment_only_counts() {
    let mut model = settled(2, json!({}));
    model.deployment.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(model.now));
    set_image(&mut model.deployment, "v2");
    let plan = model.plan();
    assert!(plan.writes.is_empty());
    assert_eq!(plan.status.unwrap().observed_generation, Some(2));
}

//! Creates and deletes a ReplicaSet's pods, and writes its status.

use super::ReplicaSets;
use super::plan::{Plan, new_pod};
use super::status::differs;
use crate::context::{namespace_is_terminating, unless_gone};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use skep_api::{ApiError, ObjectExt, ObjectKey};
use skep_client::DeleteOptions;
use skep_runtime::EventType;
use std::sync::Arc;

/// The first batch of creations; each that succeeds doubles the next, so that what cannot be created is
/// not tried hundreds of times.
const FIRST_BATCH: usize = 1;

impl ReplicaSets {
    pub(super) async fn apply(&self, key: &ObjectKey, set: &ReplicaSet, plan: Plan) -> Result<(), ApiError> {
        match plan {
            Plan::Nothing => Ok(()),
            Plan::Create(count) => self.create(key, set, count).await,
            Plan::Delete(pods) => self.delete(key, set, pods).await,
        }
    }

    async fn create(&self, key: &ObjectKey, set: &ReplicaSet, count: usize) -> Result<(), ApiError> {
        tracing::info!(
            namespace = set.namespace(),
            name = set.name(),
            count,
            "creating pods"
        );
        self.expectations.expect_creations(key, count);
        let pod = new_pod(set);
        let (mut left, mut batch) = (count, FIRST_BATCH);
        let mut failure = None;
        while left > 0 && failure.is_none() {
            let size = batch.min(left);
            let results = join_all((0..size).map(|_| self.client.create(&pod))).await;
            left -= size;
            batch *= 2;
            for result in results {
                match result {
                    Ok(pod) => self.say(
                        set,
                        EventType::Normal,
                        "SuccessfulCreate",
                        format!("Created pod: {}", pod.name()),
                    ),
                    Err(error) => {
                        self.expectations.creation_observed(key);
                        if !namespace_is_terminating(&error) {
                            self.say(
                                set,
                                EventType::Warning,
                                "FailedCreate",
                                format!("Error creating: {error}"),
                            );
                        }
                        failure = Some(error);
                    }
                }
            }
        }
        for _ in 0..left {
            self.expectations.creation_observed(key);
        }
        match failure {
            Some(error) if !namespace_is_terminating(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn delete(&self, key: &ObjectKey, set: &ReplicaSet, pods: Vec<Arc<Pod>>) -> Result<(), ApiError> {
        tracing::info!(
            namespace = set.namespace(),
            name = set.name(),
            count = pods.len(),
            "deleting pods"
        );
        self.expectations
            .expect_deletions(key, pods.iter().map(|pod| pod.uid().to_owned()));
        let results = join_all(pods.iter().map(|pod| self.delete_one(pod))).await;
        let mut failure = None;
        for (pod, result) in pods.iter().zip(results) {
            match result {
                Ok(Some(())) => self.say(
                    set,
                    EventType::Normal,
                    "SuccessfulDelete",
                    format!("Deleted pod: {}", pod.name()),
                ),
                Ok(None) => self.expectations.deletion_observed(key, pod.uid()),
                Err(error) => {
                    self.expectations.deletion_observed(key, pod.uid());
                    self.say(
                        set,
                        EventType::Warning,
                        "FailedDelete",
                        format!("Error deleting: {error}"),
                    );
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn delete_one(&self, pod: &Pod) -> Result<Option<()>, ApiError> {
        let options = DeleteOptions::default().with_uid(pod.uid());
        let deleted = unless_gone(self.client.delete::<Pod>(&pod.key(), &options).await)?;
        Ok(deleted.map(drop))
    }

    pub(super) async fn write_status(
        &self,
        set: &ReplicaSet,
        status: ReplicaSetStatus,
    ) -> Result<(), ApiError> {
        if !differs(set.status.as_ref(), &status) {
            return Ok(());
        }
        let mut written = set.clone();
        written.status = Some(status);
        unless_gone(self.client.update_status(&written).await).map(drop)
    }

    fn say(&self, set: &ReplicaSet, kind: EventType, reason: &str, message: String) {
        self.events.event(set, kind, reason, message);
    }
}

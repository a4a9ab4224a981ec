//! Writes a Deployment's plan.

use super::plan::{Plan, Write, after_collision, after_create_error, is_own_new_set};
use super::{Deployments, annotations};
use crate::context::{namespace_is_terminating, unless_gone};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use serde_json::json;
use skep_api::{ApiError, ObjectExt};
use skep_client::{DeleteOptions, Patch};
use skep_runtime::EventType;
use std::sync::Arc;

impl Deployments {
    pub(super) async fn apply(&self, deployment: &Arc<Deployment>, plan: Plan) -> Result<(), ApiError> {
        for (write, event) in plan.writes {
            let done = match write {
                Write::Create(set) => self.create(deployment, &set).await?,
                Write::Update(set) => {
                    self.client.update::<ReplicaSet>(&set).await?;
                    Created::Yes
                }
            };
            match (done, event) {
                (Created::Yes, Some(message)) => {
                    tracing::info!(
                        namespace = deployment.namespace(),
                        name = deployment.name(),
                        message
                    );
                    self.events
                        .event(&**deployment, EventType::Normal, "ScalingReplicaSet", message);
                }
                // The rest of the plan rests on a ReplicaSet that is not there.
                (Created::Never, _) => return Ok(()),
                _ => {}
            }
        }
        for set in plan.deletes {
            let options = DeleteOptions::default().with_uid(set.uid());
            unless_gone(self.client.delete::<ReplicaSet>(&set.key(), &options).await)?;
        }
        let mut current = deployment.clone();
        if let Some(revision) = plan.revision {
            let patch = Patch::merge(
                &json!({ "metadata": { "annotations": { (annotations::REVISION): revision },
                "resourceVersion": deployment.metadata.resource_version } }),
            )?;
            current = self.client.patch::<Deployment>(&deployment.key(), &patch).await?;
        }
        match plan.status {
            Some(status) => self.write_status(&current, status).await,
            None => Ok(()),
        }
    }

    async fn create(&self, deployment: &Deployment, set: &ReplicaSet) -> Result<Created, ApiError> {
        let error = match self.client.create(set).await {
            Ok(_) => return Ok(Created::Yes),
            Err(error) => error,
        };
        if error.is_already_exists() {
            return match self.client.find::<ReplicaSet>(&set.key()).await? {
                Some(found) if is_own_new_set(deployment, &found) => Ok(Created::Before),
                _ => {
                    tracing::info!(name = set.name(), "name collision, counting up");
                    self.write_status(deployment, after_collision(deployment)).await?;
                    Ok(Created::Never)
                }
            };
        }
        if namespace_is_terminating(&error) {
            return Ok(Created::Never);
        }
        let message = format!("Failed to create new replica set {:?}: {error}", set.name());
        self.events.event(
            deployment,
            EventType::Warning,
            super::conditions::REASON_CREATE_ERROR,
            &message,
        );
        if let Some(status) = after_create_error(deployment, &message, self.clock.now()) {
            self.write_status(deployment, status).await?;
        }
        Err(error)
    }

    pub(super) async fn write_status(
        &self,
        deployment: &Deployment,
        status: DeploymentStatus,
    ) -> Result<(), ApiError> {
        if deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut written = deployment.clone();
        written.status = Some(status);
        unless_gone(self.client.update_status(&written).await).map(drop)
    }
}

enum Created {
    Yes,
    /// By an earlier reconcile; the informer has not shown it yet.
    Before,
    Never,
}

//! Volumes, cgroup and sandbox: what is there before the containers.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use skep_api::ObjectExt;
use skep_api::references::References;
use skep_cri::v1;
use skep_runtime::EventType;

use super::{PodWorker, SyncError};
use crate::dns::HostResolver;
use crate::env::Referenced;
use crate::sandbox_config::sandbox_config;
use crate::spec::{self, spec};
use crate::{resources, volumes};

/// A pod's volumes on the host, and the objects that they and the variables come from.
#[derive(Clone)]
pub(super) struct PreparedVolumes {
    pub(super) prepared: HashMap<String, volumes::Prepared>,
    pub(super) referenced: Referenced,
    /// The version of the pod that they were made for.
    version: Option<String>,
}

impl PodWorker {
    /// Makes the pod's volumes, or brings them up to date.
    pub(super) async fn prepare_volumes(&mut self, pod: &Arc<Pod>) -> Result<(), SyncError> {
        self.waker.take_objects_changed();
        match self.make_volumes(pod).await {
            Ok(prepared) => {
                self.volumes = Some(prepared);
                Ok(())
            }
            Err(error) => {
                self.shared
                    .events
                    .pod(pod, EventType::Warning, "FailedMount", &error.to_string());
                Err(error)
            }
        }
    }

    async fn make_volumes(&self, pod: &Arc<Pod>) -> Result<PreparedVolumes, SyncError> {
        let referenced = self
            .shared
            .objects
            .fetch((&self.id.uid, &self.waker), pod.namespace(), References::of(pod))
            .await?;
        let (shared, pod_copy, ips) = (Arc::clone(&self.shared), Arc::clone(pod), self.pod_ips(pod));
        let objects = referenced.clone();
        let prepared = blocking(move || {
            let facts = shared.facts(&pod_copy, &ips);
            shared.volumes.prepare(&facts, &objects)
        })
        .await??;
        Ok(PreparedVolumes {
            prepared,
            referenced,
            version: pod.metadata.resource_version.clone(),
        })
    }

    /// Brings the volumes of a running pod up to date after an object or the pod itself changed.
    pub(super) async fn refresh_volumes(&mut self, pod: &Arc<Pod>) {
        let Some(prepared) = &self.volumes else {
            // After a restart of the kubelet: follow the objects again, as soon as anything runs.
            if self.observed.running().next().is_some()
                && let Err(error) = self.prepare_volumes(pod).await
            {
                tracing::warn!(pod = %self.id, %error, "volumes not up to date");
            }
            return;
        };
        let pod_changed = prepared.version != pod.metadata.resource_version && has_downward(pod);
        if !self.waker.take_objects_changed() && !pod_changed {
            return;
        }
        // A container that waits for an object need not wait any longer.
        self.held.clear();
        if let Err(error) = self.prepare_volumes(pod).await {
            tracing::warn!(pod = %self.id, %error, "volumes not up to date");
        }
    }

    /// The configuration of the pod's sandbox.
    pub(super) async fn sandbox_config(&self, pod: &Pod, attempt: u32) -> v1::PodSandboxConfig {
        let text = match tokio::fs::read_to_string(&self.shared.config.resolv_conf).await {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(path = %self.shared.config.resolv_conf.display(), %error, "the host's resolv.conf is not readable");
                String::new()
            }
        };
        let cgroup = self.shared.cgroups.pod_path(&self.id.uid, spec::qos(pod));
        sandbox_config(
            pod,
            &self.shared.config,
            &HostResolver::parse(&text),
            cgroup,
            attempt,
        )
    }

    pub(super) async fn create_sandbox(&mut self, pod: &Arc<Pod>, attempt: u32) -> Result<(), SyncError> {
        let config = self.sandbox_config(pod, attempt).await;
        tokio::fs::create_dir_all(&config.log_directory).await?;
        let cgroup = self.shared.cgroups.pod_path(&self.id.uid, spec::qos(pod));
        let (cgroups, limits) = (self.shared.cgroups.clone(), resources::of_pod(pod));
        blocking(move || cgroups.create(&cgroup, &limits)).await??;
        match self.shared.runtime.run_pod_sandbox(config).await {
            Ok(id) => {
                tracing::info!(pod = %self.id, sandbox = id, attempt, "sandbox made");
                Ok(())
            }
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {error}");
                self.shared
                    .events
                    .pod(pod, EventType::Warning, "FailedCreatePodSandBox", &message);
                Err(error.into())
            }
        }
    }
}

/// Runs what blocks on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SyncError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| SyncError::Io(error.into()))
}

/// Whether the pod's own metadata is in one of its volumes.
fn has_downward(pod: &Pod) -> bool {
    let volumes = spec(pod)
        .get()
        .and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default();
    volumes.iter().any(|volume| {
        let parts = volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten());
        volume.downward_api.is_some() || parts.into_iter().any(|part| part.downward_api.is_some())
    })
}

//! Starting one container: image, configuration, creation, start, hook.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use skep_api::ObjectExt;
use skep_cri::v1;
use skep_runtime::EventType;

use super::PodWorker;
use super::kill::Deadline;
use super::prepare::blocking;
use crate::container_config::{Prepared, bind, container_config, propagation};
use crate::observed::Sandbox;
use crate::plan::Waiting;
use crate::spec::spec;
use crate::{dns, env, hooks, pull_secrets, resources, security};

/// Why a container was not started.
pub(super) enum StartError {
    /// It has to wait, for this reason.
    Waiting(Waiting),
    /// The pod is to end.
    Interrupted,
}

fn waiting(reason: &str, message: impl ToString) -> StartError {
    StartError::Waiting(Waiting {
        reason: reason.to_owned(),
        message: message.to_string(),
    })
}

impl PodWorker {
    pub(super) async fn start_one(
        &self,
        pod: &Pod,
        container: &Container,
        attempt: u32,
        sandbox: &Sandbox,
    ) -> Result<(), StartError> {
        let events = &self.shared.events;
        let about = (pod, container.name.as_str());
        let sandbox_config = self.sandbox_config(pod, sandbox.attempt).await;
        let image_name = container.image.as_deref().unwrap_or_default();
        let auth = self
            .volumes
            .as_ref()
            .and_then(|volumes| pull_secrets::auth_for(pod, &volumes.referenced, image_name));
        let image = self
            .shared
            .images
            .ensure(events, pod, container, &sandbox_config, auth);
        let image = match self.unless_ending(image).await {
            Some(image) => image.map_err(StartError::Waiting)?,
            None => return Err(StartError::Interrupted),
        };
        let prepared = match self.prepare_container(pod, container, attempt, image).await {
            Ok(prepared) => prepared,
            Err(message) => {
                events.container(about, EventType::Warning, "Failed", &format!("Error: {message}"));
                return Err(waiting("CreateContainerConfigError", message));
            }
        };
        let config = container_config(pod, container, attempt, prepared);
        let log = Path::new(&sandbox_config.log_directory).join(&container.name);
        if let Err(error) = tokio::fs::create_dir_all(&log).await {
            return Err(waiting(
                "CreateContainerError",
                format!("{}: {error}", log.display()),
            ));
        }
        let created = self
            .shared
            .runtime
            .create_container(&sandbox.id, config, sandbox_config)
            .await;
        let id = match created {
            Ok(id) => id,
            Err(error) => {
                events.container(about, EventType::Warning, "Failed", &format!("Error: {error}"));
                return Err(waiting("CreateContainerError", error.message));
            }
        };
        let message = format!("Created container: {}", container.name);
        events.container(about, EventType::Normal, "Created", &message);
        if let Err(error) = self.shared.runtime.start_container(&id).await {
            events.container(about, EventType::Warning, "Failed", &format!("Error: {error}"));
            return Err(waiting("RunContainerError", error.message));
        }
        events.container(
            about,
            EventType::Normal,
            "Started",
            &format!("Started container {}", container.name),
        );
        tracing::info!(pod = %self.id, container = container.name, id, attempt, "container started");
        self.post_start(pod, container, &id).await
    }

    async fn post_start(&self, pod: &Pod, container: &Container, id: &str) -> Result<(), StartError> {
        let handler = container
            .lifecycle
            .as_ref()
            .and_then(|hooks| hooks.post_start.as_ref());
        let Some(handler) = handler else {
            return Ok(());
        };
        // Probes and statuses go on meanwhile; upstream bounds the hook by nothing but the pod's life.
        let hook = hooks::run(
            &*self.shared.runtime,
            container,
            handler,
            id,
            self.pod_ip(pod),
            std::time::Duration::from_secs(24 * 3600),
        );
        let Some(result) = self.unless_ending(hook).await else {
            return Err(StartError::Interrupted);
        };
        let Err(error) = result else {
            return Ok(());
        };
        let about = (pod, container.name.as_str());
        let message = format!("PostStartHook failed: {error}");
        self.shared
            .events
            .container(about, EventType::Warning, "FailedPostStartHook", &message);
        let mut deadline = Deadline::after(spec(pod).grace());
        self.kill(
            Some(pod),
            id,
            &container.name,
            "FailedPostStartHook",
            &mut deadline,
        )
        .await;
        Err(waiting("PostStartHookError", message))
    }

    async fn prepare_container(
        &self,
        pod: &Pod,
        container: &Container,
        attempt: u32,
        image: v1::Image,
    ) -> Result<Prepared, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let ips = self.pod_ips(pod);
        let facts = self.shared.facts(pod, &ips);
        let referenced = self
            .volumes
            .as_ref()
            .map(|volumes| volumes.referenced.clone())
            .unwrap_or_default();
        self.shared.services.synced().await;
        // The API's own first: one of that name in the pod's namespace takes its place.
        let known = self.shared.services.store();
        let api = known.get(&skep_api::ObjectKey::new("default", "kubernetes"));
        let own = known.in_namespace(pod.namespace());
        let services: Vec<_> = api.into_iter().chain(own).collect();
        let variables =
            env::variables(&facts, container, &referenced, &services).map_err(|error| text(&error))?;
        let security = security::of_container(pod, container, &image, &self.shared.config.root_dir)
            .map_err(|error| text(&error))?;
        let mut mounts = self.volume_mounts(container, &variables).await?;
        mounts.extend(
            self.hosts_mount(pod, container, &ips)
                .await
                .map_err(|error| text(&error))?,
        );
        let message_file = self
            .message_file(container, attempt)
            .await
            .map_err(|error| text(&error))?;
        let host = &self.shared.host;
        let resources = resources::of_container(pod, container, host.memory_bytes, host.lowest_oom_score_adj);
        Ok(Prepared {
            image,
            variables,
            mounts,
            resources,
            security,
            message_file,
        })
    }

    async fn volume_mounts(
        &self,
        container: &Container,
        variables: &[(String, String)],
    ) -> Result<Vec<v1::Mount>, String> {
        let mut mounts = Vec::new();
        let empty = std::collections::HashMap::new();
        let prepared = self.volumes.as_ref().map_or(&empty, |volumes| &volumes.prepared);
        for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
            let Some(volume) = prepared.get(&wanted.name) else {
                return Err(format!(
                    "volume \"{}\" of the mount {} is not there",
                    wanted.name, wanted.mount_path
                ));
            };
            let sub_path = match (&wanted.sub_path, &wanted.sub_path_expr) {
                (Some(path), _) if !path.is_empty() => Some(path.clone()),
                (_, Some(text)) if !text.is_empty() => {
                    env::expand_all(Some(&vec![text.clone()]), variables).pop()
                }
                _ => None,
            };
            let host = match sub_path {
                Some(sub_path) => {
                    self.bind_sub_path(&volume.path, &wanted.name, container, index, sub_path)
                        .await?
                }
                None => volume.path.clone(),
            };
            let read_only = volume.read_only || wanted.read_only.unwrap_or(false);
            let mut mount = bind(&host, &wanted.mount_path, read_only);
            mount.set_propagation(propagation(wanted.mount_propagation.as_deref()));
            mounts.push(mount);
        }
        Ok(mounts)
    }

    async fn bind_sub_path(
        &self,
        root: &Path,
        volume: &str,
        container: &Container,
        index: usize,
        sub_path: String,
    ) -> Result<PathBuf, String> {
        let (volumes, uid) = (self.shared.volumes.clone(), self.id.uid.clone());
        let (root, volume, container) = (root.to_owned(), volume.to_owned(), container.name.clone());
        let bound =
            blocking(move || volumes.bind_sub_path(&uid, (&volume, &root), &container, index, &sub_path))
                .await;
        match bound {
            Ok(Ok(path)) => Ok(path),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The pod's hosts file, unless the container mounts one of its own.
    async fn hosts_mount(
        &self,
        pod: &Pod,
        container: &Container,
        ips: &[String],
    ) -> std::io::Result<Option<v1::Mount>> {
        const HOSTS: &str = "/etc/hosts";
        let mut own = container.volume_mounts.iter().flatten();
        if own.any(|mount| mount.mount_path.trim_end_matches('/') == HOSTS) {
            return Ok(None);
        }
        let host_file = match spec(pod).host_network() {
            true => tokio::fs::read_to_string(HOSTS).await.unwrap_or_default(),
            false => String::new(),
        };
        let text = dns::hosts_file(pod, ips, &self.shared.config.cluster_domain, &host_file);
        let path = self.shared.volumes.pod(&self.id.uid).join("etc-hosts");
        tokio::fs::write(&path, text).await?;
        Ok(Some(bind(&path, HOSTS, false)))
    }

    /// An empty file that anyone in the container may write to.
    async fn message_file(&self, container: &Container, attempt: u32) -> std::io::Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let directory = self
            .shared
            .volumes
            .pod(&self.id.uid)
            .join("containers")
            .join(&container.name);
        tokio::fs::create_dir_all(&directory).await?;
        let path = directory.join(format!("message-{attempt}"));
        tokio::fs::write(&path, b"").await?;
        tokio::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).await?;
        Ok(path)
    }
}

//! Taking a pod down, and away.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use skep_api::ObjectKey;
use skep_client::DeleteOptions;
use tokio::sync::watch;
use tokio::time::Instant;

use super::kill::Deadline;
use super::prepare::blocking;
use super::{Next, PodWorker, SyncError, Wanted};
use crate::spec::{self, spec};
use crate::status_writer::is_gone;

/// How often a cgroup is tried to be removed while its last processes go.
const CGROUP_ATTEMPTS: u32 = 50;
const CGROUP_STEP: Duration = Duration::from_millis(20);
/// The grace period of containers of which nobody knows any.
const UNKNOWN_GRACE: Duration = Duration::from_secs(30);

impl PodWorker {
    /// Ends a pod that the API wants gone, and lets the API forget it.
    pub(super) async fn end(&mut self, wanted: &Wanted) -> Result<Next, SyncError> {
        self.observe().await?;
        let pod = wanted.pod().map(|pod| self.with_newest_status(pod));
        self.kill_all(pod.as_deref(), wanted).await?;
        self.clear_away(pod.as_ref(), matches!(wanted, Wanted::Object(_)))
            .await?;
        if let Wanted::Object(pod) = wanted {
            self.forget_in_api(pod).await?;
        }
        let runtime = &self.shared.runtime;
        for container in &self.observed.containers {
            runtime.remove_container(&container.id).await?;
        }
        for sandbox in &self.observed.sandboxes {
            runtime.remove_pod_sandbox(&sandbox.id).await?;
        }
        let logs = self.shared.config.log_dir.join(self.id.log_directory());
        match tokio::fs::remove_dir_all(&logs).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.shared.objects.release(&self.id.uid);
        self.shared.statuses.forget(&self.id.uid);
        tracing::info!(pod = %self.id, "pod gone");
        Ok(Next::Done)
    }

    /// Takes down a pod that has run its course. Its records and logs stay.
    pub(super) async fn take_down(&mut self, pod: &Arc<Pod>, reported: bool) -> Result<Next, SyncError> {
        let wanted = Wanted::Object(Arc::clone(pod));
        self.kill_all(Some(pod), &wanted).await?;
        self.clear_away(Some(pod), !reported).await?;
        self.shared.objects.release(&self.id.uid);
        self.taken_down = true;
        Ok(Next::Wait(None))
    }

    /// Ends all that runs: first the pod's own containers, then its sidecars, the last one first.
    async fn kill_all(&self, pod: Option<&Pod>, wanted: &Wanted) -> Result<(), SyncError> {
        let (main, mut sidecars): (Vec<_>, Vec<_>) = self.observed.running().partition(|container| {
            !pod.and_then(|pod| spec(pod).container(&container.name))
                .is_some_and(spec::is_sidecar)
        });
        if main.is_empty() && sidecars.is_empty() {
            return Ok(());
        }
        let grace = self.grace(wanted);
        let (mover, deadline) = Deadline::movable(grace);
        let order = pod.map(|pod| spec(pod).init_containers()).unwrap_or_default();
        sidecars.sort_by_key(|container| {
            std::cmp::Reverse(order.iter().position(|known| known.name == container.name))
        });
        let killing = async {
            let kill = |id: String, name: String| {
                let mut deadline = deadline.clone();
                async move {
                    let message = format!("Stopping container {name}");
                    self.kill(pod, &id, &name, &message, &mut deadline).await;
                }
            };
            join_all(
                main.iter()
                    .map(|container| kill(container.id.clone(), container.name.clone())),
            )
            .await;
            for container in &sidecars {
                kill(container.id.clone(), container.name.clone()).await;
            }
        };
        tokio::select! {
            () = killing => {}
            () = self.bring_forward(&mover) => {}
        }
        Ok(())
    }

    /// Shortens the time when the API asks for less, for ever.
    async fn bring_forward(&self, deadline: &watch::Sender<Instant>) {
        let mut wanted = self.wanted.clone();
        loop {
            if wanted.changed().await.is_err() {
                return std::future::pending().await;
            }
            let asked = Instant::now() + self.grace(&wanted.borrow_and_update().clone());
            deadline.send_if_modified(|known| {
                let earlier = asked < *known;
                if earlier {
                    *known = asked;
                }
                earlier
            });
        }
    }

    fn grace(&self, wanted: &Wanted) -> Duration {
        match wanted.pod() {
            Some(pod) => {
                let asked = pod.metadata.deletion_grace_period_seconds;
                asked.map_or_else(|| spec(pod).grace(), spec::seconds)
            }
            None => {
                let known = self
                    .observed
                    .containers
                    .iter()
                    .find_map(|container| container.grace_seconds);
                known.map_or(UNKNOWN_GRACE, spec::seconds)
            }
        }
    }

    /// Stops the sandboxes, reports how it ended, and removes volumes and cgroup.
    async fn clear_away(&mut self, pod: Option<&Arc<Pod>>, report: bool) -> Result<(), SyncError> {
        let stops = self
            .observed
            .sandboxes
            .iter()
            .filter(|sandbox| sandbox.ready || !self.taken_down);
        for sandbox in stops {
            self.shared.runtime.stop_pod_sandbox(&sandbox.id).await?;
        }
        self.prober.remove(&self.id.uid);
        self.observe().await?;
        if let Some(running) = self.observed.running().next() {
            return Err(SyncError::StillRunning {
                name: running.name.clone(),
            });
        }
        if let (Some(pod), true) = (pod, report) {
            self.report(pod, &std::collections::BTreeMap::new(), true);
        }
        let (volumes, uid) = (self.shared.volumes.clone(), self.id.uid.clone());
        blocking(move || volumes.remove(&uid)).await??;
        self.volumes = None;
        self.remove_cgroup().await
    }

    async fn remove_cgroup(&self) -> Result<(), SyncError> {
        let (cgroups, uid) = (self.shared.cgroups.clone(), self.id.uid.clone());
        for attempt in 1..=CGROUP_ATTEMPTS {
            let (cgroups, uid) = (cgroups.clone(), uid.clone());
            let removed = blocking(move || {
                cgroups
                    .known()
                    .into_iter()
                    .filter(|(known, _)| *known == uid)
                    .try_for_each(|(_, path)| cgroups.remove(&path))
            })
            .await?;
            match removed {
                Err(error) if attempt == CGROUP_ATTEMPTS => {
                    // Tried again when the node is tidied up.
                    tracing::warn!(pod = %self.id, %error, "cgroup not removed");
                }
                Err(_busy) => tokio::time::sleep(CGROUP_STEP).await,
                Ok(()) => break,
            }
        }
        Ok(())
    }

    /// Writes the last status and deletes the object.
    async fn forget_in_api(&self, pod: &Pod) -> Result<(), SyncError> {
        if !self.shared.statuses.flush(&self.id.uid).await? {
            return Ok(());
        }
        let key = ObjectKey::of(&pod.metadata);
        let options = DeleteOptions::now().with_uid(self.id.uid.as_str());
        match self.shared.client.delete::<Pod>(&key, &options).await {
            Err(error) if is_gone(&error) || error.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Ends a sandbox that the pod no longer lives in.
    pub(super) async fn stop_sandbox(&mut self, pod: &Pod, id: &str) -> Result<(), SyncError> {
        let worker = &*self;
        let inside = worker
            .observed
            .running()
            .filter(|container| container.sandbox_id == id);
        let kills = inside.map(|container| async move {
            let mut deadline = Deadline::after(spec(pod).grace());
            let message = "Pod sandbox changed, it will be killed and re-created.";
            worker
                .kill(Some(pod), &container.id, &container.name, message, &mut deadline)
                .await;
        });
        join_all(kills).await;
        self.shared.runtime.stop_pod_sandbox(id).await?;
        Ok(())
    }
}

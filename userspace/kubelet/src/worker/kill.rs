//! Ending a container: hook, stop signal, patience, kill.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use skep_runtime::EventType;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{PodWorker, SyncError};
use crate::hooks;
use crate::plan::KillReason;
use crate::spec::{self, spec};

/// A container has at least so long between the stop signal and the kill.
const MIN_GRACE: Duration = Duration::from_secs(2);

/// Until when a container may take to end. It can be brought forward while the container ends.
#[derive(Clone)]
pub(super) struct Deadline(watch::Receiver<Instant>);

impl Deadline {
    /// A fixed one.
    pub(super) fn after(grace: Duration) -> Self {
        Self(watch::channel(Instant::now() + grace).1)
    }

    /// One that can be brought forward.
    pub(super) fn movable(grace: Duration) -> (watch::Sender<Instant>, Self) {
        let (sender, receiver) = watch::channel(Instant::now() + grace);
        (sender, Self(receiver))
    }

    fn left(&mut self) -> Duration {
        let deadline = *self.0.borrow_and_update();
        deadline.saturating_duration_since(Instant::now())
    }

    /// Returns when the deadline was brought forward.
    async fn moved(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl PodWorker {
    /// Ends a container that will be started again.
    pub(super) async fn kill_one(
        &mut self,
        pod: &Pod,
        id: &str,
        name: &str,
        why: KillReason,
    ) -> Result<(), SyncError> {
        let grace = spec(pod)
            .container(name)
            .and_then(|container| probe_grace(container, why));
        let mut deadline = Deadline::after(grace.unwrap_or_else(|| spec(pod).grace()));
        let message = why.message(name);
        let kill = self.kill(Some(pod), id, name, &message, &mut deadline);
        self.unless_ending(kill).await.ok_or(SyncError::Interrupted)
    }

    /// Ends a container: its hook, the stop signal, the kill when the deadline has passed. Returns when it has ended or
    /// the runtime refused (then the next look at the pod decides).
    pub(super) async fn kill(
        &self,
        pod: Option<&Pod>,
        id: &str,
        name: &str,
        message: &str,
        deadline: &mut Deadline,
    ) {
        if let Some(pod) = pod {
            self.shared
                .events
                .container((pod, name), EventType::Normal, "Killing", message);
            self.pre_stop(pod, id, name, deadline).await;
        }
        loop {
            let left = deadline.left().max(MIN_GRACE);
            // The runtime counts whole seconds.
            let grace = Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0));
            tokio::select! {
                stopped = self.shared.runtime.stop_container(id, grace) => {
                    if let Err(error) = stopped {
                        tracing::warn!(pod = %self.id, container = name, id, %error, "container not stopped");
                    }
                    return;
                }
                () = deadline.moved() => {}
            }
        }
    }

    async fn pre_stop(&self, pod: &Pod, id: &str, name: &str, deadline: &mut Deadline) {
        let Some(container) = spec(pod).container(name) else {
            return;
        };
        let handler = container
            .lifecycle
            .as_ref()
            .and_then(|hooks| hooks.pre_stop.as_ref());
        let left = deadline.left();
        let (Some(handler), false) = (handler, left.is_zero()) else {
            return;
        };
        let hook = hooks::run(
            &*self.shared.runtime,
            container,
            handler,
            id,
            self.pod_ip(pod),
            left,
        );
        tokio::pin!(hook);
        loop {
            let left = deadline.left();
            tokio::select! {
                result = &mut hook => {
                    if let Err(error) = result {
                        let message = format!("PreStopHook failed: {error}");
                        let about = (pod, name);
                        self.shared.events.container(about, EventType::Warning, "FailedPreStopHook", &message);
                    }
                    return;
                }
                () = tokio::time::sleep(left) => return,
                () = deadline.moved() => {}
            }
        }
    }
}

/// A probe may ask for another grace period than the pod.
fn probe_grace(container: &Container, why: KillReason) -> Option<Duration> {
    let probe = match why {
        KillReason::StartupProbe => container.startup_probe.as_ref(),
        KillReason::LivenessProbe => container.liveness_probe.as_ref(),
        KillReason::SpecChanged | KillReason::Unknown => None,
    };
    probe?.termination_grace_period_seconds.map(spec::seconds)
}

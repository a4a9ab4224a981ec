//! Bringing the image of a container onto the node.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use skep_cri::{Runtime, RuntimeError, v1};
use skep_runtime::EventType;

use crate::backoff::Backoffs;
use crate::events::Events;
use crate::plan::Waiting;

/// Images of this host are loaded into the runtime, never pulled.
pub(crate) const LOADED: &str = "skep.local/";

/// The images of the node.
pub(crate) struct Images {
    runtime: Arc<dyn Runtime>,
    backoffs: Mutex<Backoffs>,
    failed: Mutex<std::collections::HashMap<String, Timestamp>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

fn policy(container: &Container, image: &str) -> Policy {
    if image.starts_with(LOADED) {
        return Policy::Never;
    }
    match container.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        _ => Policy::IfNotPresent,
    }
}

fn waiting(reason: &str, message: String) -> Waiting {
    Waiting {
        reason: reason.to_owned(),
        message,
    }
}

impl Images {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self {
            runtime,
            backoffs: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    /// The container's image, pulled if it has to be.
    pub(crate) async fn ensure(
        &self,
        events: &Events,
        pod: &Pod,
        container: &Container,
        sandbox: &v1::PodSandboxConfig,
        auth: Option<v1::AuthConfig>,
    ) -> Result<v1::Image, Waiting> {
        let image = container.image.as_deref().unwrap_or_default();
        let policy = policy(container, image);
        let about = (pod, container.name.as_str());
        let inspect = |error: RuntimeError| {
            let message = format!("Failed to inspect image \"{image}\": {error}");
            events.container(about, EventType::Warning, "InspectFailed", &message);
            waiting("ImageInspectError", message)
        };
        let present = self.runtime.image_status(image).await.map_err(inspect)?;
        if policy != Policy::Always
            && let Some(present) = present
        {
            let message = format!("Container image \"{image}\" already present on machine");
            events.container(about, EventType::Normal, "Pulled", &message);
            return Ok(present);
        }
        if policy == Policy::Never {
            let hint = if image.starts_with(LOADED) {
                ": load it with `skep image load`"
            } else {
                ""
            };
            let message =
                format!("Container image \"{image}\" is not present with pull policy of Never{hint}");
            events.container(about, EventType::Warning, "ErrImageNeverPull", &message);
            return Err(waiting("ErrImageNeverPull", message));
        }
        self.pull(events, about, image, sandbox, auth).await?;
        match self.runtime.image_status(image).await.map_err(inspect)? {
            Some(present) => Ok(present),
            None => Err(waiting(
                "ErrImagePull",
                format!("image \"{image}\" is absent after it was pulled"),
            )),
        }
    }

    async fn pull(
        &self,
        events: &Events,
        about: (&Pod, &str),
        image: &str,
        sandbox: &v1::PodSandboxConfig,
        auth: Option<v1::AuthConfig>,
    ) -> Result<(), Waiting> {
        let failed = self.failed.lock().get(image).copied();
        let wait = failed.and_then(|failed| self.backoffs.lock().wait(image, failed, Timestamp::now()));
        if wait.is_some() {
            let message = format!("Back-off pulling image \"{image}\"");
            events.container(about, EventType::Normal, "BackOff", &message);
            return Err(waiting("ImagePullBackOff", message));
        }
        events.container(
            about,
            EventType::Normal,
            "Pulling",
            &format!("Pulling image \"{image}\""),
        );
        let began = Instant::now();
        match self.runtime.pull_image(image, auth, sandbox.clone()).await {
            Ok(_reference) => {
                self.failed.lock().remove(image);
                let message = format!("Successfully pulled image \"{image}\" in {:.3?}", began.elapsed());
                events.container(about, EventType::Normal, "Pulled", &message);
                Ok(())
            }
            Err(error) => {
                let now = Timestamp::now();
                self.backoffs.lock().next(image, now);
                self.failed.lock().insert(image.to_owned(), now);
                let message = format!("Failed to pull image \"{image}\": {error}");
                events.container(about, EventType::Warning, "Failed", &message);
                events.container(about, EventType::Warning, "Failed", "Error: ErrImagePull");
                Err(waiting("ErrImagePull", message))
            }
        }
    }
}

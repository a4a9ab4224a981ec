//! The trait over container runtimes.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{RuntimeError, v1};

pub use crate::v1::ContainerStats;

/// Something happened to a container or sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeEvent {
    /// The container's id; a sandbox's id where the sandbox itself is meant.
    pub container_id: String,
    /// What happened.
    pub kind: RuntimeEventKind,
}

/// What happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeEventKind {
    /// It was created.
    Created,
    /// It was started.
    Started,
    /// It ended; its status already says so.
    Stopped,
    /// It was removed.
    Deleted,
}

/// A CRI v1 runtime. Every call is one request; nothing is cached and nothing is retried.
///
/// # Errors
/// All calls fail with [`RuntimeError`], whose kind is `Unavailable` while the runtime is away.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version of the runtime.
    async fn version(&self) -> Result<v1::VersionResponse, RuntimeError>;
    /// Conditions of the runtime: `RuntimeReady` and `NetworkReady`.
    async fn status(&self) -> Result<v1::RuntimeStatus, RuntimeError>;

    /// Creates and starts a sandbox; returns its id.
    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig) -> Result<String, RuntimeError>;
    /// Kills what runs in the sandbox and takes down its network. Idempotent.
    async fn stop_pod_sandbox(&self, sandbox_id: &str) -> Result<(), RuntimeError>;
    /// Removes the sandbox and the containers in it. Idempotent.
    async fn remove_pod_sandbox(&self, sandbox_id: &str) -> Result<(), RuntimeError>;
    /// The sandbox's state and addresses.
    async fn pod_sandbox_status(&self, sandbox_id: &str) -> Result<v1::PodSandboxStatus, RuntimeError>;
    /// The sandboxes that match; `None` for all.
    async fn list_pod_sandboxes(
        &self,
        filter: Option<v1::PodSandboxFilter>,
    ) -> Result<Vec<v1::PodSandbox>, RuntimeError>;

    /// Creates a container in a sandbox; returns its id.
    async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, RuntimeError>;
    /// Starts a created container.
    async fn start_container(&self, container_id: &str) -> Result<(), RuntimeError>;
    /// Sends the stop signal, waits up to `grace` (whole seconds), then kills; returns when the
    /// container has ended. A second call with less grace shortens the first. Idempotent.
    async fn stop_container(&self, container_id: &str, grace: Duration) -> Result<(), RuntimeError>;
    /// Removes a container, killing it if it runs. Idempotent.
    async fn remove_container(&self, container_id: &str) -> Result<(), RuntimeError>;
    /// The containers that match; `None` for all.
    async fn list_containers(
        &self,
        filter: Option<v1::ContainerFilter>,
    ) -> Result<Vec<v1::Container>, RuntimeError>;
    /// The container's state, times and exit code.
    async fn container_status(&self, container_id: &str) -> Result<v1::ContainerStatus, RuntimeError>;
    /// Makes the runtime open the container's log file again after it was renamed.
    async fn reopen_container_log(&self, container_id: &str) -> Result<(), RuntimeError>;

    /// Runs a command in a container and collects its output (the runtime bounds it to 16 MiB).
    /// A command that outlives `timeout` fails with `DeadlineExceeded`; zero waits for ever.
    async fn exec_sync(
        &self,
        container_id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<v1::ExecSyncResponse, RuntimeError>;
    /// Prepares a streamed command; returns the URL that serves it.
    async fn exec(&self, request: v1::ExecRequest) -> Result<String, RuntimeError>;
    /// Prepares a stream to a container's own input and output; returns the URL that serves it.
    async fn attach(&self, request: v1::AttachRequest) -> Result<String, RuntimeError>;
    /// Prepares forwarding into the sandbox's network; returns the URL that serves it.
    async fn port_forward(&self, request: v1::PortForwardRequest) -> Result<String, RuntimeError>;

    /// Statistics of all running containers.
    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>, RuntimeError>;

    /// What happens to containers from now on. The stream ends when the runtime goes away: subscribe
    /// again and relist.
    ///
    /// # Errors
    /// `Unimplemented` if this runtime cannot tell; then its lists have to be polled.
    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent, RuntimeError>>, RuntimeError>;

    /// All images.
    async fn list_images(&self) -> Result<Vec<v1::Image>, RuntimeError>;
    /// The image, or `None` if it is absent.
    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>, RuntimeError>;
    /// Pulls an image; returns its reference.
    async fn pull_image(
        &self,
        image: &str,
        auth: Option<v1::AuthConfig>,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, RuntimeError>;
    /// Removes an image with all its tags. Idempotent.
    async fn remove_image(&self, image: &str) -> Result<(), RuntimeError>;
    /// Use of the file systems that hold images.
    async fn image_fs_info(&self) -> Result<Vec<v1::FilesystemUsage>, RuntimeError>;
}

//! A runtime in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::{ContainerStats, Runtime, RuntimeError, RuntimeErrorKind, RuntimeEvent, RuntimeEventKind, v1};

/// How many events a slow subscriber may lag behind before it loses some.
const EVENT_BACKLOG: usize = 256;

/// What a command that a test runs "in a container" answers.
#[derive(Clone, Debug)]
pub enum ExecAnswer {
    /// It ends at once with this code and standard output.
    Exit(i32, String),
    /// It outlives its time limit.
    Hang,
}

type ExecHandler = Box<dyn Fn(&str, &[String]) -> ExecAnswer + Send + Sync>;

/// A runtime in memory: sandboxes and containers change state as they do on containerd, nothing runs.
/// Time is tokio's.
pub struct FakeRuntime {
    state: Mutex<State>,
    events: Option<broadcast::Sender<RuntimeEvent>>,
    exec: Mutex<ExecHandler>,
    started: (SystemTime, Instant),
}

#[derive(Default)]
struct State {
    next_id: u64,
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, FakeContainer>,
    images: BTreeMap<String, v1::Image>,
    failures: HashMap<&'static str, VecDeque<RuntimeError>>,
    calls: Vec<String>,
    network_ready: bool,
    stubborn: Vec<String>,
}

struct Sandbox {
    config: v1::PodSandboxConfig,
    state: v1::PodSandboxState,
    created_at: i64,
    ip: String,
}

struct FakeContainer {
    sandbox_id: String,
    config: v1::ContainerConfig,
    status: v1::ContainerStatus,
}

impl FakeRuntime {
    /// An empty runtime that tells of events.
    pub fn new() -> Arc<Self> {
        Self::build(true)
    }

    /// An empty runtime that cannot tell of events.
    pub fn without_events() -> Arc<Self> {
        Self::build(false)
    }

    fn build(events: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                network_ready: true,
                ..Default::default()
            }),
            events: events.then(|| broadcast::channel(EVENT_BACKLOG).0),
            exec: Mutex::new(Box::new(|_, _| ExecAnswer::Exit(0, String::new()))),
            started: (SystemTime::now(), Instant::now()),
        })
    }

    fn now(&self) -> i64 {
        let since = self.started.0 + self.started.1.elapsed();
        let nanos = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        i64::try_from(nanos).unwrap_or(i64::MAX)
    }

    /// Makes an image present.
    pub fn add_image(&self, name: &str) {
        let image = v1::Image {
            id: format!("sha256:{name}"),
            repo_tags: vec![name.to_owned()],
            size: 1,
            ..Default::default()
        };
        self.state.lock().images.insert(name.to_owned(), image);
    }

    /// The next call of this name fails with this error; repeated calls queue up.
    pub fn fail_next(&self, call: &'static str, kind: RuntimeErrorKind, message: &str) {
        let error = RuntimeError::new(call, kind, message);
        let mut state = self.state.lock();
        state.failures.entry(call).or_default().push_back(error);
    }

    /// What `ExecSync` answers: a function of the container's name and the command.
    pub fn on_exec(&self, handler: impl Fn(&str, &[String]) -> ExecAnswer + Send + Sync + 'static) {
        *self.exec.lock() = Box::new(handler);
    }

    /// Containers of this name ignore the stop signal.
    pub fn ignore_stop_signal(&self, container_name: &str) {
        self.state.lock().stubborn.push(container_name.to_owned());
    }

    /// Whether the network is reported ready.
    pub fn set_network_ready(&self, ready: bool) {
        self.state.lock().network_ready = ready;
    }

    /// The changing calls so far, such as `StartContainer app` or `StopPodSandbox web`.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    /// The id of the running container of that name.
    pub fn running(&self, container_name: &str) -> Option<String> {
        let state = self.state.lock();
        let found = state.containers.iter().find(|(_, container)| {
            container.status.state() == v1::ContainerState::ContainerRunning
                && name_of(&container.config) == container_name
        });
        found.map(|(id, _)| id.clone())
    }

    /// The configuration that a container was created with.
    pub fn container_config(&self, container_id: &str) -> Option<v1::ContainerConfig> {
        let state = self.state.lock();
        state
            .containers
            .get(container_id)
            .map(|container| container.config.clone())
    }

    /// Ends a running container by itself, as if its process had exited.
    pub fn exit(&self, container_id: &str, exit_code: i32, reason: &str) {
        let now = self.now();
        let mut state = self.state.lock();
        if let Some(container) = state.containers.get_mut(container_id) {
            end(&mut container.status, exit_code, reason, now);
        }
        drop(state);
        self.tell(container_id, RuntimeEventKind::Stopped);
    }

    /// Ends a sandbox by itself, with all that runs in it.
    pub fn kill_sandbox(&self, sandbox_id: &str) {
        self.end_sandbox(sandbox_id);
        self.tell(sandbox_id, RuntimeEventKind::Stopped);
    }

    /// The ids of the sandboxes that are ready.
    pub fn ready_sandboxes(&self) -> Vec<String> {
        let state = self.state.lock();
        let ready = state
            .sandboxes
            .iter()
            .filter(|(_, sandbox)| sandbox.state == v1::PodSandboxState::SandboxReady);
        ready.map(|(id, _)| id.clone()).collect()
    }

    fn end_sandbox(&self, sandbox_id: &str) {
        let now = self.now();
        let mut state = self.state.lock();
        if let Some(sandbox) = state.sandboxes.get_mut(sandbox_id) {
            sandbox.state = v1::PodSandboxState::SandboxNotready;
        }
        for container in state.containers.values_mut() {
            if container.sandbox_id == sandbox_id {
                end(&mut container.status, 137, "Error", now);
            }
        }
    }

    fn tell(&self, id: &str, kind: RuntimeEventKind) {
        if let Some(events) = &self.events {
            // Fails only when nobody listens.
            drop(events.send(RuntimeEvent {
                container_id: id.to_owned(),
                kind,
            }));
        }
    }

    fn enter(&self, call: &'static str) -> Result<(), RuntimeError> {
        let mut state = self.state.lock();
        match state.failures.get_mut(call).and_then(VecDeque::pop_front) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

fn name_of(config: &v1::ContainerConfig) -> &str {
    config
        .metadata
        .as_ref()
        .map_or("", |metadata| metadata.name.as_str())
}

/// A created or running container ends; one that has ended stays as it is.
fn end(status: &mut v1::ContainerStatus, exit_code: i32, reason: &str, now: i64) {
    if status.state() != v1::ContainerState::ContainerRunning {
        return;
    }
    status.set_state(v1::ContainerState::ContainerExited);
    status.finished_at = now;
    status.exit_code = exit_code;
    status.reason = if reason.is_empty() {
        if exit_code == 0 { "Completed" } else { "Error" }.to_owned()
    } else {
        reason.to_owned()
    };
}

fn matches(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn not_found(call: &'static str, id: &str) -> RuntimeError {
    RuntimeError::new(call, RuntimeErrorKind::NotFound, format!("{id}: not found"))
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn version(&self) -> Result<v1::VersionResponse, RuntimeError> {
        self.enter("Version")?;
        Ok(v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "fake".to_owned(),
            runtime_version: "1.0".to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    async fn status(&self) -> Result<v1::RuntimeStatus, RuntimeError> {
        self.enter("Status")?;
        let network = self.state.lock().network_ready;
        let condition = |kind: &str, status: bool| v1::RuntimeCondition {
            r#type: kind.to_owned(),
            status,
            reason: if status { "" } else { "NetworkPluginNotReady" }.to_owned(),
            message: if status { "" } else { "cni plugin not initialized" }.to_owned(),
        };
        Ok(v1::RuntimeStatus {
            conditions: vec![
                condition("RuntimeReady", true),
                condition("NetworkReady", network),
            ],
        })
    }

    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig) -> Result<String, RuntimeError> {
        const CALL: &str = "RunPodSandbox";
        self.enter(CALL)?;
        let now = self.now();
        let mut state = self.state.lock();
        let metadata = config.metadata.clone().unwrap_or_default();
        let reserved = |sandbox: &Sandbox| sandbox.config.metadata.as_ref() == Some(&metadata);
        if state.sandboxes.values().any(reserved) {
            let message = format!("failed to reserve sandbox name {}", metadata.name);
            return Err(RuntimeError::new(CALL, RuntimeErrorKind::Other, message));
        }
        state.next_id += 1;
        let id = format!("sandbox-{}", state.next_id);
        let host_network = config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref())
            .and_then(|security| security.namespace_options.as_ref())
            .is_some_and(|options| options.network() == v1::NamespaceMode::Node);
        let ip = if host_network {
            String::new()
        } else {
            format!("10.1.0.{}", state.next_id % 250 + 1)
        };
        state.calls.push(format!("RunPodSandbox {}", metadata.name));
        let sandbox = Sandbox {
            config,
            state: v1::PodSandboxState::SandboxReady,
            created_at: now,
            ip,
        };
        state.sandboxes.insert(id.clone(), sandbox);
        Ok(id)
    }

    async fn stop_pod_sandbox(&self, sandbox_id: &str) -> Result<(), RuntimeError> {
        self.enter("StopPodSandbox")?;
        let call = format!("StopPodSandbox {sandbox_id}");
        self.state.lock().calls.push(call);
        self.end_sandbox(sandbox_id);
        Ok(())
    }

    async fn remove_pod_sandbox(&self, sandbox_id: &str) -> Result<(), RuntimeError> {
        self.enter("RemovePodSandbox")?;
        let mut state = self.state.lock();
        state.calls.push(format!("RemovePodSandbox {sandbox_id}"));
        state.sandboxes.remove(sandbox_id);
        state
            .containers
            .retain(|_, container| container.sandbox_id != sandbox_id);
        Ok(())
    }

    async fn pod_sandbox_status(&self, sandbox_id: &str) -> Result<v1::PodSandboxStatus, RuntimeError> {
        const CALL: &str = "PodSandboxStatus";
        self.enter(CALL)?;
        let state = self.state.lock();
        let sandbox = state
            .sandboxes
            .get(sandbox_id)
            .ok_or_else(|| not_found(CALL, sandbox_id))?;
        Ok(v1::PodSandboxStatus {
            id: sandbox_id.to_owned(),
            metadata: sandbox.config.metadata.clone(),
            state: sandbox.state.into(),
            created_at: sandbox.created_at,
            network: Some(v1::PodSandboxNetworkStatus {
                ip: sandbox.ip.clone(),
                additional_ips: Vec::new(),
            }),
            linux: None,
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
        })
    }

    async fn list_pod_sandboxes(
        &self,
        filter: Option<v1::PodSandboxFilter>,
    ) -> Result<Vec<v1::PodSandbox>, RuntimeError> {
        self.enter("ListPodSandbox")?;
        let filter = filter.unwrap_or_default();
        let state = self.state.lock();
        let found = state.sandboxes.iter().filter(|(id, sandbox)| {
            (filter.id.is_empty() || filter.id == **id)
                && matches(&sandbox.config.labels, &filter.label_selector)
                && filter.state.is_none_or(|wanted| wanted.state() == sandbox.state)
        });
        Ok(found
            .map(|(id, sandbox)| v1::PodSandbox {
                id: id.clone(),
                metadata: sandbox.config.metadata.clone(),
                state: sandbox.state.into(),
                created_at: sandbox.created_at,
                labels: sandbox.config.labels.clone(),
                annotations: sandbox.config.annotations.clone(),
            })
            .collect())
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        _sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        const CALL: &str = "CreateContainer";
        self.enter(CALL)?;
        let now = self.now();
        let mut state = self.state.lock();
        let sandbox = state
            .sandboxes
            .get(sandbox_id)
            .ok_or_else(|| not_found(CALL, sandbox_id))?;
        if sandbox.state != v1::PodSandboxState::SandboxReady {
            let message = "sandbox container is not running";
            return Err(RuntimeError::new(CALL, RuntimeErrorKind::Other, message));
        }
        let image = config.image.clone().unwrap_or_default();
        let known = state.images.get(&image.image).map(|image| image.id.clone());
        let known = known.or_else(|| {
            let by_id = state.images.values().find(|known| known.id == image.image);
            by_id.map(|image| image.id.clone())
        });
        let Some(image_ref) = known else {
            return Err(not_found(CALL, &image.image));
        };
        state.next_id += 1;
        let id = format!("container-{}", state.next_id);
        state.calls.push(format!("CreateContainer {}", name_of(&config)));
        let status = v1::ContainerStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: v1::ContainerState::ContainerCreated.into(),
            created_at: now,
            image: config.image.clone(),
            image_ref,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            ..Default::default()
        };
        let container = FakeContainer {
            sandbox_id: sandbox_id.to_owned(),
            config,
            status,
        };
        state.containers.insert(id.clone(), container);
        Ok(id)
    }

    async fn start_container(&self, container_id: &str) -> Result<(), RuntimeError> {
        const CALL: &str = "StartContainer";
        self.enter(CALL)?;
        let now = self.now();
        let mut state = self.state.lock();
        let container = state
            .containers
            .get_mut(container_id)
            .ok_or_else(|| not_found(CALL, container_id))?;
        if container.status.state() != v1::ContainerState::ContainerCreated {
            let message = "container is not in created state";
            return Err(RuntimeError::new(CALL, RuntimeErrorKind::Other, message));
        }
        container.status.set_state(v1::ContainerState::ContainerRunning);
        container.status.started_at = now;
        let call = format!("StartContainer {}", name_of(&container.config));
        state.calls.push(call);
        drop(state);
        self.tell(container_id, RuntimeEventKind::Started);
        Ok(())
    }

    async fn stop_container(&self, container_id: &str, grace: Duration) -> Result<(), RuntimeError> {
        self.enter("StopContainer")?;
        let stubborn = {
            let mut state = self.state.lock();
            let Some(container) = state.containers.get(container_id) else {
                return Ok(());
            };
            let name = name_of(&container.config).to_owned();
            let running = container.status.state() == v1::ContainerState::ContainerRunning;
            state
                .calls
                .push(format!("StopContainer {name} {}s", grace.as_secs()));
            running && state.stubborn.contains(&name)
        };
        if stubborn {
            tokio::time::sleep(grace).await;
            self.exit(container_id, 137, "Error");
        } else {
            self.exit(container_id, if grace.is_zero() { 137 } else { 143 }, "Error");
        }
        Ok(())
    }

    async fn remove_container(&self, container_id: &str) -> Result<(), RuntimeError> {
        self.enter("RemoveContainer")?;
        let mut state = self.state.lock();
        if let Some(container) = state.containers.remove(container_id) {
            let call = format!("RemoveContainer {}", name_of(&container.config));
            state.calls.push(call);
        }
        Ok(())
    }

    async fn list_containers(
        &self,
        filter: Option<v1::ContainerFilter>,
    ) -> Result<Vec<v1::Container>, RuntimeError> {
        self.enter("ListContainers")?;
        let filter = filter.unwrap_or_default();
        let state = self.state.lock();
        let found = state.containers.iter().filter(|(id, container)| {
            (filter.id.is_empty() || filter.id == **id)
                && (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == container.sandbox_id)
                && matches(&container.config.labels, &filter.label_selector)
                && filter
                    .state
                    .is_none_or(|wanted| wanted.state() == container.status.state())
        });
        Ok(found
            .map(|(id, container)| v1::Container {
                id: id.clone(),
                pod_sandbox_id: container.sandbox_id.clone(),
                metadata: container.config.metadata.clone(),
                image: container.config.image.clone(),
                image_ref: container.status.image_ref.clone(),
                state: container.status.state,
                created_at: container.status.created_at,
                labels: container.config.labels.clone(),
                annotations: container.config.annotations.clone(),
            })
            .collect())
    }

    async fn container_status(&self, container_id: &str) -> Result<v1::ContainerStatus, RuntimeError> {
        const CALL: &str = "ContainerStatus";
        self.enter(CALL)?;
        let state = self.state.lock();
        let container = state
            .containers
            .get(container_id)
            .ok_or_else(|| not_found(CALL, container_id))?;
        Ok(container.status.clone())
    }

    async fn reopen_container_log(&self, container_id: &str) -> Result<(), RuntimeError> {
        self.enter("ReopenContainerLog")?;
        let call = format!("ReopenContainerLog {container_id}");
        self.state.lock().calls.push(call);
        Ok(())
    }

    async fn exec_sync(
        &self,
        container_id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<v1::ExecSyncResponse, RuntimeError> {
        const CALL: &str = "ExecSync";
        self.enter(CALL)?;
        let name = {
            let state = self.state.lock();
            let container = state
                .containers
                .get(container_id)
                .ok_or_else(|| not_found(CALL, container_id))?;
            if container.status.state() != v1::ContainerState::ContainerRunning {
                let message = "container is not running";
                return Err(RuntimeError::new(CALL, RuntimeErrorKind::Other, message));
            }
            name_of(&container.config).to_owned()
        };
        let answer = (self.exec.lock())(&name, &command);
        match answer {
            ExecAnswer::Exit(exit_code, stdout) => Ok(v1::ExecSyncResponse {
                stdout: stdout.into_bytes(),
                stderr: Vec::new(),
                exit_code,
            }),
            ExecAnswer::Hang => {
                tokio::time::sleep(timeout).await;
                let message = "timeout exceeded";
                Err(RuntimeError::new(
                    CALL,
                    RuntimeErrorKind::DeadlineExceeded,
                    message,
                ))
            }
        }
    }

    async fn exec(&self, request: v1::ExecRequest) -> Result<String, RuntimeError> {
        Err(no_streaming("Exec", &request.container_id))
    }

    async fn attach(&self, request: v1::AttachRequest) -> Result<String, RuntimeError> {
        Err(no_streaming("Attach", &request.container_id))
    }

    async fn port_forward(&self, request: v1::PortForwardRequest) -> Result<String, RuntimeError> {
        Err(no_streaming("PortForward", &request.pod_sandbox_id))
    }

    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>, RuntimeError> {
        self.enter("ListContainerStats")?;
        Ok(Vec::new())
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent, RuntimeError>>, RuntimeError> {
        const CALL: &str = "GetContainerEvents";
        let Some(events) = &self.events else {
            let message = "no events here";
            return Err(RuntimeError::new(CALL, RuntimeErrorKind::Unimplemented, message));
        };
        let stream = events_of(events.subscribe());
        Ok(stream.map(Ok).boxed())
    }

    async fn list_images(&self) -> Result<Vec<v1::Image>, RuntimeError> {
        self.enter("ListImages")?;
        Ok(self.state.lock().images.values().cloned().collect())
    }

    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>, RuntimeError> {
        self.enter("ImageStatus")?;
        Ok(self.state.lock().images.get(image).cloned())
    }

    async fn pull_image(
        &self,
        image: &str,
        _auth: Option<v1::AuthConfig>,
        _sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        self.enter("PullImage")?;
        self.add_image(image);
        let call = format!("PullImage {image}");
        self.state.lock().calls.push(call);
        Ok(format!("sha256:{image}"))
    }

    async fn remove_image(&self, image: &str) -> Result<(), RuntimeError> {
        self.enter("RemoveImage")?;
        let mut state = self.state.lock();
        state
            .images
            .retain(|name, known| name != image && known.id != image);
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<Vec<v1::FilesystemUsage>, RuntimeError> {
        self.enter("ImageFsInfo")?;
        Ok(Vec::new())
    }
}

fn no_streaming(call: &'static str, id: &str) -> RuntimeError {
    let message = format!("{id}: the fake runtime streams nothing");
    RuntimeError::new(call, RuntimeErrorKind::Unimplemented, message)
}

/// The events of a subscription; one that fell behind skips what it lost.
fn events_of(
    receiver: broadcast::Receiver<RuntimeEvent>,
) -> impl futures::Stream<Item = RuntimeEvent> + Send + 'static {
    futures::stream::unfold(receiver, |mut receiver| async move {
        loop {
            match receiver.recv().await {
                Ok(event) => return Some((event, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
}

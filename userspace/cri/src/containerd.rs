//! [`Runtime`] over a unix socket.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status};

use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::{ContainerStats, Runtime, RuntimeError, RuntimeErrorKind, RuntimeEvent, events, v1};

/// How long a call may take that says nothing else.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// How long making a sandbox may take: the network plugin is part of it.
const SANDBOX_TIMEOUT: Duration = Duration::from_secs(240);
/// How long a pull may take without an answer.
const PULL_TIMEOUT: Duration = Duration::from_secs(3600);
/// How much later than the runtime's own deadline ours comes.
const TIMEOUT_SLACK: Duration = Duration::from_secs(10);
/// The largest answer taken (upstream's limit).
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// A connection to containerd (or another CRI v1 runtime). Cheap to clone; connects on first use and
/// again whenever the connection was lost.
#[derive(Clone, Debug)]
pub struct Containerd {
    channel: Channel,
}

impl Containerd {
    /// Speaks to the runtime on this unix socket. Does not connect yet.
    pub fn connect(socket: impl AsRef<Path>) -> Self {
        let path: PathBuf = socket.as_ref().to_path_buf();
        // The authority must be a host name: Go's gRPC server refuses a path there.
        let endpoint = Endpoint::from_static("http://localhost");
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Self {
            channel: endpoint.connect_with_connector_lazy(connector),
        }
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

/// Bounds a call and gives its failure a name.
async fn call<T>(
    name: &'static str,
    limit: Duration,
    request: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, RuntimeError> {
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(RuntimeError::from_status(name, &status)),
        Err(_elapsed) => Err(RuntimeError::new(
            name,
            RuntimeErrorKind::DeadlineExceeded,
            format!("no answer within {} s", limit.as_secs()),
        )),
    }
}

fn missing(name: &'static str) -> RuntimeError {
    RuntimeError::new(
        name,
        RuntimeErrorKind::Other,
        "the runtime answered without a status",
    )
}

/// What ends or removes something is done when that thing is not there; versions of containerd differ
/// in whether they say so themselves.
fn gone_is_done<T>(answer: Result<T, RuntimeError>) -> Result<(), RuntimeError> {
    match answer {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn image_spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    }
}

#[async_trait]
impl Runtime for Containerd {
    async fn version(&self) -> Result<v1::VersionResponse, RuntimeError> {
        let request = v1::VersionRequest {
            version: "v1".to_owned(),
        };
        call("Version", CALL_TIMEOUT, self.runtime().version(request)).await
    }

    async fn status(&self) -> Result<v1::RuntimeStatus, RuntimeError> {
        let request = v1::StatusRequest { verbose: false };
        let answer = call("Status", CALL_TIMEOUT, self.runtime().status(request)).await?;
        answer.status.ok_or_else(|| missing("Status"))
    }

    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig) -> Result<String, RuntimeError> {
        let request = v1::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: String::new(),
        };
        let mut client = self.runtime();
        let answer = call("RunPodSandbox", SANDBOX_TIMEOUT, client.run_pod_sandbox(request));
        Ok(answer.await?.pod_sandbox_id)
    }

    async fn stop_pod_sandbox(&self, sandbox_id: &str) -> Result<(), RuntimeError> {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
        };
        let mut client = self.runtime();
        let answer = call(
            "StopPodSandbox",
            SANDBOX_TIMEOUT,
            client.stop_pod_sandbox(request),
        );
        gone_is_done(answer.await)
    }

    async fn remove_pod_sandbox(&self, sandbox_id: &str) -> Result<(), RuntimeError> {
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
        };
        let mut client = self.runtime();
        let answer = call(
            "RemovePodSandbox",
            SANDBOX_TIMEOUT,
            client.remove_pod_sandbox(request),
        );
        gone_is_done(answer.await)
    }

    async fn pod_sandbox_status(&self, sandbox_id: &str) -> Result<v1::PodSandboxStatus, RuntimeError> {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            verbose: false,
        };
        let mut client = self.runtime();
        let answer = call(
            "PodSandboxStatus",
            CALL_TIMEOUT,
            client.pod_sandbox_status(request),
        );
        answer.await?.status.ok_or_else(|| missing("PodSandboxStatus"))
    }

    async fn list_pod_sandboxes(
        &self,
        filter: Option<v1::PodSandboxFilter>,
    ) -> Result<Vec<v1::PodSandbox>, RuntimeError> {
        let request = v1::ListPodSandboxRequest { filter };
        let mut client = self.runtime();
        let answer = call("ListPodSandbox", CALL_TIMEOUT, client.list_pod_sandbox(request));
        Ok(answer.await?.items)
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let mut client = self.runtime();
        let answer = call("CreateContainer", CALL_TIMEOUT, client.create_container(request));
        Ok(answer.await?.container_id)
    }

    async fn start_container(&self, container_id: &str) -> Result<(), RuntimeError> {
        let request = v1::StartContainerRequest {
            container_id: container_id.to_owned(),
        };
        let mut client = self.runtime();
        let answer = call("StartContainer", CALL_TIMEOUT, client.start_container(request));
        answer.await.map(drop)
    }

    async fn stop_container(&self, container_id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let request = v1::StopContainerRequest {
            container_id: container_id.to_owned(),
            timeout: whole_seconds(grace),
        };
        let mut client = self.runtime();
        let answer = call(
            "StopContainer",
            grace.saturating_add(CALL_TIMEOUT),
            client.stop_container(request),
        );
        gone_is_done(answer.await)
    }

    async fn remove_container(&self, container_id: &str) -> Result<(), RuntimeError> {
        let request = v1::RemoveContainerRequest {
            container_id: container_id.to_owned(),
        };
        let mut client = self.runtime();
        let answer = call("RemoveContainer", CALL_TIMEOUT, client.remove_container(request));
        gone_is_done(answer.await)
    }

    async fn list_containers(
        &self,
        filter: Option<v1::ContainerFilter>,
    ) -> Result<Vec<v1::Container>, RuntimeError> {
        let request = v1::ListContainersRequest { filter };
        let mut client = self.runtime();
        let answer = call("ListContainers", CALL_TIMEOUT, client.list_containers(request));
        Ok(answer.await?.containers)
    }

    async fn container_status(&self, container_id: &str) -> Result<v1::ContainerStatus, RuntimeError> {
        let request = v1::ContainerStatusRequest {
            container_id: container_id.to_owned(),
            verbose: false,
        };
        let mut client = self.runtime();
        let answer = call("ContainerStatus", CALL_TIMEOUT, client.container_status(request));
        answer.await?.status.ok_or_else(|| missing("ContainerStatus"))
    }

    async fn reopen_container_log(&self, container_id: &str) -> Result<(), RuntimeError> {
        let request = v1::ReopenContainerLogRequest {
            container_id: container_id.to_owned(),
        };
        let mut client = self.runtime();
        let answer = call(
            "ReopenContainerLog",
            CALL_TIMEOUT,
            client.reopen_container_log(request),
        );
        answer.await.map(drop)
    }

    async fn exec_sync(
        &self,
        container_id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<v1::ExecSyncResponse, RuntimeError> {
        let request = v1::ExecSyncRequest {
            container_id: container_id.to_owned(),
            cmd: command,
            timeout: whole_seconds(timeout),
        };
        let limit = if timeout.is_zero() {
            PULL_TIMEOUT
        } else {
            timeout.saturating_add(TIMEOUT_SLACK)
        };
        call("ExecSync", limit, self.runtime().exec_sync(request)).await
    }

    async fn exec(&self, request: v1::ExecRequest) -> Result<String, RuntimeError> {
        let answer = call("Exec", CALL_TIMEOUT, self.runtime().exec(request)).await?;
        Ok(answer.url)
    }

    async fn attach(&self, request: v1::AttachRequest) -> Result<String, RuntimeError> {
        let answer = call("Attach", CALL_TIMEOUT, self.runtime().attach(request)).await?;
        Ok(answer.url)
    }

    async fn port_forward(&self, request: v1::PortForwardRequest) -> Result<String, RuntimeError> {
        let mut client = self.runtime();
        let answer = call("PortForward", CALL_TIMEOUT, client.port_forward(request));
        Ok(answer.await?.url)
    }

    async fn list_container_stats(&self) -> Result<Vec<ContainerStats>, RuntimeError> {
        let request = v1::ListContainerStatsRequest { filter: None };
        let mut client = self.runtime();
        let answer = call(
            "ListContainerStats",
            CALL_TIMEOUT,
            client.list_container_stats(request),
        );
        Ok(answer.await?.stats)
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RuntimeEvent, RuntimeError>>, RuntimeError> {
        match events::cri(self.runtime()).await {
            Err(error) if error.is_unimplemented() => {
                events::containerd(self.channel.clone(), self.runtime()).await
            }
            other => other,
        }
    }

    async fn list_images(&self) -> Result<Vec<v1::Image>, RuntimeError> {
        let request = v1::ListImagesRequest { filter: None };
        let mut client = self.images();
        let answer = call("ListImages", CALL_TIMEOUT, client.list_images(request));
        Ok(answer.await?.images)
    }

    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>, RuntimeError> {
        let request = v1::ImageStatusRequest {
            image: Some(image_spec(image)),
            verbose: false,
        };
        let mut client = self.images();
        let answer = call("ImageStatus", CALL_TIMEOUT, client.image_status(request));
        Ok(answer.await?.image)
    }

    async fn pull_image(
        &self,
        image: &str,
        auth: Option<v1::AuthConfig>,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        let request = v1::PullImageRequest {
            image: Some(image_spec(image)),
            auth,
            sandbox_config: Some(sandbox_config),
        };
        let mut client = self.images();
        let answer = call("PullImage", PULL_TIMEOUT, client.pull_image(request));
        Ok(answer.await?.image_ref)
    }

    async fn remove_image(&self, image: &str) -> Result<(), RuntimeError> {
        let request = v1::RemoveImageRequest {
            image: Some(image_spec(image)),
        };
        let mut client = self.images();
        let answer = call("RemoveImage", CALL_TIMEOUT, client.remove_image(request));
        answer.await.map(drop)
    }

    async fn image_fs_info(&self) -> Result<Vec<v1::FilesystemUsage>, RuntimeError> {
        let mut client = self.images();
        let request = Request::new(v1::ImageFsInfoRequest {});
        let answer = call("ImageFsInfo", CALL_TIMEOUT, client.image_fs_info(request));
        Ok(answer.await?.image_filesystems)
    }
}

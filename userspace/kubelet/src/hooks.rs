//! Lifecycle hooks: a command, a request or a pause after a container's start and before its end.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Probe};
use skep_cri::Runtime;

use crate::probes;
use crate::spec::seconds;

/// A hook that failed, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HookError(String);

/// Runs a hook; `limit` is how long it may take.
pub(crate) async fn run(
    runtime: &dyn Runtime,
    container: &Container,
    handler: &LifecycleHandler,
    container_id: &str,
    pod_ip: Option<IpAddr>,
    limit: Duration,
) -> Result<(), HookError> {
    if let Some(pause) = &handler.sleep {
        tokio::time::sleep(seconds(pause.seconds).min(limit)).await;
        return Ok(());
    }
    // A hook is one look of a probe, whose answer is taken as it is.
    let once = Probe {
        exec: handler.exec.clone(),
        http_get: handler.http_get.clone(),
        tcp_socket: handler.tcp_socket.clone(),
        ..Probe::default()
    };
    probes::once(runtime, container, &once, pod_ip, container_id, limit)
        .await
        .map_err(HookError)
}

//! The kubelet's HTTPS server: logs, exec, attach, port-forward, pods, metrics.
//!
//! Owns the listener on the node's port 10250. Every connection must present a certificate of the cluster's authority,
//! and its name must be among those that may call (the API server's, or an administrator's). It knows pods only through
//! [`PodSource`]; streams go byte for byte between the caller and the runtime's own streaming server.

mod follow;
mod logs;
mod route;
mod tls;
mod tunnel;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::Pod;
use prometheus_client::registry::Registry;
use skep_cri::Runtime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::KubeletConfig;
use route::Route;
pub(crate) use tls::TlsError;

/// The most connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// An answer: text, or a stream of log lines.
type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// What the server asks about pods.
pub(crate) trait PodSource: Send + Sync + 'static {
    /// The pods of this node, with their status.
    fn pods(&self) -> Vec<Arc<Pod>>;
    /// A container of a pod: the named one, or the only or first one; `previous` means the attempt before the current.
    fn container(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        previous: bool,
    ) -> Result<ContainerRef, LookupError>;
    /// The id of the pod's sandbox.
    fn sandbox(&self, namespace: &str, pod: &str) -> Result<String, LookupError>;
    /// Whether the container of that id runs.
    fn is_running(&self, container_id: &str) -> bool;
}

/// One attempt of a container.
#[derive(Debug, Clone)]
pub(crate) struct ContainerRef {
    /// The runtime's id.
    pub(crate) id: String,
    /// Where the runtime writes this attempt's log.
    pub(crate) log_path: PathBuf,
}

/// Why a container is not there to be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("pod \"{namespace}/{pod}\" is not on this node")]
    NoPod { namespace: String, pod: String },
    #[error("container {container} is not valid for pod {pod}")]
    NoContainer { pod: String, container: String },
    #[error("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}")]
    NotStarted {
        pod: String,
        container: String,
        reason: String,
    },
    #[error("previous terminated container \"{container}\" in pod \"{pod}\" not found")]
    NoPrevious { pod: String, container: String },
    #[error("pod \"{namespace}/{pod}\" has no sandbox yet")]
    NoSandbox { namespace: String, pod: String },
}

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The certificates cannot be used.
    #[error("the kubelet's server cannot use its certificates")]
    Tls(#[from] TlsError),
    /// The address is taken or not this machine's.
    #[error("the kubelet's server cannot listen on {address}: end what holds it, or choose another address")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// What every request sees.
struct Context {
    pods: Arc<dyn PodSource>,
    runtime: Arc<dyn Runtime>,
    metrics: Arc<Registry>,
    /// Outlive their connections: they are waited for when the server stops.
    tunnels: TaskTracker,
    shutdown: CancellationToken,
}

/// Serves until shut down; open streams are closed then.
///
/// # Errors
/// When certificates cannot be read or the address cannot be bound.
pub(crate) async fn serve(
    config: &KubeletConfig,
    pods: Arc<dyn PodSource>,
    runtime: Arc<dyn Runtime>,
    metrics: Arc<Registry>,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    let acceptor = tls::acceptor(&config.tls)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| ServerError::Listen {
            address: config.listen,
            source,
        })?;
    tracing::info!(address = %config.listen, "the kubelet's server listens");
    let allowed: Arc<[String]> = config.tls.allowed_clients.clone().into();
    let tunnels = TaskTracker::new();
    let context = Arc::new(Context {
        pods,
        runtime,
        metrics,
        tunnels: tunnels.clone(),
        shutdown: shutdown.clone(),
    });
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else { continue };
        let (acceptor, allowed, context) = (acceptor.clone(), Arc::clone(&allowed), Arc::clone(&context));
        connections.spawn(async move {
            connection(stream, acceptor, &allowed, context).await;
            drop(slot);
        });
    }
    for tracker in [connections, tunnels] {
        tracker.close();
        tracker.wait().await;
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, allowed: &[String], context: Arc<Context>) {
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_elapsed) => return tracing::debug!("TLS handshake timed out"),
    };
    let caller = tls::caller(stream.get_ref().1);
    let admitted = caller.as_ref().is_some_and(|caller| caller.may_call(allowed));
    let shutdown = context.shutdown.clone();
    let service = service_fn(move |request| {
        let context = Arc::clone(&context);
        let caller = caller.clone();
        async move {
            if !admitted {
                let name = caller.map(|caller| caller.name).unwrap_or_default();
                return Ok(text(
                    StatusCode::FORBIDDEN,
                    format!("{name} may not use this node's kubelet\n"),
                ));
            }
            Ok::<_, std::convert::Infallible>(respond(request, context).await)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        () = shutdown.cancelled() => {}
        result = served => {
            if let Err(error) = result {
                tracing::debug!(%error, "connection ended");
            }
        }
    }
}

async fn respond(request: Request<Incoming>, context: Arc<Context>) -> Answer {
    let route = match Route::parse(request.uri()) {
        Ok(route) => route,
        Err(refusal) => return text(refusal.status, refusal.message),
    };
    match route {
        Route::Healthz => text(StatusCode::OK, "ok".to_owned()),
        Route::Metrics => metrics(&context.metrics),
        Route::Pods => pods(&*context.pods),
        Route::Logs(target, options) => logs::answer(&context, &target, options).await,
        Route::Exec(target, streams) => tunnel::exec(request, &context, &target, streams).await,
        Route::Attach(target, streams) => tunnel::attach(request, &context, &target, streams).await,
        Route::PortForward(target, ports) => tunnel::port_forward(request, &context, &target, ports).await,
    }
}

fn metrics(registry: &Registry) -> Answer {
    let mut body = String::new();
    match prometheus_client::encoding::text::encode(&mut body, registry) {
        Ok(()) => text(StatusCode::OK, body),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("metrics cannot be written: {error}\n"),
        ),
    }
}

fn pods(source: &dyn PodSource) -> Answer {
    let pods = source.pods();
    let list = serde_json::json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods });
    let mut answer = text(StatusCode::OK, list.to_string());
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    answer
}

fn text(status: StatusCode, body: String) -> Answer {
    let body = Full::new(Bytes::from(body))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}

/// A lookup that failed, as upstream's kubelet answers it.
fn not_found(error: &LookupError) -> Answer {
    let status = match error {
        LookupError::NoPod { .. } => StatusCode::NOT_FOUND,
        LookupError::NoContainer { .. }
        | LookupError::NotStarted { .. }
        | LookupError::NoPrevious { .. }
        | LookupError::NoSandbox { .. } => StatusCode::BAD_REQUEST,
    };
    text(status, error.to_string())
}

//! What the API server asks of kubelets: pods' logs, exec, attach and port-forward.

mod connection;
mod logs;
mod target;
mod tunnel;

use crate::ServeError;
use crate::http::Response;
use crate::http::query::Query;
use crate::http::request_info::ResourcePath;
use crate::metrics::Open;
use connection::Kubelets;
use hyper::Request;
use hyper::body::Incoming;
use skep_api::ApiError;
use skep_registry::Registry;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How the API server shows itself to kubelets, and whom it trusts to be one; all PEM.
#[derive(Clone)]
pub struct KubeletTls {
    pub certificate: String,
    pub key: String,
    pub ca: String,
}

/// The way to the nodes.
pub(crate) struct Nodes {
    registry: Registry,
    kubelets: Kubelets,
    /// Connections and tunnels that are open.
    tasks: TaskTracker,
    /// Ends them.
    shutdown: CancellationToken,
}

/// The subresources of pods that lead to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connect {
    Log,
    Exec,
    Attach,
    PortForward,
}

impl Connect {
    pub(crate) fn of(path: &ResourcePath) -> Option<Self> {
        if !path.resource.group.is_empty() || path.resource.resource != "pods" || path.name.is_empty() {
            return None;
        }
        match path.subresource.as_str() {
            "log" => Some(Self::Log),
            "exec" => Some(Self::Exec),
            "attach" => Some(Self::Attach),
            "portforward" => Some(Self::PortForward),
            _ => None,
        }
    }
}

impl Nodes {
    pub(crate) fn new(registry: Registry, tls: &KubeletTls) -> Result<Self, ServeError> {
        Ok(Self {
            registry,
            kubelets: Kubelets::new(tls)?,
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        })
    }

    pub(crate) async fn connect(
        self: &Arc<Self>,
        what: Connect,
        path: &ResourcePath,
        query: &Query,
        request: Request<Incoming>,
        open: Open,
    ) -> Result<Response, ApiError> {
        let target = target::resolve(&self.registry, what, path, query).await?;
        match what {
            Connect::Log => logs::answer(self, &target, query, open).await,
            _ => tunnel::open(self, what, &target, query, request, open).await,
        }
    }

    /// Ends what is open, and waits for it.
    pub(crate) async fn close(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

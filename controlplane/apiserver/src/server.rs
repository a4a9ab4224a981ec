//! [`ApiServer`]: the parts put together, and its life.

use crate::auth::rbac::Authorizer;
use crate::discovery::Discovery;
use crate::handler::Api;
use crate::in_process::InProcess;
use crate::metrics::Metrics;
use crate::node::Nodes;
use crate::openapi::OpenApi;
use crate::tls::{self, Tls};
use crate::tokens::Tokens;
use crate::{KubeletTls, ServeError, TlsMaterial, TokenConfig, User, catalog, listener};
use prometheus_client::registry::Registry as MetricsRegistry;
use skep_client::Client;
use skep_registry::Registry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What an API server is made from.
#[derive(Clone)]
pub struct ApiServerConfig {
    /// Where clients reach the server, `host:port`; shown by `/api`.
    pub advertise: String,
    pub tls: TlsMaterial,
    pub kubelet: KubeletTls,
    pub tokens: TokenConfig,
}

/// The API over a registry: HTTPS for everyone, and in-process clients for this process's components.
pub struct ApiServer {
    api: Arc<Api>,
    tls: Tls,
    shutdown: CancellationToken,
}

impl ApiServer {
    /// Ends, with everything it started, when `shutdown` is cancelled.
    ///
    /// # Errors
    /// When the TLS material or the tokens' key cannot be used.
    pub fn new(
        registry: Registry,
        config: &ApiServerConfig,
        metrics: &mut MetricsRegistry,
        shutdown: CancellationToken,
    ) -> Result<Self, ServeError> {
        let tls = tls::build(&config.tls)?;
        let groups = catalog::groups(registry.table());
        let api = Api {
            authorizer: Arc::new(Authorizer::new(registry.clone())),
            discovery: Discovery::new(&groups, &config.advertise),
            openapi: OpenApi::new(groups),
            nodes: Arc::new(Nodes::new(registry.clone(), &config.kubelet)?),
            tokens: Tokens::new(registry.clone(), &config.tokens)?,
            metrics: Metrics::new(metrics),
            exposed: OnceLock::new(),
            ready: AtomicBool::new(false),
            shutdown: shutdown.clone(),
            registry,
        };
        Ok(Self {
            api: Arc::new(api),
            tls,
            shutdown,
        })
    }

    /// A client without a socket. Access rules hold for `user` as over HTTPS; until [`Self::ready`] only
    /// members of `system:masters` have access.
    pub fn in_process_client(&self, user: User) -> Client {
        Client::with_transport(Arc::new(InProcess {
            registry: self.api.registry.clone(),
            authorizer: self.api.authorizer.clone(),
            user: Arc::new(user),
        }))
    }

    /// What `/metrics` shows; only the first call counts.
    pub fn expose_metrics(&self, registry: Arc<MetricsRegistry>) {
        self.api.exposed.get_or_init(|| registry);
    }

    /// Binds the listening socket.
    ///
    /// # Errors
    /// When the address is in use, or not one of this machine's.
    pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
        listener::bind(address).await
    }

    /// Says on `/readyz` that the cluster's own objects stand.
    pub fn mark_ready(&self) {
        self.api.ready.store(true, Ordering::Relaxed);
    }

    /// Returns once the access rules are in force. [`Self::run`] must be running.
    pub async fn ready(&self) {
        self.api.authorizer.synced().await;
    }

    /// Serves until shutdown; requests are answered from the moment the access rules are in force.
    /// Returns when every connection has ended.
    pub async fn run(&self, listener: TcpListener) {
        let api = &self.api;
        let rules = api.authorizer.run(&self.shutdown);
        let serve = async {
            let ready = self.shutdown.run_until_cancelled(self.ready()).await;
            if ready.is_some() {
                tracing::info!(address = ?listener.local_addr().ok(), "serving the API");
                listener::run(
                    listener,
                    &self.tls,
                    api.clone(),
                    self.shutdown.clone(),
                    api.nodes.close(),
                )
                .await;
            }
        };
        tokio::join!(rules, serve);
    }
}

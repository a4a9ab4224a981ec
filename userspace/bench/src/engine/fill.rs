//! A service proxy that runs, and Services brought into maps by it.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use skep_bpf_maps::ServiceMaps;
use skep_client::Client;
use skep_service_proxy::{ProxyConfig, ProxyError, ProxyMetrics};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::BenchError;
use crate::engine::api::MemoryApi;
use crate::engine::interrupt::Interrupt;
use crate::engine::services::{NODE_NAME, Objects};

const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(1);

/// A proxy on a task of its own.
pub(crate) struct RunningProxy {
    task: JoinHandle<Result<(), ProxyError>>,
    shutdown: CancellationToken,
    registry: Registry,
}

impl RunningProxy {
    /// Starts a proxy of the node `addresses` belong to.
    pub(crate) fn start(client: Client, maps: Arc<dyn ServiceMaps>, addresses: &[std::net::IpAddr]) -> Self {
        let mut registry = Registry::default();
        let metrics = ProxyMetrics::register(&mut registry);
        let shutdown = CancellationToken::new();
        let config = ProxyConfig {
            node_name: NODE_NAME.to_owned(),
            node_addresses: addresses.to_vec(),
            node_local: Vec::new(),
            health: ([127, 0, 0, 1], 0).into(),
            restrict_node_ports: false,
        };
        let running = skep_service_proxy::run(client, maps, config, metrics, shutdown.clone());
        Self {
            task: tokio::spawn(running),
            shutdown,
            registry,
        }
    }

    /// Waits until everything that existed is in the maps.
    ///
    /// # Errors
    /// [`BenchError::Never`], [`BenchError::Interrupted`].
    pub(crate) async fn in_step(&self, interrupt: &Interrupt) -> Result<(), BenchError> {
        let deadline = Instant::now() + PATIENCE;
        while self.metric("kubeproxy_sync_full_proxy_rules_duration_seconds_count") < 1.0 {
            interrupt.check()?;
            if Instant::now() > deadline || self.task.is_finished() {
                return Err(BenchError::Never(
                    "the service proxy was in step with its API".to_owned(),
                ));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// The value of one of the proxy's metrics; 0 when it has none.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            return 0.0;
        }
        text.lines()
            .find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0.0)
    }

    /// Ends the proxy; the maps stay as they are.
    ///
    /// # Errors
    /// [`BenchError::Proxy`].
    pub(crate) async fn stop(self) -> Result<(), BenchError> {
        self.shutdown.cancel();
        Ok(self.task.await.map_err(ProxyError::Writer)??)
    }
}

/// A runtime as the agent has it.
///
/// # Errors
/// [`BenchError::Io`].
pub(crate) fn runtime() -> Result<Runtime, BenchError> {
    Runtime::new().map_err(BenchError::io("start threads"))
}

/// Makes maps hold the Services of these objects.
///
/// # Errors
/// Those of the proxy.
pub(crate) fn fill(
    maps: Arc<dyn ServiceMaps>,
    objects: Objects,
    addresses: &[std::net::IpAddr],
    interrupt: &Interrupt,
) -> Result<(), BenchError> {
    let api = MemoryApi::new(objects);
    runtime()?.block_on(async {
        let proxy = RunningProxy::start(api.client(), maps, addresses);
        let result = proxy.in_step(interrupt).await;
        proxy.stop().await?;
        result
    })
}

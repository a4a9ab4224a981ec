//! Wiring: from a configuration to a running node agent.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use prometheus_client::registry::Registry;
use skep_client::Client;
use skep_cri::Runtime;
use skep_runtime::{EventRecorder, EventSource, Informer, InformerOptions};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cgroups::Cgroups;
use crate::config::KubeletConfig;
use crate::events::Events;
use crate::images::Images;
use crate::manager::Manager;
use crate::metrics::Metrics;
use crate::objects::Objects;
use crate::server::{self, PodSource, ServerError};
use crate::shared::{Host, Shared};
use crate::status_writer::StatusWriter;
use crate::volumes::{Volumes, make_private};
use crate::{housekeeping, node, relist};

/// How long to wait between questions to a runtime that does not answer yet.
const RUNTIME_RETRY: Duration = Duration::from_millis(200);

/// Why the kubelet cannot run.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// A directory of its own cannot be made.
    #[error("the kubelet cannot use {path}")]
    Directory {
        /// The directory.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The cgroup hierarchies cannot be found.
    #[error("the kubelet cannot read the machine's mounts")]
    Mounts(#[source] std::io::Error),
    /// The server cannot serve.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// Runs a node's pods until shut down. Containers go on running then, and the next start takes them over.
///
/// The kubelet's metrics join those of `metrics`; the server shows them all.
///
/// # Errors
/// When its directories, the cgroups or the server's address or certificates cannot be used. A runtime or an API that
/// is away is waited for.
pub async fn run(
    client: Client,
    runtime: Arc<dyn Runtime>,
    mut config: KubeletConfig,
    mut metrics: Registry,
    shutdown: CancellationToken,
) -> Result<(), KubeletError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| KubeletError::Directory { path, source }
    };
    let (root, logs) = (&config.root_dir, &config.log_dir);
    make_private(root).map_err(unusable(root))?;
    std::fs::create_dir_all(logs).map_err(unusable(logs))?;
    // Mounts are found again by their paths without links.
    config.root_dir = root.canonicalize().map_err(unusable(root))?;
    let cgroups =
        Cgroups::find(&config.cgroup_mounts, &config.cgroup_parent).map_err(KubeletError::Mounts)?;
    // What ends here ends everything: a failing server must not leave the rest alone.
    let shutdown = shutdown.child_token();
    let mut tasks = JoinSet::new();
    {
        let (client, runtime, config) = (client.clone(), Arc::clone(&runtime), Arc::new(config.clone()));
        tasks.spawn(node::run(client, runtime, config, shutdown.clone()));
    }
    let Some(host) = shutdown.run_until_cancelled(host(&*runtime, &config)).await else {
        tasks.join_all().await;
        return Ok(());
    };
    let watches = TaskTracker::new();
    let parts = Parts {
        metrics: Metrics::register(&mut metrics),
        client,
        runtime,
        config,
        host,
        cgroups,
    };
    let (shared, pods) = share(parts, &watches, &shutdown);
    let manager = Manager::new(Arc::clone(&shared), pods.store());
    start(&mut tasks, &shared, &manager, pods);
    let source: Arc<dyn PodSource> = manager;
    let runtime = Arc::clone(&shared.runtime);
    let served = server::serve(
        &shared.config,
        source,
        runtime,
        Arc::new(metrics),
        shutdown.clone(),
    )
    .await;
    shutdown.cancel();
    tasks.join_all().await;
    watches.close();
    watches.wait().await;
    Ok(served?)
}

/// What the shared parts are made of.
struct Parts {
    client: Client,
    runtime: Arc<dyn Runtime>,
    config: KubeletConfig,
    host: Host,
    cgroups: Cgroups,
    metrics: Metrics,
}

/// The shared parts, and the informer of this node's pods.
fn share(parts: Parts, watches: &TaskTracker, shutdown: &CancellationToken) -> (Arc<Shared>, Informer<Pod>) {
    let Parts {
        client,
        runtime,
        config,
        host,
        cgroups,
        metrics,
    } = parts;
    let pods = Informer::<Pod>::new(
        client.clone(),
        InformerOptions {
            field_selector: Some(format!("spec.nodeName={}", config.node_name)),
            ..InformerOptions::default()
        },
    );
    let source = EventSource {
        component: "kubelet".to_owned(),
        host: Some(config.node_name.clone()),
    };
    let shared = Shared {
        objects: Objects::new(client.clone(), watches.clone(), shutdown.clone()),
        images: Images::new(Arc::clone(&runtime)),
        volumes: Volumes::new(&config.root_dir),
        statuses: StatusWriter::new(client.clone(), pods.store()),
        events: Events(EventRecorder::new(client.clone(), source)),
        services: Informer::new(client.clone(), InformerOptions::default()),
        shutdown: shutdown.clone(),
        client,
        runtime,
        host,
        cgroups,
        metrics,
        config,
    };
    (Arc::new(shared), pods)
}

/// Starts everything but the server.
fn start(tasks: &mut JoinSet<()>, shared: &Arc<Shared>, manager: &Arc<Manager>, pods: Informer<Pod>) {
    let until = &shared.shutdown;
    let (recorder, token) = (shared.events.0.clone(), until.clone());
    tasks.spawn(async move { recorder.run(token).await });
    let (services, token) = (shared.services.clone(), until.clone());
    tasks.spawn(async move { services.run(token).await });
    let (statuses, token) = (shared.statuses.clone(), until.clone());
    tasks.spawn(async move { statuses.run(token).await });
    let (informer, token) = (pods.clone(), until.clone());
    tasks.spawn(async move { informer.run(token).await });
    let (of_api, token) = (Arc::clone(manager), until.clone());
    tasks.spawn(async move { of_api.run(&pods, &token).await });
    let (of_runtime, parts) = (Arc::clone(manager), Arc::clone(shared));
    tasks.spawn(async move {
        let poll = parts.config.poll_interval;
        relist::run(&of_runtime, &*parts.runtime, poll, &parts.shutdown).await;
    });
    let (housekept, parts) = (Arc::clone(manager), Arc::clone(shared));
    tasks.spawn(async move { housekeeping::run(&parts, &housekept, &parts.shutdown).await });
}

/// What does not change while the kubelet runs. Waits for the runtime.
async fn host(runtime: &dyn Runtime, config: &KubeletConfig) -> Host {
    let runtime_name = loop {
        match runtime.version().await {
            Ok(version) => break version.runtime_name,
            Err(error) => tracing::debug!(%error, "waiting for the runtime"),
        }
        tokio::time::sleep(RUNTIME_RETRY).await;
    };
    let (allocatable, memory_bytes) = node::allocatable(config);
    Host {
        ips: vec![config.node_ip.to_string()],
        runtime_name,
        memory_bytes,
        allocatable,
        lowest_oom_score_adj: lowest_oom_score_adj(),
    }
}

/// Only a process with CAP_SYS_RESOURCE (bit 24 of proc_pid_status(5)'s CapEff) may lower the value below its own.
fn lowest_oom_score_adj() -> i64 {
    const LOWEST: i64 = -1000;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    if capabilities & (1 << 24) != 0 {
        return LOWEST;
    }
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    own.trim().parse().unwrap_or(0)
}

//! The parts in their order, and their end.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use prometheus_client::registry::Registry;
use skep_client::Client;
use skep_cni::{node_routes, sysctl};
use skep_cri::{Containerd, Runtime};
use skep_dns::{DnsConfig, DnsMetrics, DnsServer};
use skep_kubelet::{KubeletConfig, ServerTls};
use skep_loader::{Dataplane, DataplaneConfig, MapSizes};
use skep_service_proxy::{ProxyConfig, ProxyMetrics};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::credentials;
use crate::{AgentConfig, loopback, pod_networks, pod_range};

const KUBELET_PORT: u16 = 10250;
/// kube-proxy's.
const PROXY_HEALTH_PORT: u16 = 10256;
const DNS_PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The name in the certificate with which the API server calls kubelets.
const API_SERVER_CLIENT: &str = "kube-apiserver-kubelet-client";
/// The Service that pods' resolv.conf names.
const DNS_SERVICE: (&str, &str) = ("kube-system", "kube-dns");

/// Runs a node until cancelled.
///
/// # Errors
/// When a part cannot start or fails. What is in the kernel stays: Services and pods go on.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<()> {
    sysctl::prepare_node()?;
    loopback::add(config.node_dns).await?;
    let dataplane = Arc::new(Dataplane::open(dataplane_config(&config)?)?);
    let mut metrics = Registry::default();
    let mut parts = Parts {
        tasks: JoinSet::new(),
        shutdown: shutdown.clone(),
    };

    let proxy = client(&config, credentials::PROXY)?;
    let maps = dataplane.service_maps();
    let counted = ProxyMetrics::register(&mut metrics);
    skep_service_proxy::register_service_metrics(&mut metrics, Arc::clone(&maps));
    let proxying = skep_service_proxy::run(
        proxy.clone(),
        maps,
        proxy_config(&config),
        counted,
        shutdown.clone(),
    );
    parts.start("service proxy", proxying);
    parts.start(
        "routes to other nodes",
        node_routes::run(proxy.clone(), config.node_name.clone(), shutdown.clone()),
    );
    let dns = DnsMetrics::register(&mut metrics);
    let names = DnsServer::bind(dns_config(&config)).await?;
    parts.start(
        "DNS",
        names.run(client(&config, credentials::DNS)?, dns, shutdown.clone()),
    );
    let kubelet = client(&config, credentials::KUBELET)?;
    let runtime: Arc<dyn Runtime> = Arc::new(Containerd::connect(&config.containerd));
    parts.start(
        "kubelet",
        skep_kubelet::run(
            kubelet.clone(),
            Arc::clone(&runtime),
            kubelet_config(&config),
            metrics,
            shutdown.clone(),
        ),
    );
    parts.start(
        "pod networks",
        pod_networks::run(kubelet, runtime, Arc::clone(&dataplane), config, shutdown),
    );
    let result = parts.finish().await;
    // Closed last: the lock on the node's dataplane is held until nothing writes to it any more.
    drop(dataplane);
    result
}

/// The running parts: the first to fail stops the others.
struct Parts {
    tasks: JoinSet<Result<()>>,
    shutdown: CancellationToken,
}

impl Parts {
    fn start<E>(&mut self, name: &'static str, part: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<anyhow::Error> + Send,
    {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            let result = part
                .await
                .map_err(Into::into)
                .with_context(|| format!("the part `{name}` failed"));
            if !shutdown.is_cancelled() {
                tracing::error!(
                    part = name,
                    failed = result.is_err(),
                    "a part has ended; stopping the others"
                );
            }
            shutdown.cancel();
            result
        });
    }

    async fn finish(mut self) -> Result<()> {
        let mut first = Ok(());
        while let Some(joined) = self.tasks.join_next().await {
            let result = joined.context("a part panicked").and_then(|result| result);
            if first.is_ok() {
                first = result;
            }
            self.shutdown.cancel();
        }
        first
    }
}

fn client(config: &AgentConfig, file: &str) -> Result<Client> {
    let path = config.credentials.join(file);
    Client::from_kubeconfig(&path).with_context(|| {
        format!(
            "use the kubeconfig {}; `skep cert node` issues a node's credentials",
            path.display()
        )
    })
}

fn dataplane_config(config: &AgentConfig) -> Result<DataplaneConfig> {
    Ok(DataplaneConfig {
        pin_dir: skep_loader::bpffs()?.join(&config.pins),
        lock_path: config.run_dir.join("dataplane.lock"),
        cgroup: skep_loader::cgroup2()?.join(&config.cgroup),
        devices: vec![config.device.clone()],
        node_addresses: vec![config.node_ip],
        pod_cidrs: pod_range::remembered(&config.state_dir)?
            .into_iter()
            .map(IpNet::from)
            .collect(),
        cluster_pod_cidrs: vec![config.cluster_cidr],
        keep_source_cidrs: vec![config.node_cidr],
        service_cidrs: vec![config.service_cidr],
        source_ports: DataplaneConfig::SOURCE_PORTS,
        map_sizes: MapSizes::default(),
    })
}

fn proxy_config(config: &AgentConfig) -> ProxyConfig {
    let (namespace, name) = DNS_SERVICE;
    ProxyConfig {
        node_name: config.node_name.clone(),
        node_addresses: vec![config.node_ip],
        restrict_node_ports: config.restrict_node_ports,
        node_local: vec![(namespace.to_owned(), name.to_owned(), config.node_dns)],
        health: SocketAddr::new(config.node_ip, PROXY_HEALTH_PORT),
    }
}

fn dns_config(config: &AgentConfig) -> DnsConfig {
    DnsConfig::new(
        vec![SocketAddr::new(config.node_dns, DNS_PORT)],
        &config.cluster_domain,
    )
}

fn kubelet_config(config: &AgentConfig) -> KubeletConfig {
    KubeletConfig {
        node_name: config.node_name.clone(),
        node_ip: config.node_ip,
        labels: std::collections::BTreeMap::new(),
        cluster_dns: vec![config.cluster_dns],
        cluster_domain: config.cluster_domain.clone(),
        cgroup_parent: format!("/{}/kubepods", config.cgroup),
        cgroup_mounts: PathBuf::from(KubeletConfig::CGROUP_MOUNTS),
        root_dir: config.state_dir.join("kubelet"),
        log_dir: config.state_dir.join("pod-logs"),
        cni_conf_dir: config.cni_conf_dir.clone(),
        listen: SocketAddr::new(config.node_ip, KUBELET_PORT),
        tls: ServerTls {
            certificate: config.credentials.join(credentials::SERVING_CERTIFICATE),
            key: config.credentials.join(credentials::SERVING_KEY),
            client_ca: config.credentials.join(credentials::AUTHORITY),
            allowed_clients: vec![API_SERVER_CLIENT.to_owned()],
        },
        resolv_conf: PathBuf::from(RESOLV_CONF),
        max_pods: KubeletConfig::MAX_PODS,
        log_max_bytes: KubeletConfig::LOG_MAX_BYTES,
        log_max_files: KubeletConfig::LOG_MAX_FILES,
        poll_interval: KubeletConfig::POLL_INTERVAL,
    }
}

//! `skep agent`.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use ipnet::IpNet;
use skep_agent::AgentConfig;

use super::block_on;
use super::service::shutdown_on_signal;

#[derive(Args)]
pub(crate) struct Options {
    /// The Node's name
    #[arg(long)]
    node_name: String,
    /// The node's address, by which other nodes reach it
    #[arg(long)]
    node_ip: IpAddr,
    /// The network device that the node's address is on
    #[arg(long, default_value = "eth0")]
    device: String,
    /// The folder that `skep cert node` wrote
    #[arg(long)]
    credentials: PathBuf,
    /// containerd's socket
    #[arg(long, default_value = "/run/containerd/containerd.sock")]
    containerd: PathBuf,
    /// The node's cgroup, below the root of every hierarchy; the agent must be in it
    #[arg(long, default_value = "skep")]
    cgroup: String,
    /// The folder of the dataplane's pins, below the BPF file system's root
    #[arg(long, default_value = "skep")]
    pins: String,
    /// State that survives a restart
    #[arg(long, default_value = "/var/lib/skep/agent")]
    state_dir: PathBuf,
    /// Sockets and locks
    #[arg(long, default_value = "/run/skep")]
    run_dir: PathBuf,
    /// Where the CNI configuration goes
    #[arg(long, default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// The CNI plugin, as it was built [default: skep-cni beside this program]
    #[arg(long)]
    cni_plugin: Option<PathBuf>,
    /// Where the CNI program goes
    #[arg(long, default_value = "/opt/cni/bin")]
    cni_bin_dir: PathBuf,
    /// Pods' addresses in the whole cluster
    #[arg(long)]
    cluster_cidr: IpNet,
    /// Services' addresses
    #[arg(long)]
    service_cidr: IpNet,
    /// The nodes' addresses, which pods reach with their own address; what else leaves the cluster is masqueraded
    #[arg(long)]
    node_cidr: IpNet,
    /// Let loadBalancerSourceRanges bind the node ports of their Service, too
    #[arg(long)]
    restrict_node_ports: bool,
    /// The cluster DNS Service's address
    #[arg(long)]
    cluster_dns: IpAddr,
    /// The domain of cluster names
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// The node's own address of the DNS server, behind the cluster DNS Service
    #[arg(long, default_value = "169.254.20.10")]
    node_dns: IpAddr,
}

pub(super) fn run(options: Options) -> Result<()> {
    let cni_plugin = match options.cni_plugin {
        Some(path) => path,
        None => std::env::current_exe()
            .context("find this program's path")?
            .with_file_name("skep-cni"),
    };
    let config = AgentConfig {
        cni_plugin,
        node_name: options.node_name,
        node_ip: options.node_ip,
        device: options.device,
        credentials: options.credentials,
        containerd: options.containerd,
        cgroup: options.cgroup,
        pins: options.pins,
        state_dir: options.state_dir,
        run_dir: options.run_dir,
        cni_conf_dir: options.cni_conf_dir,
        cni_bin_dir: options.cni_bin_dir,
        cluster_cidr: options.cluster_cidr,
        service_cidr: options.service_cidr,
        node_cidr: options.node_cidr,
        restrict_node_ports: options.restrict_node_ports,
        cluster_dns: options.cluster_dns,
        cluster_domain: options.cluster_domain,
        node_dns: options.node_dns,
    };
    block_on(async {
        let shutdown = shutdown_on_signal()?;
        skep_agent::run(config, shutdown).await
    })?
}

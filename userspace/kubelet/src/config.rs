//! What the kubelet is told when it starts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that the kubelet has to know of its place. Nothing here is computed inside.
///
/// The kubelet must run in the network namespace of its node (probes and streams use it) and in the
/// mount namespace of the node's runtime, whose `/` is shared: volumes in memory and sub-paths are
/// mounts that containers must see.
#[derive(Clone, Debug)]
pub struct KubeletConfig {
    /// The Node's name.
    pub node_name: String,
    /// The node's address, which pods in the host's network have too.
    pub node_ip: IpAddr,
    /// Labels that the Node gets beside `kubernetes.io/hostname`, `…/os` and `…/arch`.
    pub labels: BTreeMap<String, String>,
    /// Cluster DNS servers, for pods with the policy ClusterFirst; none: they get the host's.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS domain, such as `cluster.local`.
    pub cluster_domain: String,
    /// The cgroup below which pods live, as a path in every hierarchy: `/skep-x/node1/kubepods`.
    pub cgroup_parent: String,
    /// The file that tells where cgroup hierarchies are mounted, in the form of proc_pid_mounts(5).
    pub cgroup_mounts: PathBuf,
    /// Where pods' directories (volumes, hosts files, termination messages) are kept.
    pub root_dir: PathBuf,
    /// Where containers' logs are kept.
    pub log_dir: PathBuf,
    /// The folder with the network plugins' configuration; only named in messages.
    pub cni_conf_dir: PathBuf,
    /// The server's address, usually port 10250.
    pub listen: SocketAddr,
    /// The server's TLS material and who may call it.
    pub tls: ServerTls,
    /// The host's resolv.conf, for pods with the policy Default and for the host's search domains.
    pub resolv_conf: PathBuf,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// A container's log is rotated when it is larger than this.
    pub log_max_bytes: u64,
    /// How many log files a container may have, the current one included.
    pub log_max_files: usize,
    /// How often the runtime's lists are read when it cannot tell of events.
    pub poll_interval: Duration,
}

/// The server's TLS material and who may call it.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// PEM file of the serving certificate with its chain.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// PEM file of the authorities for client certificates.
    pub client_ca: PathBuf,
    /// Common names that may use the server. Certificates of the organization `system:masters` may too.
    pub allowed_clients: Vec<String>,
}

impl KubeletConfig {
    /// The default of [`Self::cgroup_mounts`].
    pub const CGROUP_MOUNTS: &'static str = "/proc/thread-self/mounts";
    /// The default of [`Self::max_pods`].
    pub const MAX_PODS: u32 = 110;
    /// The default of [`Self::log_max_bytes`].
    pub const LOG_MAX_BYTES: u64 = 10 * 1024 * 1024;
    /// The default of [`Self::log_max_files`].
    pub const LOG_MAX_FILES: usize = 5;
    /// The default of [`Self::poll_interval`].
    pub const POLL_INTERVAL: Duration = Duration::from_millis(500);
}

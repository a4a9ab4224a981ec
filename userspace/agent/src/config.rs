//! What an agent must be told; nothing is derived from the machine's names.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

/// One node.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The Node object's name.
    pub node_name: String,
    /// The node's address, by which other nodes reach it.
    pub node_ip: IpAddr,
    /// The network device that the address is on.
    pub device: String,
    /// The folder with the node's credentials (see [`crate::credentials`]).
    pub credentials: PathBuf,
    /// containerd's socket.
    pub containerd: PathBuf,
    /// The node's cgroup below the root of every hierarchy, without a leading slash.
    pub cgroup: String,
    /// The folder of the dataplane's pins, below the BPF file system's root.
    pub pins: String,
    /// State that survives a restart.
    pub state_dir: PathBuf,
    /// Sockets and locks.
    pub run_dir: PathBuf,
    /// Where the CNI configuration goes.
    pub cni_conf_dir: PathBuf,
    /// The CNI plugin, as it was built.
    pub cni_plugin: PathBuf,
    /// Where the CNI program goes.
    pub cni_bin_dir: PathBuf,
    /// Pods' addresses in the whole cluster.
    pub cluster_cidr: IpNet,
    /// Services' addresses.
    pub service_cidr: IpNet,
    /// The nodes' addresses, which pods reach with their own address.
    pub node_cidr: IpNet,
    /// Whether loadBalancerSourceRanges bind the node ports of their Service, too.
    pub restrict_node_ports: bool,
    /// The cluster DNS Service's address.
    pub cluster_dns: IpAddr,
    /// The domain of cluster names.
    pub cluster_domain: String,
    /// The node's own address of the DNS server, behind the cluster DNS Service.
    pub node_dns: IpAddr,
}

/// Names of the files in the credentials folder, as `skep cert node` writes them.
pub mod credentials {
    /// The cluster authority's certificate.
    pub const AUTHORITY: &str = "ca.crt";
    /// The kubelet's kubeconfig.
    pub const KUBELET: &str = "kubelet.kubeconfig";
    /// The service proxy's kubeconfig.
    pub const PROXY: &str = "kube-proxy.kubeconfig";
    /// The DNS server's kubeconfig.
    pub const DNS: &str = "dns.kubeconfig";
    /// The kubelet's serving certificate.
    pub const SERVING_CERTIFICATE: &str = "kubelet.crt";
    /// Its key.
    pub const SERVING_KEY: &str = "kubelet.key";
}

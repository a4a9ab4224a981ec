use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// What a server needs to know; nothing is derived from the environment.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Names the cluster in certificates and kubeconfigs.
    pub cluster_name: String,
    /// Holds `pki/` and the embedded store; made if absent.
    pub data_dir: PathBuf,
    /// Where the HTTPS API listens.
    pub bind: SocketAddr,
    /// The address under which nodes and clients reach the API (its port is that of `bind`).
    pub advertise: IpAddr,
    /// Further names and addresses for the serving certificate.
    pub serving_names: Vec<String>,
    /// Services' addresses; its first one is the `kubernetes` Service.
    pub service_cidr: IpNet,
    /// Pods' addresses, handed out to nodes in ranges of `node_cidr_mask` bits.
    pub cluster_cidr: IpNet,
    pub node_cidr_mask: u8,
    pub node_ports: RangeInclusive<u16>,
    /// The cluster DNS Service's address, within `service_cidr`.
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    pub store: StoreConfig,
}

/// Where objects are kept.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    /// The embedded store, in the data folder.
    Embedded,
    /// An etcd cluster; client certificates as PEM files where it asks for them.
    Etcd {
        endpoints: Vec<String>,
        prefix: String,
        ca: Option<PathBuf>,
        client: Option<(PathBuf, PathBuf)>,
    },
}

impl ServerConfig {
    /// A server with the usual ranges and an embedded store.
    pub fn new(data_dir: PathBuf, bind: SocketAddr, service_cidr: IpNet, cluster_cidr: IpNet) -> Self {
        Self {
            cluster_name: "skep".into(),
            data_dir,
            advertise: bind.ip(),
            bind,
            serving_names: Vec::new(),
            cluster_dns: nth_address(service_cidr, 10),
            service_cidr,
            cluster_cidr,
            node_cidr_mask: if cluster_cidr.addr().is_ipv4() { 24 } else { 64 },
            node_ports: 30_000..=32_767,
            cluster_domain: "cluster.local".into(),
            store: StoreConfig::Embedded,
        }
    }

    /// The `kubernetes` Service's address.
    pub fn kubernetes_service(&self) -> IpAddr {
        nth_address(self.service_cidr, 1)
    }
}

/// The n-th address of a range; the range's own address if it is too small for that.
fn nth_address(range: IpNet, n: u32) -> IpAddr {
    let address = match range.network() {
        IpAddr::V4(base) => IpAddr::from((u32::from(base).wrapping_add(n)).to_be_bytes()),
        IpAddr::V6(base) => IpAddr::from((u128::from(base).wrapping_add(n.into())).to_be_bytes()),
    };
    if range.contains(&address) {
        address
    } else {
        range.network()
    }
}

//! Pure: what a cluster consists of, derived from its name, its index and its number of nodes.
//!
//! | thing | for cluster `c`, index `i`, node `n` (from 1) |
//! |---|---|
//! | bridge | `sk-c` |
//! | underlay | `172.29.i.0/24`: host `.1`, node `.(128+n)` |
//! | pods | `10.(128+i).0.0/16`, a /24 for each node |
//! | services | `10.(64+i).0.0/16`: `kubernetes` `.0.1`, cluster DNS `.0.10` |
//! | API server | `172.29.i.1:6443` |
//! | network namespace | `skep-c-noden` |
//! | host's end of a node's cable | `ski` + `nn` |
//! | cgroup | `skep-c/server`, `skep-c/noden` |
//! | pins | `skep/c/noden` below the BPF file system |
//! | state, sockets | `/var/lib/skep/c`, `/run/skep/c` |

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::Ipv4Net;
use sha2::{Digest as _, Sha256};

use crate::ClusterError;

/// The longest cluster name: the bridge's name must fit a network device's 15 characters.
pub const MAX_NAME_LENGTH: usize = 12;
/// The most nodes of one local cluster.
pub const MAX_NODES: u16 = 64;
/// The most clusters on one machine.
pub const MAX_CLUSTERS: u8 = 32;
/// The name of the cluster that is meant when none is named.
pub const DEFAULT_NAME: &str = "skep";
/// The domain of cluster names.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

const API_PORT: u16 = 6443;
/// Nodes have the upper half of the underlay to themselves, so that one range names them all without the host.
const FIRST_NODE_HOST: u8 = 128;

/// A cluster's name: 1 to 12 of a-z, 0-9 and -, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The index that this name asks for; the default name has 0 for itself.
    pub(crate) fn preferred_index(&self) -> u8 {
        if self.0 == DEFAULT_NAME {
            return 0;
        }
        1 + Sha256::digest(self.0.as_bytes())[0] % (MAX_CLUSTERS - 1)
    }
}

impl FromStr for ClusterName {
    type Err = ClusterError;

    fn from_str(name: &str) -> Result<Self, ClusterError> {
        let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let holds = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !starts || !holds || name.len() > MAX_NAME_LENGTH || name.ends_with('-') {
            return Err(ClusterError::BadName {
                name: name.to_owned(),
                max: MAX_NAME_LENGTH,
            });
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Everything about a cluster that follows from its name and index.
#[derive(Debug, Clone)]
pub struct ClusterPlan {
    /// The cluster's name.
    pub name: ClusterName,
    /// Its index on this machine, which its address ranges are made of.
    pub index: u8,
    /// The bridge that joins the nodes.
    pub bridge: String,
    /// The underlay network.
    pub underlay: Ipv4Net,
    /// The part of it that nodes' addresses are from.
    pub node_addresses: Ipv4Net,
    /// Where the API server listens: the host's address on the bridge.
    pub api: SocketAddr,
    /// Pods' addresses.
    pub pods: Ipv4Net,
    /// Services' addresses.
    pub services: Ipv4Net,
    /// The cluster DNS Service's address.
    pub dns: Ipv4Addr,
    /// State that survives a restart of the machine.
    pub state_dir: PathBuf,
    /// Sockets, process ids, logs.
    pub run_dir: PathBuf,
    /// The nodes.
    pub nodes: Vec<NodePlan>,
}

/// Everything about one node.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// The Node's name.
    pub name: String,
    /// Its address on the underlay.
    pub address: Ipv4Addr,
    /// Its network namespace.
    pub namespace: String,
    /// The host's end of its cable.
    pub cable: String,
    /// Its cgroup below the root of every hierarchy, without a leading slash.
    pub cgroup: String,
    /// Its pins below the BPF file system's root.
    pub pins: String,
    /// Its state.
    pub state_dir: PathBuf,
    /// Its sockets.
    pub run_dir: PathBuf,
}

impl ClusterPlan {
    /// Derives the plan.
    ///
    /// # Errors
    /// [`ClusterError::BadNodeCount`].
    pub fn new(name: ClusterName, index: u8, nodes: u16) -> Result<Self, ClusterError> {
        if nodes == 0 || nodes > MAX_NODES {
            return Err(ClusterError::BadNodeCount {
                nodes,
                max: MAX_NODES,
            });
        }
        let host = Ipv4Addr::new(172, 29, index, 1);
        let mut plan = Self {
            bridge: format!("sk-{name}"),
            underlay: network(Ipv4Addr::new(172, 29, index, 0), 24),
            node_addresses: network(Ipv4Addr::new(172, 29, index, FIRST_NODE_HOST), 25),
            api: SocketAddr::new(IpAddr::V4(host), API_PORT),
            pods: network(Ipv4Addr::new(10, 128 + index, 0, 0), 16),
            services: network(Ipv4Addr::new(10, 64 + index, 0, 0), 16),
            dns: Ipv4Addr::new(10, 64 + index, 0, 10),
            state_dir: state_root().join(name.as_str()),
            run_dir: run_root().join(name.as_str()),
            nodes: Vec::new(),
            name,
            index,
        };
        plan.nodes = (1..=nodes).map(|number| plan.node(number)).collect();
        Ok(plan)
    }

    fn node(&self, number: u16) -> NodePlan {
        let name = format!("node{number}");
        let host = FIRST_NODE_HOST + u8::try_from(number).expect("at most MAX_NODES");
        NodePlan {
            address: Ipv4Addr::new(172, 29, self.index, host),
            namespace: format!("skep-{}-{name}", self.name),
            cable: format!("sk{}n{number}", self.index),
            cgroup: format!("{}/{name}", self.cgroup()),
            pins: format!("skep/{}/{name}", self.name),
            state_dir: self.state_dir.join(&name),
            run_dir: self.run_dir.join(&name),
            name,
        }
    }

    /// The cluster's cgroup below the root of every hierarchy.
    pub fn cgroup(&self) -> String {
        format!("skep-{}", self.name)
    }

    /// The API server's URL.
    pub fn api_url(&self) -> String {
        format!("https://{}", self.api)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state_dir.join("kubeconfig")
    }

    /// Where every process of the cluster writes its log.
    pub fn log_dir(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    /// The server's data.
    pub fn server_dir(&self) -> PathBuf {
        self.state_dir.join("server")
    }
}

impl NodePlan {
    /// The cgroup of the node's own programs: a leaf, since cgroup2 wants no processes beside delegated children.
    pub fn system_cgroup(&self) -> String {
        format!("{}/system", self.cgroup)
    }

    /// The containerd socket.
    pub fn containerd_socket(&self) -> PathBuf {
        self.run_dir.join("containerd.sock")
    }
}

/// Where clusters keep their state.
pub fn state_root() -> PathBuf {
    PathBuf::from("/var/lib/skep")
}

/// Where clusters keep their sockets and process ids.
pub fn run_root() -> PathBuf {
    PathBuf::from("/run/skep")
}

fn network(address: Ipv4Addr, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(address, length)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn plan(name: &str, index: u8, nodes: u16) -> ClusterPlan {
        ClusterPlan::new(name.parse().unwrap(), index, nodes).unwrap()
    }

    #[test]
    fn names_that_cannot_name_a_device_are_refused() {
        for name in [
            "",
            "-a",
            "a-",
            "1a",
            "UPPER",
            "a_b",
            "a.b",
            "a/b",
            "thirteen-long",
        ] {
            assert!(name.parse::<ClusterName>().is_err(), "{name}");
        }
        assert!("twelve-chars".parse::<ClusterName>().is_ok());
    }

    #[test]
    fn the_default_cluster_has_index_zero_to_itself() {
        assert_eq!(DEFAULT_NAME.parse::<ClusterName>().unwrap().preferred_index(), 0);
        assert_ne!("other".parse::<ClusterName>().unwrap().preferred_index(), 0);
    }

    #[test]
    fn node_counts_outside_the_plan_are_refused() {
        for nodes in [0, MAX_NODES + 1] {
            assert!(ClusterPlan::new("a".parse().unwrap(), 0, nodes).is_err());
        }
    }

    #[test]
    fn clusters_of_different_index_share_nothing() {
        let (one, two) = (plan("a", 1, 3), plan("b", 2, 3));
        assert!(!one.pods.contains(&two.pods.addr()) && !one.services.contains(&two.services.addr()));
        assert_ne!(one.api, two.api);
        let cables: HashSet<_> = one
            .nodes
            .iter()
            .chain(&two.nodes)
            .map(|node| node.cable.clone())
            .collect();
        assert_eq!(cables.len(), 6);
    }

    proptest! {
        #[test]
        fn device_names_fit_and_nodes_differ(name in "[a-z][a-z0-9]{0,11}", index in 0..MAX_CLUSTERS, nodes in 1..=MAX_NODES) {
            let plan = plan(&name, index, nodes);
            let IpAddr::V4(host) = plan.api.ip() else { unreachable!("nodes have IPv4 addresses") };
            let host_is_a_node = plan.node_addresses.contains(&host);
            prop_assert!(plan.bridge.len() <= 15 && !host_is_a_node);
            prop_assert!(plan.nodes.iter().all(|node| node.cable.len() <= 15 && plan.node_addresses.contains(&node.address)));
            let addresses: HashSet<_> = plan.nodes.iter().map(|node| node.address).collect();
            prop_assert_eq!(addresses.len(), usize::from(nodes));
        }
    }
}

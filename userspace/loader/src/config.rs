//! What the dataplane is told about its node.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use skep_abi::{MapSpec, maps};

/// Configuration of one node's dataplane.
#[derive(Clone, Debug)]
pub struct DataplaneConfig {
    /// Folder on a bpffs that holds every pin of this node, and nothing else. Created when absent.
    pub pin_dir: PathBuf,
    /// File that one agent holds locked while it runs. Not on the bpffs.
    pub lock_path: PathBuf,
    /// The node's cgroup2 folder: the programs in and below it dial Services.
    pub cgroup: PathBuf,
    /// Devices that lead out of the node, by their names in the network namespace of the calling thread.
    pub devices: Vec<String>,
    /// The node's addresses; the first of each family becomes the source of what is sent on for others.
    pub node_addresses: Vec<IpAddr>,
    /// Addresses of this node's pods, as far as they are known yet (see
    /// [`Dataplane::set_pod_cidrs`](crate::Dataplane::set_pod_cidrs)).
    pub pod_cidrs: Vec<IpNet>,
    /// Addresses of the pods of the whole cluster. They reach each other with their own addresses, and are not
    /// outside to traffic policies.
    pub cluster_pod_cidrs: Vec<IpNet>,
    /// Further destinations that pods reach with their own address: the nodes of the cluster.
    pub keep_source_cidrs: Vec<IpNet>,
    /// Addresses that only Services use: what is sent there and matches no Service is refused.
    pub service_cidrs: Vec<IpNet>,
    /// First and last port for translated sources; must stay clear of node ports and of
    /// `net.ipv4.ip_local_port_range`.
    pub source_ports: (u16, u16),
    /// Capacities of the maps, when they are first created.
    pub map_sizes: MapSizes,
}

impl DataplaneConfig {
    /// The default range for translated sources.
    pub const SOURCE_PORTS: (u16, u16) = skep_datapath::ports::DEFAULT_RANGE;
}

/// Capacities of the maps whose size depends on the cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Addresses and ports that clients dial.
    pub frontends: u32,
    /// Service ports.
    pub services: u32,
    /// Places of backends in services, spare ones included.
    pub slots: u32,
    /// Endpoints.
    pub backends: u32,
    /// Sockets that dialled a Service.
    pub sockets: u32,
    /// Entries of translated packet flows, two for each flow.
    pub flows: u32,
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            frontends: maps::FRONTENDS.default_entries,
            services: maps::SERVICES.default_entries,
            slots: maps::SLOTS.default_entries,
            backends: maps::BACKENDS.default_entries,
            sockets: maps::SOCKET_REVERSE.default_entries,
            flows: maps::FLOWS.default_entries,
        }
    }
}

impl MapSizes {
    /// The capacity to create a map with.
    pub(crate) fn of(&self, spec: &MapSpec) -> u32 {
        match spec.name {
            name if name == maps::FRONTENDS.name => self.frontends,
            name if name == maps::SERVICES.name => self.services,
            name if name == maps::SERVICE_STATS.name => self.services,
            name if name == maps::SERVICE_NAMES.name => self.services,
            name if name == maps::SLOTS.name => self.slots,
            name if name == maps::BACKENDS.name => self.backends,
            name if name == maps::SOCKET_REVERSE.name => self.sockets,
            name if name == maps::SOCKET_CHOICE.name => self.sockets / 2,
            name if name == maps::FLOWS.name => self.flows,
            _ => spec.default_entries,
        }
        .max(1)
    }
}

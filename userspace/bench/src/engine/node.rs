//! A node with a dataplane.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use skep_bpf_maps::ServiceMaps;
use skep_loader::{Dataplane, DataplaneConfig, DataplaneStatus, MapSizes};

use crate::BenchError;
use crate::engine::machine::{Cgroup, Inside, Netns, Pins};
use crate::engine::services::{POD_CIDR, SERVICE_CIDR};

/// A dataplane in a namespace. Fields drop in order: the agent, its pins, the cgroup.
#[derive(Debug)]
pub(crate) struct Node {
    dataplane: Dataplane,
    pins: Pins,
    cgroup: Cgroup,
}

/// What a node has, besides what all have.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeShape {
    pub(crate) devices: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
    /// The node's own pods.
    pub(crate) pod_cidrs: Vec<IpNet>,
}

impl Node {
    /// Opens a dataplane.
    ///
    /// # Errors
    /// [`BenchError::Dataplane`].
    pub(crate) fn open(netns: &Netns, shape: NodeShape) -> Result<Self, BenchError> {
        let (cgroup, pins) = (Cgroup::new()?, Pins::new()?);
        let cidr = |text: &str| -> IpNet { text.parse().expect("a constant that is a prefix") };
        let config = DataplaneConfig {
            pin_dir: pins.pin_dir.clone(),
            lock_path: pins.lock_path.clone(),
            cgroup: cgroup.path().to_owned(),
            devices: shape.devices,
            node_addresses: shape.addresses,
            pod_cidrs: shape.pod_cidrs,
            cluster_pod_cidrs: vec![cidr(POD_CIDR), cidr("fd00:200::/32")],
            keep_source_cidrs: Vec::new(),
            service_cidrs: vec![cidr(SERVICE_CIDR), cidr("fd00:96::/112")],
            source_ports: DataplaneConfig::SOURCE_PORTS,
            map_sizes: MapSizes::default(),
        };
        let dataplane = netns.run(|| Ok(Dataplane::open(config)?))?;
        Ok(Self {
            dataplane,
            pins,
            cgroup,
        })
    }

    pub(crate) fn maps(&self) -> Arc<dyn ServiceMaps> {
        self.dataplane.service_maps()
    }

    /// What the kernel holds.
    ///
    /// # Errors
    /// [`BenchError::Dataplane`].
    pub(crate) fn status(&self) -> Result<DataplaneStatus, BenchError> {
        Ok(self.dataplane.status()?)
    }

    /// Where the maps and links are pinned.
    pub(crate) fn pin_dir(&self) -> &std::path::Path {
        &self.pins.pin_dir
    }

    /// Makes the sockets of this process the node's, until the guard is dropped.
    ///
    /// # Errors
    /// [`BenchError::Io`].
    pub(crate) fn enter(&self) -> Result<Inside, BenchError> {
        self.cgroup.enter()
    }
}

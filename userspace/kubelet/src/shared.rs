//! What all parts of the kubelet share.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use skep_api::Quantity;
use skep_client::Client;
use skep_cri::Runtime;
use skep_runtime::Informer;
use tokio_util::sync::CancellationToken;

use crate::cgroups::Cgroups;
use crate::config::KubeletConfig;
use crate::env::PodFacts;
use crate::events::Events;
use crate::images::Images;
use crate::metrics::Metrics;
use crate::objects::Objects;
use crate::status_writer::StatusWriter;
use crate::volumes::Volumes;

/// What does not change while the kubelet runs.
pub(crate) struct Host {
    /// The node's addresses.
    pub(crate) ips: Vec<String>,
    /// The runtime's name, by which container ids begin.
    pub(crate) runtime_name: String,
    /// The machine's memory.
    pub(crate) memory_bytes: i64,
    /// What pods can have.
    pub(crate) allocatable: BTreeMap<String, Quantity>,
    /// No process may be given a lower `oom_score_adj` than this.
    pub(crate) lowest_oom_score_adj: i64,
}

/// What all parts of the kubelet share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) config: KubeletConfig,
    pub(crate) host: Host,
    pub(crate) events: Events,
    pub(crate) objects: Objects,
    pub(crate) images: Images,
    pub(crate) services: Informer<Service>,
    pub(crate) volumes: Volumes,
    pub(crate) cgroups: Cgroups,
    pub(crate) statuses: StatusWriter,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: CancellationToken,
}

impl Shared {
    /// What values of a pod's own come from.
    pub(crate) fn facts<'a>(&'a self, pod: &'a Pod, pod_ips: &'a [String]) -> PodFacts<'a> {
        PodFacts {
            pod,
            node_name: &self.config.node_name,
            host_ips: &self.host.ips,
            pod_ips,
            allocatable: &self.host.allocatable,
        }
    }
}

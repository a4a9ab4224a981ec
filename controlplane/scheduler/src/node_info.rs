//! A node, with what it has, what is taken of it, and by whom.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};
use skep_api::{ObjectExt, ObjectKey, Quantity};

use crate::{PodInfo, Resources};

/// A node as scheduling sees it, with the pods that run, or are assumed to run, there.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// None while only its pods are known.
    pub(crate) node: Option<Arc<Node>>,
    /// Copied out of the node: every cycle asks every node.
    taints: Vec<Taint>,
    unschedulable: bool,
    pub allocatable: Resources,
    pub allocatable_pods: i64,
    pub requested: Resources,
    /// Sum of the pods' `compared`.
    pub compared: Resources,
    pub(crate) pods: HashMap<ObjectKey, Arc<PodInfo>>,
    /// How many pods each controller has here.
    owners: HashMap<String, usize>,
}

impl NodeInfo {
    /// A node without pods.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let mut info = Self::default();
        info.set_node(node);
        info
    }

    pub(crate) fn set_node(&mut self, node: Arc<Node>) {
        let allocatable = node
            .status
            .as_ref()
            .and_then(|status| status.allocatable.as_ref());
        // What cannot be read is not there.
        self.allocatable = allocatable
            .map(|list| Resources::from_list(list, 0))
            .unwrap_or_default();
        self.allocatable_pods = allocatable
            .and_then(|list| Quantity::try_from(list.get("pods")?).ok())
            .map_or(0, Quantity::value);
        let spec = node.spec.as_ref();
        self.taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        self.unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        self.node = Some(node);
    }

    #[must_use]
    pub fn name(&self) -> &str {
        self.node.as_ref().map_or("", |node| node.name())
    }

    /// The node's labels and fields; none while only its pods are known.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    #[must_use]
    pub fn taints(&self) -> &[Taint] {
        &self.taints
    }

    #[must_use]
    pub fn is_unschedulable(&self) -> bool {
        self.unschedulable
    }

    /// The pods here, in no order.
    pub fn pods(&self) -> impl Iterator<Item = &PodInfo> {
        self.pods.values().map(|pod| &**pod)
    }

    #[must_use]
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// How many pods the controller has here.
    #[must_use]
    pub fn pods_of_owner(&self, uid: &str) -> usize {
        self.owners.get(uid).copied().unwrap_or(0)
    }

    pub(crate) fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.key);
        self.requested.add(&pod.requests);
        self.compared.add(&pod.compared);
        if let Some(owner) = &pod.owner {
            *self.owners.entry(owner.clone()).or_default() += 1;
        }
        self.pods.insert(pod.key.clone(), pod);
    }

    pub(crate) fn remove_pod(&mut self, key: &ObjectKey) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(key)?;
        self.requested.subtract(&pod.requests);
        self.compared.subtract(&pod.compared);
        if let Some(owner) = &pod.owner
            && let Some(count) = self.owners.get_mut(owner)
        {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(owner);
            }
        }
        Some(pod)
    }
}

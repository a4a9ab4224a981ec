//! The cluster as scheduling sees it: what the informers report, plus the pods that this scheduler has placed and not yet
//! seen placed. A cycle's snapshot is the cache itself: nothing changes it during a cycle.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use skep_api::{ObjectExt, ObjectKey};

use crate::pod_info::assigned_node;
use crate::{NodeInfo, PodInfo};

struct Placed {
    uid: String,
    node: String,
    /// Placed by this scheduler, and not seen in the API yet.
    assumed: bool,
}

/// Nodes by name, and where each pod is.
#[derive(Default)]
pub struct Cache {
    nodes: BTreeMap<String, NodeInfo>,
    placed: HashMap<ObjectKey, Placed>,
    known_nodes: usize,
}

impl Cache {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The nodes that exist, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().filter(|node| node.node.is_some())
    }

    /// How many nodes exist.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.known_nodes
    }

    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name).filter(|node| node.node.is_some())
    }

    /// A node appeared or changed.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let info = self.nodes.entry(node.name().to_owned()).or_default();
        self.known_nodes += usize::from(info.node.is_none());
        info.set_node(node);
    }

    /// A node is gone; its pods are kept until they are seen to go.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.get_mut(name)
            && info.node.take().is_some()
        {
            self.known_nodes -= 1;
            self.drop_if_empty(name);
        }
    }

    fn drop_if_empty(&mut self, name: &str) {
        if self
            .nodes
            .get(name)
            .is_some_and(|info| info.node.is_none() && info.pods.is_empty())
        {
            self.nodes.remove(name);
        }
    }

    /// A pod was seen on its node; whatever was assumed of it is replaced.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) {
        let Some(node) = assigned_node(&pod.pod).map(str::to_owned) else {
            return;
        };
        self.place(pod, node, false);
    }

    /// The pod will run on the node, as far as this scheduler is concerned.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.place(pod, node.to_owned(), true);
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: String, assumed: bool) {
        self.remove_pod(&pod.key);
        let placed = Placed {
            uid: pod.uid().to_owned(),
            node: node.clone(),
            assumed,
        };
        self.placed.insert(pod.key.clone(), placed);
        self.nodes.entry(node).or_default().add_pod(pod);
    }

    /// Takes an assumption back. False when there is none of this very pod: it was seen on its node, or is gone.
    pub fn forget(&mut self, pod: &PodInfo) -> bool {
        let assumed = self
            .placed
            .get(&pod.key)
            .is_some_and(|placed| placed.assumed && placed.uid == pod.uid());
        if assumed {
            self.remove_pod(&pod.key);
        }
        assumed
    }

    /// The pod is gone, or over. Returns the name of the node where it was.
    pub fn remove_pod(&mut self, key: &ObjectKey) -> Option<String> {
        let placed = self.placed.remove(key)?;
        if let Some(info) = self.nodes.get_mut(&placed.node) {
            info.remove_pod(key);
        }
        self.drop_if_empty(&placed.node);
        Some(placed.node)
    }

    /// Whether the pod of this name is the very one that was assumed and not yet seen.
    #[must_use]
    pub fn is_assumed(&self, key: &ObjectKey, uid: &str) -> bool {
        self.placed
            .get(key)
            .is_some_and(|placed| placed.assumed && placed.uid == uid)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, uid: &str, node: Option<&str>) -> Arc<PodInfo> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "default", "uid": uid,
                "ownerReferences": [{ "apiVersion": "v1", "kind": "X", "name": "x", "uid": "o", "controller": true }] },
            "spec": { "nodeName": node, "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }] },
        }))
        .unwrap();
        Arc::new(PodInfo::new(Arc::new(pod)))
    }

    fn node(name: &str) -> Arc<Node> {
        Arc::new(serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap())
    }

    fn cpu(cache: &Cache, name: &str) -> i64 {
        cache.node(name).unwrap().requested.milli_cpu
    }

    #[test]
    fn an_assumed_pod_takes_its_place_until_it_is_seen_or_forgotten() {
        let mut cache = Cache::new();
        cache.set_node(node("n"));
        let waiting = pod("a", "1", None);
        cache.assume(Arc::clone(&waiting), "n");
        assert_eq!(cpu(&cache, "n"), 1000);
        assert!(cache.is_assumed(&waiting.key, "1"));
        assert!(
            !cache.forget(&pod("a", "2", None)),
            "another pod of that name was not assumed"
        );
        assert!(cache.forget(&waiting));
        assert_eq!(cpu(&cache, "n"), 0);

        cache.assume(Arc::clone(&waiting), "n");
        cache.set_pod(pod("a", "1", Some("n")));
        assert!(!cache.forget(&waiting), "it is there");
        assert_eq!(
            (cpu(&cache, "n"), cache.node("n").unwrap().pods_of_owner("o")),
            (1000, 1)
        );
        assert_eq!(cache.remove_pod(&waiting.key).as_deref(), Some("n"));
        assert_eq!(
            (cpu(&cache, "n"), cache.node("n").unwrap().pods_of_owner("o")),
            (0, 0)
        );
    }

    #[test]
    fn pods_may_be_seen_before_their_node_and_outlive_it() {
        let mut cache = Cache::new();
        cache.set_pod(pod("a", "1", Some("n")));
        assert_eq!((cache.node_count(), cache.nodes().count()), (0, 0));
        cache.set_node(node("n"));
        assert_eq!((cache.node_count(), cpu(&cache, "n")), (1, 1000));
        cache.remove_node("n");
        assert_eq!((cache.node_count(), cache.nodes.len()), (0, 1));
        cache.remove_pod(&ObjectKey::new("default", "a"));
        assert!(cache.nodes.is_empty());
    }
}

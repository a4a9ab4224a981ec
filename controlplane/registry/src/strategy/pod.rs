//! Pods: they get time to end, unless nothing of them runs; and it is known which are whose node's.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use skep_api::k8s_openapi::api::core::v1::Pod;
use skep_api::resource::DynObject;

use super::Strategy;
use crate::SharedObject;
use crate::cache::{Change, Objects};

/// Upstream's default of `terminationGracePeriodSeconds`.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// Pods by path, by the name of their node.
type ByNode = HashMap<String, HashMap<Arc<str>, SharedObject>>;

#[derive(Default)]
pub(crate) struct PodStrategy {
    by_node: RwLock<ByNode>,
}

impl PodStrategy {
    /// The pods that are bound to a node, in no particular order.
    pub(crate) fn on_node(&self, node: &str) -> Vec<Arc<Pod>> {
        let by_node = self.by_node.read();
        let pods = by_node.get(node).into_iter().flat_map(HashMap::values);
        pods.filter_map(SharedObject::typed).collect()
    }
}

fn insert(by_node: &mut ByNode, path: &Arc<str>, object: &SharedObject) {
    if let Some(node) = node_of(object) {
        let pods = by_node.entry(node.to_owned()).or_default();
        pods.insert(Arc::clone(path), object.clone());
    }
}

fn remove(by_node: &mut ByNode, path: &str, object: &SharedObject) {
    if let Some(node) = node_of(object)
        && let Some(pods) = by_node.get_mut(node)
    {
        pods.remove(path);
        if pods.is_empty() {
            by_node.remove(node);
        }
    }
}

fn node_of(object: &SharedObject) -> Option<&str> {
    let spec = object.object().downcast_ref::<Pod>()?.spec.as_ref()?;
    spec.node_name.as_deref().filter(|node| !node.is_empty())
}

impl Strategy for PodStrategy {
    fn changed(&self, change: &Change) {
        let mut by_node = self.by_node.write();
        if let Some(previous) = &change.previous {
            remove(&mut by_node, &change.path, previous);
        }
        if !change.deleted {
            insert(&mut by_node, &change.path, &change.object);
        }
    }

    fn replaced(&self, pods: &Objects) {
        let mut by_node = ByNode::new();
        for (path, object) in pods {
            insert(&mut by_node, path, object);
        }
        *self.by_node.write() = by_node;
    }

    fn grace_seconds(&self, object: &dyn DynObject, requested: Option<i64>) -> Option<i64> {
        let pod = object.downcast_ref::<Pod>()?;
        let spec = pod.spec.as_ref();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let scheduled = spec
            .and_then(|spec| spec.node_name.as_deref())
            .is_some_and(|node| !node.is_empty());
        if !scheduled || matches!(phase, Some("Succeeded" | "Failed")) {
            return Some(0);
        }
        let own = spec.and_then(|spec| spec.termination_grace_period_seconds);
        let seconds = requested.or(own).unwrap_or(DEFAULT_GRACE_SECONDS);
        Some(if seconds < 0 { 1 } else { seconds })
    }
}

#[cfg(test)]
mod tests {
    use skep_api::k8s_openapi::api::core::v1::{PodSpec, PodStatus};

    use super::*;

    #[test]
    fn grace_table() {
        let pod = |node: Option<&str>, phase: &str, own: Option<i64>| Pod {
            spec: Some(PodSpec {
                node_name: node.map(str::to_owned),
                termination_grace_period_seconds: own,
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some(phase.to_owned()),
                ..PodStatus::default()
            }),
            ..Pod::default()
        };
        let cases = [
            (pod(None, "Pending", Some(30)), None, 0),
            (pod(Some("n"), "Running", Some(30)), None, 30),
            (pod(Some("n"), "Running", Some(30)), Some(5), 5),
            (pod(Some("n"), "Running", Some(30)), Some(0), 0),
            (pod(Some("n"), "Running", Some(-1)), None, 1),
            (pod(Some("n"), "Running", None), None, 30),
            (pod(Some("n"), "Succeeded", Some(30)), None, 0),
        ];
        for (pod, requested, seconds) in cases {
            assert_eq!(
                PodStrategy::default().grace_seconds(&pod, requested),
                Some(seconds)
            );
        }
    }
}

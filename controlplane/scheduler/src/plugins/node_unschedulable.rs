//! NodeUnschedulable: a cordoned node takes only pods that tolerate it.

use k8s_openapi::api::core::v1::Taint;

use super::taint_toleration::tolerates;
use crate::{FilterPlugin, NodeInfo, PodInfo, Rejection};

pub(super) struct NodeUnschedulable;

impl FilterPlugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if !node.is_unschedulable() {
            return Ok(());
        }
        let cordon = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        if tolerates(pod.tolerations(), &cordon) {
            return Ok(());
        }
        Err(Rejection::because("node(s) were unschedulable"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugins::testing::{node, pod_with, reasons};

    #[test]
    fn a_cordoned_node_takes_only_pods_that_tolerate_it() {
        let toleration = json!([{ "key": "node.kubernetes.io/unschedulable", "operator": "Exists" }]);
        for (cordoned, tolerations, expected) in [
            (false, json!([]), vec![]),
            (true, json!([]), vec!["node(s) were unschedulable"]),
            (true, toleration, vec![]),
        ] {
            let node = node(json!({ "metadata": { "name": "a" }, "spec": { "unschedulable": cordoned } }));
            let pod = pod_with(json!({ "containers": [], "tolerations": tolerations }));
            assert_eq!(reasons(NodeUnschedulable.filter(&pod, &node)), expected);
        }
    }
}

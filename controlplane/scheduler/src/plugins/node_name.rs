//! NodeName: a pod that names its node runs there or nowhere. (Such a pod never comes here unless its name was set
//! without a binding.)

use crate::pod_info::assigned_node;
use crate::{FilterPlugin, NodeInfo, PodInfo, Rejection};

pub(super) struct NodeName;

impl FilterPlugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        match assigned_node(&pod.pod) {
            Some(name) if name != node.name() => {
                Err(Rejection::because("node(s) didn't match the requested node name"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugins::testing::{node, pod_with, reasons};

    #[test]
    fn only_the_named_node_is_accepted() {
        let node = node(json!({ "metadata": { "name": "a" } }));
        for (name, expected) in [
            (None, vec![]),
            (Some(""), vec![]),
            (Some("a"), vec![]),
            (Some("b"), vec!["node(s) didn't match the requested node name"]),
        ] {
            let pod = pod_with(json!({ "containers": [], "nodeName": name }));
            assert_eq!(reasons(NodeName.filter(&pod, &node)), expected, "{name:?}");
        }
    }
}

//! NodePorts: the host ports that a pod asks for must be free on the node.

use crate::{FilterPlugin, NodeInfo, PodInfo, Rejection};

pub(super) struct NodePorts;

impl FilterPlugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.host_ports.is_empty() {
            return Ok(());
        }
        let taken = |wanted| {
            node.pods()
                .flat_map(|pod| &pod.host_ports)
                .any(|port| port.conflicts(wanted))
        };
        if pod.host_ports.iter().any(taken) {
            return Err(Rejection::because(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::plugins::testing::{node, pod, reasons};

    fn with_port(name: &str, port: Value, host_network: bool) -> Arc<PodInfo> {
        pod(json!({
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "hostNetwork": host_network, "containers": [{ "name": "c", "ports": [port] }] },
        }))
    }

    #[test]
    fn taken_ports_reject_by_protocol_and_address() {
        let mut node = node(json!({ "metadata": { "name": "a" } }));
        let there = json!({ "containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1" });
        node.add_pod(with_port("there", there, false));
        let rejected = vec!["node(s) didn't have free ports for the requested pod ports"];
        for (port, host_network, expected) in [
            (json!({ "containerPort": 8080 }), false, vec![]),
            (json!({ "containerPort": 8080 }), true, rejected.clone()),
            (
                json!({ "containerPort": 1, "hostPort": 8080 }),
                false,
                rejected.clone(),
            ),
            (
                json!({ "containerPort": 1, "hostPort": 8080, "hostIP": "0.0.0.0" }),
                false,
                rejected.clone(),
            ),
            (
                json!({ "containerPort": 1, "hostPort": 8080, "hostIP": "10.0.0.2" }),
                false,
                vec![],
            ),
            (
                json!({ "containerPort": 1, "hostPort": 8080, "protocol": "UDP" }),
                false,
                vec![],
            ),
            (json!({ "containerPort": 1, "hostPort": 8081 }), false, vec![]),
        ] {
            let pod = with_port("new", port.clone(), host_network);
            assert_eq!(reasons(NodePorts.filter(&pod, &node)), expected, "{port}");
        }
    }
}

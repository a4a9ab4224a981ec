//! NodeResourcesFit: what a pod requests must be free on the node; the more stays free, the better (LeastAllocated).

use crate::framework::MAX_SCORE;
use crate::{Cycle, FilterPlugin, NodeInfo, PodInfo, Rejection, Resources, ScorePlugin};

pub(super) struct NodeResourcesFit;

impl FilterPlugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    /// Every resource that is short is a reason.
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let mut reasons = Vec::new();
        let count = i64::try_from(node.pod_count()).unwrap_or(i64::MAX);
        if count >= node.allocatable_pods {
            reasons.push("Too many pods".to_owned());
        }
        let Resources {
            milli_cpu,
            memory_bytes,
            ephemeral_bytes,
            others,
        } = &pod.requests;
        let (has, taken) = (&node.allocatable, &node.requested);
        for (name, wanted, has, taken) in [
            ("cpu", *milli_cpu, has.milli_cpu, taken.milli_cpu),
            ("memory", *memory_bytes, has.memory_bytes, taken.memory_bytes),
            (
                "ephemeral-storage",
                *ephemeral_bytes,
                has.ephemeral_bytes,
                taken.ephemeral_bytes,
            ),
        ] {
            if wanted > 0 && wanted > has.saturating_sub(taken) {
                reasons.push(format!("Insufficient {name}"));
            }
        }
        for (name, wanted) in others {
            let of = |resources: &Resources| resources.others.get(name).copied().unwrap_or(0);
            if *wanted > 0 && *wanted > of(has).saturating_sub(of(taken)) {
                reasons.push(format!("Insufficient {name}"));
            }
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(Rejection(reasons))
        }
    }
}

impl ScorePlugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    /// The mean of the shares of CPU and memory that would stay free.
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> i64 {
        let (has, taken, wanted) = (&node.allocatable, &node.compared, &cycle.pod.compared);
        let cpu = free(has.milli_cpu, taken.milli_cpu.saturating_add(wanted.milli_cpu));
        let memory = free(
            has.memory_bytes,
            taken.memory_bytes.saturating_add(wanted.memory_bytes),
        );
        i64::midpoint(cpu, memory)
    }
}

fn free(has: i64, taken: i64) -> i64 {
    if has <= 0 || taken > has {
        return 0;
    }
    let share = i128::from(has - taken) * i128::from(MAX_SCORE) / i128::from(has);
    i64::try_from(share).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Siblings;
    use crate::plugins::testing::{node, pod_with, reasons};

    fn a_node(pods: u32) -> NodeInfo {
        let allocatable = json!({ "cpu": "2", "memory": "4Gi", "pods": pods, "example.com/gpu": 1 });
        let mut node = node(json!({ "metadata": { "name": "a" }, "status": { "allocatable": allocatable } }));
        node.add_pod(pod_with(requests(json!({ "cpu": "1500m", "memory": "1Gi" }))));
        node
    }

    fn requests(requests: Value) -> Value {
        json!({ "containers": [{ "name": "c", "resources": { "requests": requests } }] })
    }

    #[test]
    fn everything_that_is_short_is_named() {
        for (wanted, pods, expected) in [
            (json!({}), 110, vec![]),
            (json!({ "cpu": "500m", "memory": "3Gi" }), 110, vec![]),
            (json!({ "cpu": "501m" }), 110, vec!["Insufficient cpu"]),
            (
                json!({ "cpu": "1", "memory": "4Gi" }),
                110,
                vec!["Insufficient cpu", "Insufficient memory"],
            ),
            (
                json!({ "cpu": "1" }),
                1,
                vec!["Too many pods", "Insufficient cpu"],
            ),
            (json!({ "example.com/gpu": 1 }), 110, vec![]),
            (
                json!({ "example.com/gpu": 2 }),
                110,
                vec!["Insufficient example.com/gpu"],
            ),
            (
                json!({ "example.com/fpga": 1 }),
                110,
                vec!["Insufficient example.com/fpga"],
            ),
            (
                json!({ "ephemeral-storage": 1 }),
                110,
                vec!["Insufficient ephemeral-storage"],
            ),
            (json!({ "cpu": "nonsense" }), 110, vec!["Insufficient cpu"]),
        ] {
            let pod = pod_with(requests(wanted.clone()));
            assert_eq!(
                reasons(NodeResourcesFit.filter(&pod, &a_node(pods))),
                expected,
                "{wanted}"
            );
        }
    }

    #[test]
    fn the_emptier_node_scores_higher() {
        let pod = pod_with(requests(json!({ "cpu": "100m", "memory": "1Gi" })));
        let cycle = Cycle {
            pod: &pod,
            siblings: Siblings::None,
        };
        // CPU: 2000 - 1600 of 2000 = 20; memory: 4 - 2 of 4 = 50.
        assert_eq!(NodeResourcesFit.score(&cycle, &a_node(110)), 35);
        let empty = node(json!({ "metadata": { "name": "b" } }));
        assert_eq!(NodeResourcesFit.score(&cycle, &empty), 0);
    }
}

//! ReplicaSpread: a node is better the fewer pods it has that do the same (of the same controller, or behind the same
//! Service), so that one node's end does not take all replicas. Stands for upstream's default topology spread
//! constraints until zones are known.

use crate::framework::normalize_fewest;
use crate::{Cycle, NodeInfo, ScorePlugin, Siblings};
use skep_api::ObjectExt;

pub(super) struct ReplicaSpread;

impl ScorePlugin for ReplicaSpread {
    fn name(&self) -> &'static str {
        "ReplicaSpread"
    }

    /// How many siblings are there.
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> i64 {
        let count = match &cycle.siblings {
            Siblings::None => 0,
            Siblings::OfOwner(uid) => node.pods_of_owner(uid),
            Siblings::OfServices(services) => node
                .pods()
                .filter(|pod| pod.key.namespace == cycle.pod.key.namespace)
                .filter(|pod| services.iter().any(|selector| selector.matches(pod.pod.labels())))
                .count(),
        };
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_fewest(scores);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use skep_api::LabelSelector;

    use super::*;
    use crate::PodInfo;
    use crate::plugins::testing::{node, pod};

    fn member(name: &str, namespace: &str, app: &str, owner: &str) -> Arc<PodInfo> {
        pod(json!({
            "metadata": { "name": name, "namespace": namespace, "labels": { "app": app }, "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": owner, "controller": true },
            ] },
            "spec": { "containers": [] },
        }))
    }

    #[test]
    fn siblings_are_counted_by_controller_or_service() {
        let mut node = node(json!({ "metadata": { "name": "a" } }));
        node.add_pod(member("1", "default", "web", "x"));
        node.add_pod(member("2", "default", "web", "x"));
        node.add_pod(member("3", "default", "web", "y"));
        node.add_pod(member("4", "other", "web", "z"));
        let new = member("5", "default", "web", "x");
        let web = LabelSelector::parse("app=web").unwrap();
        for (siblings, expected) in [
            (Siblings::None, 0),
            (Siblings::OfOwner("x".to_owned()), 2),
            (Siblings::OfOwner("nobody".to_owned()), 0),
            (Siblings::OfServices(vec![web]), 3),
        ] {
            assert_eq!(
                ReplicaSpread.score(&Cycle { pod: &new, siblings }, &node),
                expected
            );
        }
    }
}

//! Node IPAM: each node gets its pod range from the cluster's, once and for its life.

mod ranges;

use crate::context::{Context, Task, unless_gone};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;
use skep_api::{ApiError, ObjectExt, ObjectKey};
use skep_client::{Client, Patch};
use skep_runtime::{Action, Change, EventRecorder, EventType, Store};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// With no range left: a deleted node makes room sooner.
const EXHAUSTED_DELAY: Duration = Duration::from_secs(60);

pub(crate) fn controller(context: &Context) -> Task {
    let queue = context.queue::<ObjectKey>("node_ipam");
    let nodes = context.informers.all::<Node>();
    let this = Arc::new(NodeIpam {
        client: context.client.clone(),
        nodes: nodes.store(),
        cidrs: context
            .config
            .cluster_cidrs
            .iter()
            .map(|cidr| (*cidr, context.config.node_mask(cidr)))
            .collect(),
        promised: Mutex::default(),
        events: context.recorder("cidrAllocator"),
    });
    let (on_node, waiting) = (this.clone(), queue.clone());
    nodes.on_change(move |change| match change {
        Change::Deleted(node) => {
            on_node.promised.lock().remove(node.uid());
            for other in on_node
                .nodes
                .list()
                .iter()
                .filter(|other| ranges::of(other).is_empty())
            {
                waiting.add(other.key());
            }
        }
        Change::Added(node) | Change::Updated(_, node) => {
            if ranges::of(node).is_empty() {
                waiting.add(node.key());
            }
        }
    });
    // One worker: what is free is decided by one at a time.
    context.reconcile(queue, 1, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    })
}

struct NodeIpam {
    client: Client,
    nodes: Store<Node>,
    cidrs: Vec<(IpNet, u8)>,
    /// By node uid: ranges that were written and that the informer may not show yet.
    promised: Mutex<HashMap<String, Vec<IpNet>>>,
    events: EventRecorder,
}

impl NodeIpam {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ApiError> {
        let Some(node) = self.nodes.get(&key) else {
            return Ok(Action::Done);
        };
        if !ranges::of(&node).is_empty()
            || self.cidrs.is_empty()
            || node.metadata.deletion_timestamp.is_some()
        {
            return Ok(Action::Done);
        }
        let Some(chosen) = self.choose(&node) else {
            let message = format!("Node {} status is now: CIDRNotAvailable", node.name());
            self.events
                .event(&*node, EventType::Normal, "CIDRNotAvailable", message);
            tracing::warn!(node = node.name(), "no pod range is free");
            return Ok(Action::RequeueAfter(EXHAUSTED_DELAY));
        };
        let cidrs: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        let patch = Patch::merge(&json!({ "metadata": { "uid": node.uid() },
            "spec": { "podCIDR": cidrs.first(), "podCIDRs": cidrs } }))?;
        // Whatever comes of it, the promise stands: another try writes the same.
        if unless_gone(self.client.patch::<Node>(&key, &patch).await)?.is_none() {
            self.promised.lock().remove(node.uid());
            return Ok(Action::Done);
        }
        tracing::info!(node = node.name(), ranges = ?cidrs, "pod range given");
        Ok(Action::Done)
    }

    /// The first free range of each family, promised to the node.
    fn choose(&self, node: &Node) -> Option<Vec<IpNet>> {
        let mut promised = self.promised.lock();
        let nodes = self.nodes.list();
        for shown in nodes.iter().filter(|shown| !ranges::of(shown).is_empty()) {
            promised.remove(shown.uid());
        }
        if let Some(before) = promised.get(node.uid()) {
            return Some(before.clone());
        }
        let used: Vec<IpNet> = nodes
            .iter()
            .flat_map(|node| ranges::of(node))
            .chain(promised.values().flatten().copied())
            .collect();
        let chosen: Option<Vec<IpNet>> = self
            .cidrs
            .iter()
            .map(|(cidr, mask)| ranges::first_free(*cidr, *mask, &used))
            .collect();
        if let Some(chosen) = &chosen {
            promised.insert(node.uid().to_owned(), chosen.clone());
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use crate::config::ControllersConfig;
    use crate::testing::{Bench, object};
    use k8s_openapi::api::core::v1::Node;
    use serde_json::json;
    use skep_api::{ApiError, ObjectExt, ObjectKey};
    use skep_client::testing::FakeTransport;
    use std::collections::BTreeSet;

    fn node(name: &str, cidr: Option<&str>) -> Node {
        object(
            json!({ "metadata": { "name": name }, "spec": { "podCIDR": cidr, "podCIDRs": cidr.map(|cidr| [cidr]) } }),
        )
    }

    fn start(api: FakeTransport) -> Bench {
        let config = ControllersConfig {
            cluster_cidrs: vec!["10.128.0.0/16".parse().unwrap(), "fd00::/56".parse().unwrap()],
            ..Default::default()
        };
        Bench::start(api, config, |context| vec![super::controller(context)])
    }

    fn cidrs(api: &FakeTransport) -> Vec<String> {
        api.all::<Node>()
            .iter()
            .filter_map(|node| node.spec.as_ref()?.pod_cidr.clone())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_get_distinct_ranges_and_keep_what_they_have() {
        let api = FakeTransport::new();
        api.put(&node("old", Some("10.128.1.0/24")));
        for number in 0..20 {
            api.put(&node(&format!("n{number}"), None));
        }
        let bench = start(api);
        bench.until("all have one", |api| cidrs(api).len() == 21).await;
        let all: BTreeSet<_> = cidrs(&bench.api).into_iter().collect();
        assert_eq!(all.len(), 21);
        assert!(all.contains("10.128.0.0/24") && all.contains("10.128.20.0/24"));
        let first = bench
            .api
            .get::<Node>(&ObjectKey::cluster("n1"))
            .unwrap()
            .spec
            .unwrap();
        assert_eq!(first.pod_cidrs.as_ref().unwrap()[0], first.pod_cidr.unwrap());
        assert_eq!(first.pod_cidrs.unwrap().len(), 2, "one range of each family");
        let api = bench.api.clone();
        bench.stop().await;
        // A restart: nothing moves, the range of a node that is gone is given again.
        api.remove::<Node>(&ObjectKey::cluster("old"));
        api.put(&node("new", None));
        let bench = start(api);
        bench
            .until("the new one has it", |api| cidrs(api).len() == 21)
            .await;
        let again: BTreeSet<_> = cidrs(&bench.api).into_iter().collect();
        assert_eq!(again, all);
        bench.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_is_tried_again() {
        let api = FakeTransport::new();
        api.fail_matching(1, ApiError::service_unavailable("later"), |request| {
            matches!(request.verb, skep_client::Verb::Patch(_))
        });
        api.put(&node("n", None));
        let bench = start(api);
        bench
            .until("it has a range", |api| cidrs(api) == ["10.128.0.0/24"])
            .await;
        assert_eq!(
            bench.api.get::<Node>(&ObjectKey::cluster("n")).unwrap().name(),
            "n"
        );
        bench.stop().await;
    }
}

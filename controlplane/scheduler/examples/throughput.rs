//! Prints how many pods a second the cycle places: `cargo run --release -p skep-scheduler --example throughput
//! [NODES] [PODS]`. Only the decisions are measured, not the API that they are written to.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, Pod};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use skep_scheduler::{Cache, Cycle, Framework, PodInfo, Siblings};

fn argument(n: usize, default: usize) -> usize {
    std::env::args()
        .nth(n)
        .map_or(default, |text| text.parse().expect("arguments are numbers"))
}

fn main() {
    let (nodes, pods) = (argument(1, 1000), argument(2, 30_000));
    let mut cache = Cache::new();
    for i in 0..nodes {
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": format!("node{i:05}"), "labels": { "kubernetes.io/hostname": format!("node{i}") } },
            "status": { "allocatable": { "cpu": "16", "memory": "64Gi", "pods": "110" } },
        }))
        .expect("this is a node");
        cache.set_node(Arc::new(node));
    }
    let pods: Vec<Arc<PodInfo>> = (0..pods)
        .map(|i| {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": { "name": format!("pod{i}"), "namespace": "bench", "uid": format!("u{i}"),
                    "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r",
                        "uid": format!("rs{}", i / 50), "controller": true }] },
                "spec": { "containers": [{ "name": "c",
                    "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } } }] },
            }))
            .expect("this is a pod");
            Arc::new(PodInfo::new(Arc::new(pod)))
        })
        .collect();

    let framework = Framework::default();
    let mut rng = StdRng::seed_from_u64(1);
    let mut placed = 0usize;
    let began = Instant::now();
    for pod in &pods {
        let siblings = pod.owner.clone().map_or(Siblings::None, Siblings::OfOwner);
        let chosen = framework.schedule(&Cycle { pod, siblings }, &cache, &mut rng);
        if let Ok(node) = chosen.map(|node| node.name().to_owned()) {
            cache.assume(Arc::clone(pod), &node);
            placed += 1;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{placed} of {} pods on {nodes} nodes in {seconds:.2} s: {:.0} pods/s",
        pods.len(),
        pods.len() as f64 / seconds
    );
}

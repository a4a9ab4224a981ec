//! The loop, with the ReplicaSet controller beneath it, against an API in memory.

use crate::testing::{Bench, object};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use skep_api::{ObjectExt, ObjectKey};
use skep_client::testing::FakeTransport;
use std::time::Duration;

fn key() -> ObjectKey {
    ObjectKey::new("d", "web")
}

fn deployment(strategy: &str) -> Deployment {
    object(json!({
        "metadata": { "name": "web", "namespace": "d", "generation": 1 },
        "spec": { "replicas": 3, "selector": { "matchLabels": { "app": "web" } },
            "strategy": { "type": strategy }, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "template": { "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "v1" }] } } }
    }))
}

fn start(strategy: &str) -> Bench {
    let api = FakeTransport::new();
    api.put(&deployment(strategy));
    Bench::start(api, Default::default(), |context| {
        vec![super::controller(context), crate::replicaset::controller(context)]
    })
}

fn get(api: &FakeTransport) -> Deployment {
    api.get(&key()).unwrap()
}

/// As `kubectl rollout status` decides.
fn is_rolled_out(api: &FakeTransport) -> bool {
    let deployment = get(api);
    let status = deployment.status.unwrap_or_default();
    status.observed_generation == deployment.metadata.generation
        && status.updated_replicas == deployment.spec.replicas
        && status.replicas == status.updated_replicas
        && status.available_replicas == status.updated_replicas
}

fn set_image(bench: &Bench, image: &str) {
    let mut deployment = get(&bench.api);
    deployment.spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    *deployment.metadata.generation.get_or_insert(1) += 1;
    bench.api.put(&deployment);
}

async fn rolled_out(bench: &Bench) {
    bench
        .until("rolled out", |api| {
            bench.play_kubelet();
            is_rolled_out(api)
        })
        .await;
}

fn revision(api: &FakeTransport) -> String {
    get(api).annotations()["deployment.kubernetes.io/revision"].clone()
}

#[tokio::test(start_paused = true)]
async fn rolls_out_undoes_and_cleans_up() {
    let bench = start("RollingUpdate");
    rolled_out(&bench).await;
    assert_eq!(revision(&bench.api), "1");
    set_image(&bench, "v2");
    rolled_out(&bench).await;
    assert_eq!(revision(&bench.api), "2");
    set_image(&bench, "v1");
    rolled_out(&bench).await;
    bench
        .until("undone is revision 3", |api| revision(api) == "3")
        .await;
    let sets = bench.api.all::<ReplicaSet>();
    assert_eq!(sets.len(), 2, "the old ReplicaSet is used again");
    let mut sizes: Vec<_> = sets.iter().map(|set| set.spec.replicas.unwrap()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 3]);
    assert_eq!(bench.api.all::<Pod>().len(), 3);
    bench.settle(Duration::from_secs(3)).await;
    let events = bench.events();
    assert!(
        events
            .iter()
            .any(|event| event.starts_with("ScalingReplicaSet: Scaled up replica set web-"))
    );
    assert!(events.iter().any(|event| event.ends_with("from 1 to 0")));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn recreate_never_runs_two_templates_at_once() {
    let bench = start("Recreate");
    rolled_out(&bench).await;
    set_image(&bench, "v2");
    bench
        .until("rolled out", |api| {
            let pods = api.all::<Pod>();
            let mut images: Vec<_> = pods
                .iter()
                .map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone())
                .collect();
            images.dedup();
            assert!(images.len() <= 1, "{images:?}");
            bench.play_kubelet();
            is_rolled_out(api)
        })
        .await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_settled_deployment_writes_nothing() {
    let bench = start("RollingUpdate");
    rolled_out(&bench).await;
    bench.settle(Duration::from_secs(10)).await;
    let before = bench.api.writes().len();
    bench.settle(Duration::from_secs(3600)).await;
    assert_eq!(
        bench.api.writes().len(),
        before,
        "{:?}",
        &bench.api.writes()[before..]
    );
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_collision_is_counted_around() {
    let bench = start("RollingUpdate");
    rolled_out(&bench).await;
    // Another owner takes the name that the next template would get.
    let mut next = get(&bench.api);
    next.spec.template.spec.as_mut().unwrap().containers[0].image = Some("v2".to_owned());
    let hash = super::hash::template_hash(&next.spec.template, None);
    let mut taken: ReplicaSet = bench.api.all::<ReplicaSet>()[0].clone();
    taken.metadata.name = Some(format!("web-{hash}"));
    taken.metadata.uid = None;
    taken.metadata.owner_references.as_mut().unwrap()[0].uid = "someone".to_owned();
    taken.spec.replicas = Some(0);
    bench.api.put(&taken);
    set_image(&bench, "v2");
    rolled_out(&bench).await;
    assert_eq!(get(&bench.api).status.unwrap().collision_count, Some(1));
    bench.stop().await;
}

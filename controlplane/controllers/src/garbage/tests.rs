//! The plan's table of cases, and the loop against an API in memory.

mod propagating;

use super::metadata::PartialObject;
use super::plan::{Owner, Verdict, plan};
use crate::testing::{Bench, object};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use propagating::Propagating;
use serde_json::{Value, json};
use skep_api::{Object, ObjectExt, ObjectKey};
use skep_client::testing::FakeTransport;
use skep_client::{DeleteOptions, Propagation};
use std::time::Duration;

#[test]
fn the_owners_decide() {
    use Owner::{Absent, Solid, Waiting};
    let with = |finalizers: &[&str], owners: usize| -> PartialObject {
        let owners: Vec<_> = (0..owners)
            .map(|uid| json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid.to_string() }))
            .collect();
        serde_json::from_value(json!({ "metadata": { "finalizers": finalizers, "ownerReferences": owners } }))
            .unwrap()
    };
    let delete = Verdict::Delete;
    for (finalizers, owners, dependents, expected) in [
        (&[][..], vec![], vec![], Verdict::Keep),
        (&[], vec![Solid], vec![], Verdict::Keep),
        (&[], vec![Absent], vec![], delete(Propagation::Background)),
        (
            &[],
            vec![Absent, Absent],
            vec![true],
            delete(Propagation::Background),
        ),
        (&["orphan"], vec![Absent], vec![], delete(Propagation::Orphan)),
        (
            &["foregroundDeletion"],
            vec![Absent],
            vec![],
            delete(Propagation::Foreground),
        ),
        (&[], vec![Waiting], vec![], delete(Propagation::Background)),
        (&[], vec![Waiting], vec![false], delete(Propagation::Foreground)),
        (
            &[],
            vec![Waiting, Absent],
            vec![false, true],
            Verdict::UnblockAndDelete,
        ),
    ] {
        assert_eq!(
            plan(&with(finalizers, owners.len()), &owners, &dependents),
            expected,
            "{owners:?}"
        );
    }
    let three = with(&[], 3);
    let Verdict::KeepReferences(kept) = plan(&three, &[Absent, Solid, Waiting], &[]) else {
        panic!("one owner is left");
    };
    assert_eq!(kept, [three.owners()[1].clone()]);
}

fn owned<K: Object>(name: &str, owner: Option<(&str, &str, &str)>) -> K {
    let reference = owner.map(|(kind, name, uid)| {
        let group = if kind == "Pod" || kind == "ConfigMap" || kind == "Node" { "v1" } else { "apps/v1" };
        json!([{ "apiVersion": group, "kind": kind, "name": name, "uid": uid, "blockOwnerDeletion": true, "controller": true }])
    });
    let spec = match K::KIND {
        "ReplicaSet" | "Deployment" => json!({ "selector": {}, "template": {} }),
        "Pod" => json!({ "containers": [] }),
        _ => Value::Null,
    };
    object(
        json!({ "metadata": { "name": name, "namespace": "d", "uid": name, "ownerReferences": reference },
        "spec": spec }),
    )
}

/// Deployment web, its ReplicaSet rs, its pods a and b.
fn tree() -> FakeTransport {
    let api = FakeTransport::new();
    api.put(&owned::<Deployment>("web", None));
    api.put(&owned::<ReplicaSet>("rs", Some(("Deployment", "web", "web"))));
    for name in ["a", "b"] {
        api.put(&owned::<Pod>(name, Some(("ReplicaSet", "rs", "rs"))));
    }
    api
}

fn start(api: FakeTransport) -> Bench {
    let client = Propagating::client(&api);
    Bench::with_client(api, client, Default::default(), |context| {
        vec![super::controller(context)]
    })
}

async fn delete(bench: &Bench, propagation: Propagation) {
    let options = DeleteOptions {
        propagation_policy: Some(propagation),
        ..Default::default()
    };
    bench.settle(Duration::from_secs(1)).await;
    Propagating::client(&bench.api)
        .delete::<Deployment>(&ObjectKey::new("d", "web"), &options)
        .await
        .unwrap();
}

fn is_empty(api: &FakeTransport) -> bool {
    api.all::<Deployment>().is_empty() && api.all::<ReplicaSet>().is_empty() && api.all::<Pod>().is_empty()
}

#[tokio::test(start_paused = true)]
async fn background_deletion_takes_the_whole_tree() {
    let bench = start(tree());
    bench.settle(Duration::from_secs(1)).await;
    assert_eq!(
        bench.api.writes(),
        Vec::<String>::new(),
        "a whole tree is left alone"
    );
    delete(&bench, Propagation::Background).await;
    bench.until("all gone", is_empty).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn foreground_deletion_goes_from_the_leaves() {
    let bench = start(tree());
    // A pod that takes its time.
    let mut slow = bench.api.get::<Pod>(&ObjectKey::new("d", "a")).unwrap();
    slow.metadata.finalizers = Some(vec!["x/y".to_owned()]);
    bench.api.put(&slow);
    delete(&bench, Propagation::Foreground).await;
    bench
        .until("the other pod goes", |api| api.all::<Pod>().len() == 1)
        .await;
    bench.settle(Duration::from_secs(2)).await;
    assert_eq!(
        (
            bench.api.all::<Deployment>().len(),
            bench.api.all::<ReplicaSet>().len()
        ),
        (1, 1),
        "owners wait"
    );
    bench.api.remove::<Pod>(&ObjectKey::new("d", "a"));
    bench.until("then all gone", is_empty).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn orphaned_dependents_stay_without_owner() {
    let bench = start(tree());
    delete(&bench, Propagation::Orphan).await;
    bench
        .until("the owner goes", |api| api.all::<Deployment>().is_empty())
        .await;
    bench.settle(Duration::from_secs(2)).await;
    let set = bench.api.get::<ReplicaSet>(&ObjectKey::new("d", "rs")).unwrap();
    assert!(set.metadata.owner_references.unwrap_or_default().is_empty());
    assert_eq!(bench.api.all::<Pod>().len(), 2);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn absent_owners_count_by_uid_and_present_ones_keep() {
    let api = FakeTransport::new();
    api.put(&owned::<ConfigMap>("owner", None));
    api.put(&owned::<ConfigMap>("kept", Some(("ConfigMap", "owner", "owner"))));
    api.put(&owned::<ConfigMap>(
        "successor",
        Some(("ConfigMap", "owner", "another")),
    ));
    api.put(&owned::<ConfigMap>("lost", Some(("ConfigMap", "none", "none"))));
    api.put(&owned::<ConfigMap>("unknown", Some(("Widget", "w", "w"))));
    let mut two = owned::<ConfigMap>("two", Some(("ConfigMap", "owner", "owner")));
    let mut gone = two.metadata.owner_references.clone().unwrap().remove(0);
    (gone.name, gone.uid, gone.controller) = ("none".to_owned(), "none".to_owned(), None);
    two.metadata.owner_references.as_mut().unwrap().push(gone);
    api.put(&two);
    let bench = start(api);
    let names = |api: &FakeTransport| -> Vec<String> {
        api.all::<ConfigMap>()
            .iter()
            .map(|map| map.name().to_owned())
            .collect()
    };
    bench
        .until("the lost go", |api| {
            names(api) == ["kept", "owner", "two", "unknown"]
        })
        .await;
    let references = |api: &FakeTransport| {
        api.get::<ConfigMap>(&ObjectKey::new("d", "two"))
            .unwrap()
            .metadata
            .owner_references
            .unwrap()
            .len()
    };
    bench
        .until("and their references", |api| references(api) == 1)
        .await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_of_the_cluster_is_never_judged_by_an_owner_in_a_namespace() {
    let api = FakeTransport::new();
    let mut node = owned::<Node>("n", Some(("ConfigMap", "none", "none")));
    node.metadata.namespace = None;
    api.put(&node);
    let bench = start(api);
    bench.settle(Duration::from_secs(30)).await;
    assert_eq!(bench.api.all::<Node>().len(), 1);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn owners_in_a_circle_do_not_wait_for_each_other() {
    let api = FakeTransport::new();
    api.put(&owned::<ConfigMap>("a", Some(("ConfigMap", "b", "b"))));
    api.put(&owned::<ConfigMap>("b", Some(("ConfigMap", "a", "a"))));
    let bench = start(api);
    bench.settle(Duration::from_secs(1)).await;
    let options = DeleteOptions {
        propagation_policy: Some(Propagation::Foreground),
        ..Default::default()
    };
    Propagating::client(&bench.api)
        .delete::<ConfigMap>(&ObjectKey::new("d", "a"), &options)
        .await
        .unwrap();
    bench
        .until("both go", |api| api.all::<ConfigMap>().is_empty())
        .await;
    bench.stop().await;
}

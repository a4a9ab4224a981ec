use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::json;

use super::*;
use crate::{DeleteOptions, ListOptions, Patch, WatchEvent, WatchOptions};
use futures::StreamExt;

fn key(name: &str) -> ObjectKey {
    ObjectKey {
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

fn object<K: Object>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str, node: Option<&str>) -> Pod {
    object(json!({
        "metadata": { "name": name, "namespace": "default", "labels": { "app": name } },
        "spec": { "containers": [], "nodeName": node },
    }))
}

async fn seen(events: &mut crate::WatchStream<Pod>) -> String {
    match events.next().await {
        None => "end".to_owned(),
        Some(Err(error)) => format!("! {}", error.message),
        Some(Ok(WatchEvent::Added(pod))) => format!("+ {}", pod.name()),
        Some(Ok(WatchEvent::Modified(pod))) => format!("~ {}", pod.name()),
        Some(Ok(WatchEvent::Deleted(pod))) => format!("- {} {}", pod.name(), pod.resource_version().unwrap()),
        Some(Ok(WatchEvent::Bookmark { revision, .. })) => format!("@ {revision}"),
    }
}

#[tokio::test]
async fn stale_updates_conflict_and_status_is_apart() {
    let fake = FakeTransport::new();
    let client = fake.client();
    let created = client.create(&pod("a", None)).await.unwrap();
    assert!(!created.uid().is_empty());
    assert!(
        client
            .create(&pod("a", None))
            .await
            .unwrap_err()
            .is_already_exists()
    );

    let mut changed: Pod = (*created).clone();
    changed
        .metadata
        .labels
        .get_or_insert_default()
        .insert("x".to_owned(), "y".to_owned());
    changed.status.get_or_insert_default().phase = Some("Running".to_owned());
    let updated = client.update(&changed).await.unwrap();
    assert_eq!(updated.status, None);
    assert!(client.update(&changed).await.unwrap_err().is_conflict());

    let patch =
        Patch::strategic(&json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }));
    client
        .patch_status::<Pod>(&key("a"), &patch.unwrap())
        .await
        .unwrap();
    let patch =
        Patch::strategic(&json!({ "status": { "conditions": [{ "type": "Other", "status": "False" }] } }));
    let patched = client
        .patch_status::<Pod>(&key("a"), &patch.unwrap())
        .await
        .unwrap();
    assert_eq!(
        patched
            .status
            .as_ref()
            .unwrap()
            .conditions
            .as_ref()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(patched.labels()["x"], "y");
    assert_eq!(patched.metadata.generation, Some(1));
}

#[tokio::test]
async fn a_pod_that_runs_is_deleted_gracefully() {
    let fake = FakeTransport::new();
    let client = fake.client();
    client.create(&pod("a", Some("node1"))).await.unwrap();
    client.create(&pod("b", None)).await.unwrap();
    for name in ["a", "b"] {
        client
            .delete::<Pod>(&key(name), &DeleteOptions::default())
            .await
            .unwrap();
    }
    assert!(fake.get::<Pod>(&key("b")).is_none());
    let left = fake.get::<Pod>(&key("a")).unwrap();
    assert!(left.is_terminating());
    assert_eq!(left.metadata.deletion_grace_period_seconds, Some(30));
    let wrong = DeleteOptions::now().with_uid("another");
    assert!(
        client
            .delete::<Pod>(&key("a"), &wrong)
            .await
            .unwrap_err()
            .is_conflict()
    );
    client
        .delete::<Pod>(&key("a"), &DeleteOptions::now())
        .await
        .unwrap();
    assert!(fake.get::<Pod>(&key("a")).is_none());
}

#[tokio::test]
async fn a_finalizer_holds_an_object_back() {
    let fake = FakeTransport::new();
    let client = fake.client();
    let map: ConfigMap = object(json!({
        "metadata": { "name": "a", "namespace": "default", "finalizers": ["test/hold"] }
    }));
    client.create(&map).await.unwrap();
    let left = client
        .delete::<ConfigMap>(&key("a"), &DeleteOptions::default())
        .await
        .unwrap()
        .unwrap();
    assert!(left.is_terminating());
    let patch = Patch::merge(&json!({ "metadata": { "finalizers": null } })).unwrap();
    client.patch::<ConfigMap>(&key("a"), &patch).await.unwrap();
    assert!(fake.get::<ConfigMap>(&key("a")).is_none());
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let fake = FakeTransport::new();
    let client = fake.client();
    let uid = client.create(&pod("a", None)).await.unwrap().uid().to_owned();
    assert!(
        client
            .bind_pod(&key("a"), Some("another"), "node1")
            .await
            .unwrap_err()
            .is_conflict()
    );
    client.bind_pod(&key("a"), Some(&uid), "node1").await.unwrap();
    assert!(
        client
            .bind_pod(&key("a"), Some(&uid), "node2")
            .await
            .unwrap_err()
            .is_conflict()
    );
    let bound = fake.get::<Pod>(&key("a")).unwrap();
    assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("node1"));
    assert_eq!(bound.status.unwrap().conditions.unwrap()[0].type_, "PodScheduled");
}

#[tokio::test]
async fn watch_replays_history_and_follows_the_selector() {
    let fake = FakeTransport::new();
    let client = fake.client();
    let from = fake.revision();
    client.create(&pod("a", None)).await.unwrap();
    client.create(&pod("b", None)).await.unwrap();
    let options = WatchOptions {
        label_selector: Some("app=a".to_owned()),
        resource_version: Some(from),
        bookmarks: true,
        ..WatchOptions::default()
    };
    let mut events = client.watch::<Pod>(None, &options).await.unwrap();
    assert_eq!(seen(&mut events).await, "+ a");
    let relabel = |app: &str| Patch::merge(&json!({ "metadata": { "labels": { "app": app } } })).unwrap();
    client.patch::<Pod>(&key("a"), &relabel("z")).await.unwrap();
    assert_eq!(seen(&mut events).await, "- a 4");
    client.patch::<Pod>(&key("b"), &relabel("a")).await.unwrap();
    assert_eq!(seen(&mut events).await, "+ b");
    client
        .delete::<Pod>(&key("b"), &DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(seen(&mut events).await, "- b 6");
    fake.send_bookmarks();
    assert_eq!(seen(&mut events).await, "@ 6");
    fake.break_watches(ApiError::connection("cut"));
    assert_eq!(seen(&mut events).await, "! cut");
    assert_eq!(seen(&mut events).await, "end");

    fake.compact();
    let Err(error) = client.watch::<Pod>(None, &options).await else {
        panic!("too old to watch")
    };
    assert!(error.is_gone());
}

#[tokio::test]
async fn lists_are_paged_at_one_revision() {
    let fake = FakeTransport::new();
    let client = fake.client();
    for name in ["a", "b", "c"] {
        client.create(&pod(name, None)).await.unwrap();
    }
    let mut options = ListOptions {
        limit: Some(2),
        ..ListOptions::default()
    };
    let first = client.list::<Pod>(Some("default"), &options).await.unwrap();
    client.create(&pod("d", None)).await.unwrap();
    options.continue_token = first.continue_token;
    let second = client.list::<Pod>(Some("default"), &options).await.unwrap();
    assert_eq!((first.items.len(), second.items.len()), (2, 1));
    assert_eq!(first.revision, second.revision);
    assert_eq!(second.continue_token, None);
    assert!(client.list::<Pod>(None, &options).await.unwrap_err().is_gone());
    let fields = ListOptions::fields("metadata.name!=a");
    assert_eq!(client.list::<Pod>(None, &fields).await.unwrap().items.len(), 3);
}

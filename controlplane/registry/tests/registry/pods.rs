//! Pods: binding and deletion; workloads: scale.

use futures::StreamExt;
use serde_json::json;
use skep_api::k8s_openapi::api::apps::v1::Deployment;
use skep_api::k8s_openapi::api::autoscaling::v1::Scale;
use skep_api::k8s_openapi::api::core::v1::{Binding, Pod};
use skep_api::{FieldSelector, ObjectExt, ObjectKey, Subresource, gvr_of};
use skep_registry::{
    DeleteOptions, GetOptions, Patch, PatchKind, Scope, WatchEvent, WatchOptions, WriteOptions,
};

use crate::harness::Harness;

fn pod(name: &str) -> serde_json::Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}})
}

async fn bind(harness: &Harness, name: &str, node: &str) -> Result<(), skep_api::ApiError> {
    let binding: Binding =
        serde_json::from_value(json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}))
            .unwrap();
    harness
        .registry
        .bind("default", name, binding, &WriteOptions::default())
        .await
}

#[tokio::test]
async fn pods_are_bound_once() {
    let harness = Harness::new().await;
    harness.create_as::<Pod>("default", pod("a")).await.unwrap();
    bind(&harness, "a", "n1").await.unwrap();
    let bound = harness
        .get::<Pod>("default", "a")
        .await
        .unwrap()
        .typed::<Pod>()
        .unwrap();
    assert_eq!(bound.spec.as_ref().unwrap().node_name.as_deref(), Some("n1"));
    let conditions = bound.status.as_ref().unwrap().conditions.as_ref().unwrap();
    assert!(
        conditions
            .iter()
            .any(|condition| condition.type_ == "PodScheduled" && condition.status == "True")
    );
    let error = bind(&harness, "a", "n2").await.unwrap_err();
    assert!(error.is_conflict());
    assert!(
        error
            .message
            .contains(r#"pod a is already assigned to node "n1""#),
        "{error}"
    );
    assert!(bind(&harness, "missing", "n1").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn scheduled_pods_end_gracefully_and_others_at_once() {
    let harness = Harness::new().await;
    for name in ["unscheduled", "scheduled"] {
        harness.create_as::<Pod>("default", pod(name)).await.unwrap();
    }
    assert!(
        harness
            .delete::<Pod>("default", "unscheduled")
            .await
            .unwrap()
            .gone
    );
    bind(&harness, "scheduled", "n1").await.unwrap();
    let ending = harness.delete::<Pod>("default", "scheduled").await.unwrap();
    let object = ending.object.typed::<Pod>().unwrap();
    assert!(!ending.gone && object.is_terminating());
    assert_eq!(object.metadata.deletion_grace_period_seconds, Some(30));
    assert!(!harness.delete::<Pod>("default", "scheduled").await.unwrap().gone);
    let key = ObjectKey::new("default", "scheduled");
    let now = DeleteOptions {
        grace_period_seconds: Some(0),
        uid: Some("other".into()),
        ..DeleteOptions::default()
    };
    assert!(
        harness
            .registry
            .delete(&gvr_of::<Pod>(), &key, &now)
            .await
            .unwrap_err()
            .is_conflict()
    );
    let now = DeleteOptions {
        uid: Some(object.uid().to_owned()),
        ..now
    };
    assert!(
        harness
            .registry
            .delete(&gvr_of::<Pod>(), &key, &now)
            .await
            .unwrap()
            .gone
    );
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let harness = Harness::new().await;
    harness.create_as::<Pod>("default", pod("a")).await.unwrap();
    let key = ObjectKey::new("default", "a");
    let body = br#"{"status":{"phase":"Running"},"spec":{"nodeName":"sneaky"}}"#;
    let patch = Patch {
        kind: PatchKind::Strategic,
        body: bytes::Bytes::from_static(body),
    };
    let written = harness
        .registry
        .patch(
            &gvr_of::<Pod>(),
            &key,
            Some(Subresource::Status),
            patch,
            &WriteOptions::default(),
        )
        .await
        .unwrap();
    let object = written.object.typed::<Pod>().unwrap();
    assert_eq!(object.status.as_ref().unwrap().phase.as_deref(), Some("Running"));
    assert_eq!(object.spec.as_ref().unwrap().node_name, None);
    assert_eq!(object.metadata.generation, Some(1));
}

#[tokio::test]
async fn only_a_binding_gives_a_pod_its_node() {
    let harness = Harness::new().await;
    harness.create_as::<Pod>("default", pod("a")).await.unwrap();
    let body = json!({"spec": {"nodeName": "n1"}});
    let error = harness
        .patch::<Pod>("default", "a", PatchKind::Merge, body)
        .await
        .unwrap_err();
    assert!(error.is_invalid(), "{error}");
    assert!(
        error
            .message
            .contains("pod updates may not change fields other than"),
        "{error}"
    );
    bind(&harness, "a", "n1").await.unwrap();
}

#[tokio::test]
async fn a_nodes_pods_are_known_as_soon_as_they_are_seen() {
    let harness = Harness::new().await;
    let on = |node: &str| {
        let mut names: Vec<String> = harness
            .registry
            .pods_on_node(node)
            .iter()
            .map(|pod| pod.name().to_owned())
            .collect();
        names.sort_unstable();
        names
    };
    let options = WatchOptions {
        fields: FieldSelector::equals("spec.nodeName", "n1"),
        ..WatchOptions::default()
    };
    let mut watch = harness
        .registry
        .watch(&gvr_of::<Pod>(), &Scope::All, &options)
        .await
        .unwrap();
    for name in ["a", "b", "elsewhere"] {
        harness.create_as::<Pod>("default", pod(name)).await.unwrap();
    }
    assert!(on("n1").is_empty());
    bind(&harness, "elsewhere", "n2").await.unwrap();
    for (name, expected) in [("a", vec!["a"]), ("b", vec!["a", "b"])] {
        bind(&harness, name, "n1").await.unwrap();
        while !matches!(watch.next().await.unwrap().unwrap(), WatchEvent::Added(pod) if pod.key().name == name)
        {
        }
        assert_eq!(on("n1"), expected);
    }
    let now = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    let key = ObjectKey::new("default", "a");
    harness
        .registry
        .delete(&gvr_of::<Pod>(), &key, &now)
        .await
        .unwrap();
    while !matches!(watch.next().await.unwrap().unwrap(), WatchEvent::Deleted(_)) {}
    assert_eq!(
        (on("n1"), on("n2")),
        (vec!["b".to_owned()], vec!["elsewhere".to_owned()])
    );
}

#[tokio::test]
async fn priorities_are_their_classes() {
    let harness = Harness::new().await;
    let create = async |name: &str, more: serde_json::Value| {
        let mut pod = pod(name);
        for (field, value) in more.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        harness.create_as::<Pod>("default", pod).await
    };
    let critical = create("a", json!({"priorityClassName": "system-node-critical"}))
        .await
        .unwrap();
    let spec = critical.object.typed::<Pod>().unwrap().spec.clone().unwrap();
    assert_eq!(spec.priority, Some(2_000_001_000));
    create("b", json!({"priority": 0})).await.unwrap();
    for (more, why) in [
        (
            json!({"priorityClassName": "mine"}),
            "no PriorityClass with name mine was found",
        ),
        (
            json!({"priority": 5}),
            "the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name",
        ),
        (
            json!({"preemptionPolicy": "Never"}),
            "the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name",
        ),
    ] {
        let error = create("c", more).await.unwrap_err();
        assert!(error.is_forbidden());
        assert_eq!(error.message, format!("pods \"c\" is forbidden: {why}"));
    }
}

fn deployment() -> serde_json::Value {
    json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}}})
}

#[tokio::test]
async fn scale_reads_and_writes_replicas() {
    let harness = Harness::new().await;
    harness
        .create_as::<Deployment>("default", deployment())
        .await
        .unwrap();
    let gvr = gvr_of::<Deployment>();
    let key = ObjectKey::new("default", "web");
    let options = GetOptions::default();
    let scale = harness
        .registry
        .get_subresource(&gvr, &key, Subresource::Scale, &options)
        .await
        .unwrap();
    let mut scale: Scale = serde_json::from_slice(&scale.json()).unwrap();
    assert_eq!(
        scale.status.as_ref().unwrap().selector.as_deref(),
        Some("app=web")
    );
    scale.spec.as_mut().unwrap().replicas = Some(4);
    let stale = scale.clone();
    let write = WriteOptions::default();
    let subresource = Some(Subresource::Scale);
    let body = serde_json::to_value(&scale).unwrap();
    let written = harness
        .registry
        .update(&gvr, &key, subresource, body.into(), &write)
        .await
        .unwrap();
    assert_eq!(
        written
            .object
            .typed::<Scale>()
            .unwrap()
            .spec
            .as_ref()
            .unwrap()
            .replicas,
        Some(4)
    );
    let body = serde_json::to_value(&stale).unwrap();
    let mut body_other = body.clone();
    body_other["spec"]["replicas"] = json!(9);
    let error = harness
        .registry
        .update(&gvr, &key, subresource, body_other.into(), &write)
        .await
        .unwrap_err();
    assert!(error.is_conflict());
    let patch = Patch {
        kind: PatchKind::Merge,
        body: bytes::Bytes::from_static(br#"{"spec":{"replicas":0}}"#),
    };
    harness
        .registry
        .patch(&gvr, &key, subresource, patch, &write)
        .await
        .unwrap();
    let object = harness
        .get::<Deployment>("default", "web")
        .await
        .unwrap()
        .typed::<Deployment>()
        .unwrap();
    assert_eq!(
        (object.spec.replicas, object.metadata.generation),
        (Some(0), Some(3))
    );
}

#[tokio::test]
async fn applied_patches_merge_containers_by_name() {
    let harness = Harness::new().await;
    harness
        .create_as::<Deployment>("default", deployment())
        .await
        .unwrap();
    let body = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:2"}, {"name": "d", "image": "x:1"}]}}}});
    let written = harness
        .patch::<Deployment>("default", "web", PatchKind::Strategic, body)
        .await
        .unwrap();
    let object = written.object.typed::<Deployment>().unwrap();
    let containers = &object.spec.template.spec.as_ref().unwrap().containers;
    let images: Vec<&str> = containers
        .iter()
        .filter_map(|container| container.image.as_deref())
        .collect();
    assert_eq!(images, ["nginx:2", "x:1"]);
    let wrong = json!({"spec": {"replicas": -1}});
    let error = harness
        .patch::<Deployment>("default", "web", PatchKind::Merge, wrong)
        .await
        .unwrap_err();
    assert_eq!(error.code, 422);
    assert_eq!(
        error.message,
        r#"Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"#
    );
}

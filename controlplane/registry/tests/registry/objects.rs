//! What writes do to objects, over the embedded store.

use crate::harness::{Harness, config, config_map};
use serde_json::{Value, json};
use skep_api::k8s_openapi::api::apps::v1::Deployment;
use skep_api::k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod};
use skep_api::{ObjectExt, ObjectKey, Reason, gvr_of};
use skep_registry::{DeleteOptions, FieldValidation, Patch, PatchKind, RegistryConfig, WriteOptions};
use std::time::Duration;

#[tokio::test]
async fn create_gives_identity_and_get_sees_it() {
    let harness = Harness::new().await;
    let created = harness.create("default", config_map("a", "1")).await.unwrap();
    let object = created.object.typed::<ConfigMap>().unwrap();
    assert!(created.created && !object.uid().is_empty() && object.metadata.creation_timestamp.is_some());
    assert_eq!(object.resource_version(), Some(created.object.revision()));
    let got = harness.get::<ConfigMap>("default", "a").await.unwrap();
    assert_eq!(got.json(), created.object.json());
    let again = harness.create("default", config_map("a", "1")).await.unwrap_err();
    assert_eq!(
        (again.code, again.message.as_str()),
        (409, r#"configmaps "a" already exists"#)
    );
}

#[tokio::test]
async fn generated_names_differ() {
    let harness = Harness::new().await;
    let object = json!({"metadata": {"generateName": "x-"}});
    let one = harness
        .create_as::<ConfigMap>("default", object.clone())
        .await
        .unwrap();
    let two = harness.create_as::<ConfigMap>("default", object).await.unwrap();
    assert!(one.object.key().name.starts_with("x-") && one.object.key() != two.object.key());
}

#[tokio::test]
async fn stale_updates_conflict_and_unchanged_ones_write_nothing() {
    let harness = Harness::new().await;
    let first = harness
        .create("default", config_map("a", "1"))
        .await
        .unwrap()
        .object;
    let second = harness
        .update("default", "a", config_map("a", "2"))
        .await
        .unwrap()
        .object;
    assert!(second.revision() > first.revision() && second.uid() == first.uid());
    let mut stale = config_map("a", "3");
    stale["metadata"]["resourceVersion"] = json!(first.revision().to_string());
    let error = harness.update("default", "a", stale.clone()).await.unwrap_err();
    assert!(
        error.is_conflict() && error.message.contains("the object has been modified"),
        "{error}"
    );
    let same = harness
        .update("default", "a", config_map("a", "2"))
        .await
        .unwrap()
        .object;
    assert_eq!(same.revision(), second.revision());
    stale["metadata"]["uid"] = json!("other");
    assert!(
        harness
            .update("default", "a", stale)
            .await
            .unwrap_err()
            .is_conflict()
    );
}

#[tokio::test]
async fn exactly_one_of_racing_writers_wins() {
    let harness = Harness::new().await;
    let revision = harness
        .create("default", config_map("a", "0"))
        .await
        .unwrap()
        .object
        .revision();
    let writers = (0..16).map(|writer| {
        let mut object = config_map("a", &format!("w{writer}"));
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        harness.update("default", "a", object)
    });
    let outcomes = futures::future::join_all(writers).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(
        outcomes
            .iter()
            .flat_map(|outcome| outcome.as_ref().err())
            .all(|error| error.is_conflict())
    );
}

#[tokio::test]
async fn racing_patches_all_land() {
    let harness = Harness::new().await;
    harness.create("default", config_map("a", "0")).await.unwrap();
    let patches = (0..16).map(|writer| {
        let body = json!({"data": {format!("k{writer}"): "v"}});
        harness.patch::<ConfigMap>("default", "a", PatchKind::Merge, body)
    });
    for outcome in futures::future::join_all(patches).await {
        outcome.unwrap();
    }
    let object = harness
        .get::<ConfigMap>("default", "a")
        .await
        .unwrap()
        .typed::<ConfigMap>()
        .unwrap();
    assert_eq!(object.data.as_ref().unwrap().len(), 17);
}

#[tokio::test]
async fn dry_runs_change_nothing() {
    let harness = Harness::new().await;
    let options = WriteOptions {
        dry_run: true,
        ..WriteOptions::default()
    };
    let gvr = gvr_of::<ConfigMap>();
    let dry = harness
        .registry
        .create(&gvr, "default", config_map("a", "1").into(), &options)
        .await
        .unwrap();
    assert_eq!(dry.object.key().name, "a");
    assert!(
        harness
            .get::<ConfigMap>("default", "a")
            .await
            .unwrap_err()
            .is_not_found()
    );
    harness.create("default", config_map("a", "1")).await.unwrap();
    let key = ObjectKey::new("default", "a");
    let delete = DeleteOptions {
        dry_run: true,
        ..DeleteOptions::default()
    };
    assert!(harness.registry.delete(&gvr, &key, &delete).await.unwrap().gone);
    harness.get::<ConfigMap>("default", "a").await.unwrap();
}

#[tokio::test]
async fn unknown_fields_are_refused_warned_of_or_ignored() {
    let harness = Harness::new().await;
    let gvr = gvr_of::<ConfigMap>();
    let object = r#"{"metadata":{"name":"a"},"dat":{},"data":{"a":"1","a":"2"}}"#;
    let create = async |field_validation| {
        let options = WriteOptions {
            field_validation,
            dry_run: true,
            ..WriteOptions::default()
        };
        let body = bytes::Bytes::from_static(object.as_bytes());
        harness
            .registry
            .create(&gvr, "default", body.into(), &options)
            .await
    };
    let error = create(FieldValidation::Strict).await.unwrap_err();
    assert_eq!(error.code, 400);
    assert!(
        error
            .message
            .ends_with(r#"strict decoding error: unknown field "dat", duplicate field "data.a""#),
        "{error}"
    );
    assert_eq!(
        create(FieldValidation::Warn).await.unwrap().warnings,
        [r#"unknown field "dat""#, r#"duplicate field "data.a""#]
    );
    assert!(create(FieldValidation::Ignore).await.unwrap().warnings.is_empty());
}

#[tokio::test]
async fn namespaces_must_exist_and_not_be_ending() {
    let harness = Harness::new().await;
    let error = harness.create("nowhere", config_map("a", "1")).await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (404, r#"namespaces "nowhere" not found"#)
    );
    harness
        .create_as::<Namespace>("", json!({"metadata": {"name": "ending"}}))
        .await
        .unwrap();
    let gvr = gvr_of::<Namespace>();
    let key = ObjectKey::cluster("ending");
    let deleted = harness
        .registry
        .delete(&gvr, &key, &DeleteOptions::default())
        .await
        .unwrap();
    let namespace = deleted.object.typed::<Namespace>().unwrap();
    assert!(!deleted.gone && namespace.is_terminating());
    assert_eq!(
        namespace.status.as_ref().unwrap().phase.as_deref(),
        Some("Terminating")
    );
    let error = harness.create("ending", config_map("a", "1")).await.unwrap_err();
    assert!(
        error.is_forbidden() && error.message.contains("because it is being terminated"),
        "{error}"
    );
    let mut body: Value = serde_json::from_slice(&deleted.object.json()).unwrap();
    body["spec"]["finalizers"] = json!([]);
    let finalize = Some(skep_api::Subresource::Finalize);
    let options = WriteOptions::default();
    harness
        .registry
        .update(&gvr, &key, finalize, body.into(), &options)
        .await
        .unwrap();
    assert!(
        harness
            .get::<Namespace>("", "ending")
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test]
async fn finalizers_hold_deletion_until_they_are_gone() {
    let harness = Harness::new().await;
    let mut object = config_map("a", "1");
    object["metadata"]["finalizers"] = json!(["x.y/z"]);
    harness.create("default", object).await.unwrap();
    let gvr = gvr_of::<ConfigMap>();
    let key = ObjectKey::new("default", "a");
    assert!(
        !harness
            .registry
            .delete(&gvr, &key, &DeleteOptions::default())
            .await
            .unwrap()
            .gone
    );
    let body = bytes::Bytes::from_static(br#"{"metadata":{"finalizers":null}}"#);
    let patch = Patch {
        kind: PatchKind::Merge,
        body,
    };
    harness
        .registry
        .patch(&gvr, &key, None, patch, &WriteOptions::default())
        .await
        .unwrap();
    assert!(
        harness
            .get::<ConfigMap>("default", "a")
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test]
async fn old_events_go_by_themselves() {
    let config = RegistryConfig {
        expiry_interval: Duration::from_millis(20),
        ..config()
    };
    let harness = Harness::with(config).await;
    let event = |name: &str, time: &str| {
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default", "creationTimestamp": time},
            "involvedObject": {"namespace": "default"}})
    };
    let fresh = harness
        .create_as::<Event>("default", event("fresh", "2020-01-01T00:00:00Z"))
        .await
        .unwrap();
    assert!(fresh.created);
    let old = event("old", "2020-01-01T00:00:00Z").to_string();
    harness
        .store
        .create("/registry/core/events/default/old", old.into())
        .await
        .unwrap();
    while harness.get::<Event>("default", "old").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    harness.get::<Event>("default", "fresh").await.unwrap();
}

#[tokio::test]
async fn bodies_of_other_kinds_are_refused_and_nulls_are_absences() {
    let harness = Harness::new().await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
    let error = harness.create("default", pod).await.unwrap_err();
    assert_eq!(error.code, 400);
    assert!(
        error
            .message
            .starts_with(r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: "#),
        "{error}"
    );
    let nulls = json!({"metadata": {"name": "a", "labels": null, "creationTimestamp": null}, "spec": {"containers": null}});
    let error = harness.create_as::<Pod>("default", nulls).await.unwrap_err();
    assert_eq!(
        error.message,
        r#"Pod "a" is invalid: spec.containers: Required value"#
    );
}

#[tokio::test]
async fn a_json_patch_does_not_blow_an_object_up() {
    let harness = Harness::new().await;
    let labels = json!({"app": "a"});
    let container = json!({"name": "c", "image": "i", "args": ["x".repeat(400_000)]});
    let deployment = json!({
        "metadata": {"name": "a"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        }
    });
    harness
        .create_as::<Deployment>("default", deployment)
        .await
        .unwrap();
    let patch = async |copies: usize| {
        let args = "/spec/template/spec/containers/0/args";
        let copy = json!({"op": "copy", "from": format!("{args}/0"), "path": format!("{args}/-")});
        let outcome = harness
            .patch::<Deployment>("default", "a", PatchKind::Json, Value::from(vec![copy; copies]))
            .await;
        outcome
            .map(|_written| ())
            .map_err(|error| (error.code, error.reason))
    };
    assert_eq!(patch(1).await, Ok(()));
    // More than an object may have, than a patch may copy, than it may have operations.
    assert_eq!(patch(4).await, Err((413, Reason::RequestEntityTooLarge)));
    assert_eq!(patch(8).await, Err((422, Reason::Invalid)));
    assert_eq!(patch(10_001).await, Err((413, Reason::RequestEntityTooLarge)));
}

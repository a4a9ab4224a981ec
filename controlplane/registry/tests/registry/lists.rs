//! What lists show, at which revision, in which pages.

use skep_api::k8s_openapi::api::core::v1::ConfigMap;
use skep_api::{FieldSelector, LabelSelector, Revision};
use skep_registry::{ListOptions, ObjectList, ReadVersion, RegistryConfig};

use crate::harness::{Harness, config, config_map};

fn names(list: &ObjectList) -> Vec<&str> {
    list.items
        .iter()
        .map(|object| object.key().name.as_str())
        .collect()
}

fn at(version: ReadVersion) -> ListOptions {
    ListOptions {
        version,
        ..ListOptions::default()
    }
}

#[tokio::test]
async fn exact_revisions_show_what_was() {
    let harness = Harness::new().await;
    let first = harness
        .create("default", config_map("a", "1"))
        .await
        .unwrap()
        .object
        .revision();
    let second = harness
        .create("default", config_map("b", "1"))
        .await
        .unwrap()
        .object
        .revision();
    harness.delete::<ConfigMap>("default", "a").await.unwrap();
    let exact = |revision| harness.list(at(ReadVersion::Exact(revision)));
    assert_eq!(names(&exact(first).await.unwrap()), ["a"]);
    let list = exact(second).await.unwrap();
    assert_eq!((names(&list), list.revision), (vec!["a", "b"], second));
    let latest = harness.list(ListOptions::default()).await.unwrap();
    assert_eq!(names(&latest), ["b"]);
    assert!(latest.revision > second);
}

#[tokio::test]
async fn old_revisions_come_from_the_stores_history() {
    let harness = Harness::with(RegistryConfig {
        history_events: 1,
        ..config()
    })
    .await;
    let first = harness
        .create("default", config_map("a", "1"))
        .await
        .unwrap()
        .object
        .revision();
    for value in 2..6 {
        harness
            .update("default", "a", config_map("a", &value.to_string()))
            .await
            .unwrap();
    }
    let list = harness.list(at(ReadVersion::Exact(first))).await.unwrap();
    let object = list.items[0].typed::<ConfigMap>().unwrap();
    assert_eq!(object.data.as_ref().unwrap()["value"], "1");
    assert_eq!(list.items[0].revision(), first);
}

#[tokio::test]
async fn compacted_revisions_are_gone() {
    let harness = Harness::with(RegistryConfig {
        history_events: 1,
        ..config()
    })
    .await;
    let first = harness
        .create("default", config_map("a", "1"))
        .await
        .unwrap()
        .object
        .revision();
    let mut last = first;
    for value in 2..6 {
        last = harness
            .update("default", "a", config_map("a", &value.to_string()))
            .await
            .unwrap()
            .object
            .revision();
    }
    harness.store.compact(last.0).await.unwrap();
    let error = harness.list(at(ReadVersion::Exact(first))).await.unwrap_err();
    assert!(error.is_gone(), "{error:?}");
}

#[tokio::test]
async fn future_revisions_time_out_by_name() {
    let harness = Harness::new().await;
    for version in [
        ReadVersion::NotOlderThan(Revision(9999)),
        ReadVersion::Exact(Revision(9999)),
    ] {
        let error = harness.list(at(version)).await.unwrap_err();
        assert!(
            error.code == 504 && error.is_too_large_resource_version(),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn pages_share_one_revision() {
    let harness = Harness::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        harness.create("default", config_map(name, "1")).await.unwrap();
    }
    let page = |continue_token| ListOptions {
        limit: Some(2),
        continue_token,
        ..ListOptions::default()
    };
    let first = harness.list(page(None)).await.unwrap();
    assert_eq!((names(&first), first.remaining), (vec!["a", "b"], Some(3)));
    harness.delete::<ConfigMap>("default", "c").await.unwrap();
    harness.create("default", config_map("bb", "1")).await.unwrap();
    let second = harness.list(page(first.continue_token)).await.unwrap();
    assert_eq!(
        (names(&second), second.revision, second.remaining),
        (vec!["c", "d"], first.revision, Some(1))
    );
    let third = harness.list(page(second.continue_token)).await.unwrap();
    assert_eq!(
        (names(&third), &third.continue_token, third.remaining),
        (vec!["e"], &None, None)
    );
}

#[tokio::test]
async fn expired_pages_offer_to_go_on_in_the_present() {
    let harness = Harness::with(RegistryConfig {
        history_events: 1,
        ..config()
    })
    .await;
    for name in ["a", "b", "c"] {
        harness.create("default", config_map(name, "1")).await.unwrap();
    }
    let page = |continue_token| ListOptions {
        limit: Some(1),
        continue_token,
        ..ListOptions::default()
    };
    let first = harness.list(page(None)).await.unwrap();
    harness.delete::<ConfigMap>("default", "b").await.unwrap();
    let last = harness
        .create("default", config_map("d", "1"))
        .await
        .unwrap()
        .object
        .revision();
    harness.store.compact(last.0).await.unwrap();
    // A list of the present waits for the cache, which then has forgotten the first page's past.
    harness.list(ListOptions::default()).await.unwrap();
    let error = harness.list(page(first.continue_token)).await.unwrap_err();
    assert!(error.is_gone());
    let rest = harness.list(ListOptions {
        continue_token: error.continue_token,
        ..ListOptions::default()
    });
    assert_eq!(names(&rest.await.unwrap()), ["c", "d"]);
}

#[tokio::test]
async fn selectors_choose_and_unknown_fields_are_refused() {
    let harness = Harness::new().await;
    for (name, tier) in [("a", "x"), ("b", "y")] {
        let mut object = config_map(name, "1");
        object["metadata"]["labels"] = serde_json::json!({"tier": tier});
        harness.create("default", object).await.unwrap();
    }
    let labels = LabelSelector::parse("tier=y").unwrap();
    let list = harness
        .list(ListOptions {
            labels,
            ..ListOptions::default()
        })
        .await
        .unwrap();
    assert_eq!(names(&list), ["b"]);
    let by = |field: &str, value: &str| ListOptions {
        fields: FieldSelector::equals(field, value),
        ..ListOptions::default()
    };
    assert_eq!(
        names(&harness.list(by("metadata.name", "a")).await.unwrap()),
        ["a"]
    );
    let error = harness.list(by("spec.nothing", "a")).await.unwrap_err();
    assert_eq!(error.code, 400);
    assert!(
        error.message.contains("field label not supported: spec.nothing"),
        "{error}"
    );
}

//! What watches send, from where, until when.

use futures::StreamExt;
use serde_json::json;
use skep_api::k8s_openapi::api::core::v1::ConfigMap;
use skep_api::{LabelSelector, Revision};
use skep_registry::{RegistryConfig, WatchEvent, WatchOptions};

use crate::harness::{Harness, config, config_map, take, take_error, take_shown};

fn from(revision: Revision) -> WatchOptions {
    WatchOptions {
        resource_version: Some(revision),
        ..WatchOptions::default()
    }
}

#[tokio::test]
async fn changes_after_a_revision_come_in_order() {
    let harness = Harness::new().await;
    let first = harness
        .create("default", config_map("a", "1"))
        .await
        .unwrap()
        .object
        .revision();
    harness
        .update("default", "a", config_map("a", "2"))
        .await
        .unwrap();
    let mut watch = harness.watch(from(first)).await.unwrap();
    harness.create("default", config_map("b", "1")).await.unwrap();
    let deleted = harness.delete::<ConfigMap>("default", "a").await.unwrap();
    let events = take(&mut watch, 3).await;
    let shown: Vec<String> = events.iter().map(crate::harness::shown).collect();
    assert_eq!(shown, ["~a=2", "+b=1", "-a=2"]);
    let WatchEvent::Deleted(object) = &events[2] else {
        panic!()
    };
    assert_eq!(
        object.revision(),
        deleted.object.revision(),
        "a deletion carries its own revision"
    );
    assert!(object.revision() > first);
}

#[tokio::test]
async fn without_a_revision_the_state_comes_first() {
    let harness = Harness::new().await;
    harness.create("default", config_map("a", "1")).await.unwrap();
    for options in [WatchOptions::default(), from(Revision(0))] {
        let mut watch = harness.watch(options).await.unwrap();
        assert_eq!(take_shown(&mut watch, 1).await, ["+a=1"]);
    }
    let options = WatchOptions {
        send_initial_events: Some(false),
        ..WatchOptions::default()
    };
    let mut watch = harness.watch(options).await.unwrap();
    harness.create("default", config_map("b", "1")).await.unwrap();
    assert_eq!(take_shown(&mut watch, 1).await, ["+b=1"]);
}

#[tokio::test]
async fn initial_events_end_with_a_marked_bookmark() {
    let harness = Harness::new().await;
    harness.create("default", config_map("a", "1")).await.unwrap();
    let last = harness
        .create("default", config_map("b", "1"))
        .await
        .unwrap()
        .object
        .revision();
    let options = WatchOptions {
        send_initial_events: Some(true),
        bookmarks: true,
        ..WatchOptions::default()
    };
    let mut watch = harness.watch(options).await.unwrap();
    let events = take(&mut watch, 3).await;
    assert!(
        matches!(&events[2], WatchEvent::Bookmark { revision, initial_events_end: true } if *revision >= last)
    );
    harness.create("default", config_map("c", "1")).await.unwrap();
    assert_eq!(take_shown(&mut watch, 1).await, ["+c=1"]);
}

#[tokio::test]
async fn bookmarks_tell_of_progress_elsewhere() {
    let harness = Harness::new().await;
    let first = harness
        .create("default", config_map("a", "1"))
        .await
        .unwrap()
        .object
        .revision();
    let mut watch = harness
        .watch(WatchOptions {
            bookmarks: true,
            ..from(first)
        })
        .await
        .unwrap();
    let other = harness
        .create_as::<skep_api::k8s_openapi::api::core::v1::Secret>(
            "default",
            json!({"metadata": {"name": "s"}}),
        )
        .await
        .unwrap();
    let events = take(&mut watch, 1).await;
    assert!(
        matches!(events[0], WatchEvent::Bookmark { revision, initial_events_end: false } if revision >= other.object.revision())
    );
}

#[tokio::test]
async fn objects_enter_and_leave_selectors() {
    let harness = Harness::new().await;
    let labels = LabelSelector::parse("on=yes").unwrap();
    let mut watch = harness
        .watch(WatchOptions {
            labels,
            ..WatchOptions::default()
        })
        .await
        .unwrap();
    let labelled = |value: &str, on: &str| {
        let mut object = config_map("a", value);
        object["metadata"]["labels"] = json!({"on": on});
        object
    };
    harness.create("default", labelled("1", "no")).await.unwrap();
    harness
        .update("default", "a", labelled("2", "yes"))
        .await
        .unwrap();
    harness
        .update("default", "a", labelled("3", "yes"))
        .await
        .unwrap();
    let left = harness
        .update("default", "a", labelled("4", "no"))
        .await
        .unwrap()
        .object
        .revision();
    harness.delete::<ConfigMap>("default", "a").await.unwrap();
    harness.create("default", labelled("5", "yes")).await.unwrap();
    let events = take(&mut watch, 4).await;
    let shown: Vec<String> = events.iter().map(crate::harness::shown).collect();
    assert_eq!(shown, ["+a=2", "~a=3", "-a=3", "+a=5"]);
    let WatchEvent::Deleted(object) = &events[2] else {
        panic!()
    };
    assert_eq!(object.revision(), left);
}

#[tokio::test]
async fn other_namespaces_are_not_seen() {
    let harness = Harness::new().await;
    harness
        .create_as::<skep_api::k8s_openapi::api::core::v1::Namespace>(
            "",
            json!({"metadata": {"name": "defaulted"}}),
        )
        .await
        .unwrap();
    let mut watch = harness.watch(WatchOptions::default()).await.unwrap();
    harness
        .create("defaulted", config_map("other", "1"))
        .await
        .unwrap();
    harness.create("default", config_map("mine", "1")).await.unwrap();
    assert_eq!(take_shown(&mut watch, 1).await, ["+mine=1"]);
}

#[tokio::test]
async fn forgotten_revisions_are_gone_and_slow_watchers_are_ended() {
    let harness = Harness::with(RegistryConfig {
        history_events: 2,
        ..config()
    })
    .await;
    let first = harness
        .create("default", config_map("a", "0"))
        .await
        .unwrap()
        .object
        .revision();
    let mut slow = harness.watch(from(first)).await.unwrap();
    for value in 1..6 {
        harness
            .update("default", "a", config_map("a", &value.to_string()))
            .await
            .unwrap();
    }
    harness.get::<ConfigMap>("default", "a").await.unwrap();
    assert!(take_error(&mut slow).await.is_gone());
    assert!(slow.next().await.is_none());
    let mut late = harness.watch(from(first)).await.unwrap();
    assert!(take_error(&mut late).await.is_gone());
}

#[tokio::test]
async fn future_revisions_time_out_by_name() {
    let harness = Harness::new().await;
    let error = harness.watch(from(Revision(9999))).await.unwrap_err();
    assert!(
        error.code == 504 && error.is_too_large_resource_version(),
        "{error:?}"
    );
}

#[tokio::test]
async fn watches_end_at_shutdown_and_so_do_the_registrys_tasks() {
    let harness = Harness::new().await;
    let mut watch = harness.watch(WatchOptions::default()).await.unwrap();
    harness.shutdown.cancel();
    assert!(watch.next().await.is_none());
    harness.registry.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_watchers_are_woken_without_bookmarks() {
    let harness = Harness::new().await;
    let first = harness
        .create("default", config_map("a", "1"))
        .await
        .unwrap()
        .object
        .revision();
    let mut watch = harness.watch(from(first)).await.unwrap();
    let waiting = tokio::spawn(async move { take_shown(&mut watch, 2).await });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    harness.create("default", config_map("b", "1")).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    harness.create("default", config_map("c", "1")).await.unwrap();
    assert_eq!(waiting.await.unwrap(), ["+b=1", "+c=1"]);
}

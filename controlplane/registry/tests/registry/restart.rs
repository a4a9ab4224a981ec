//! A registry that is opened again, and one whose store is written by another.

use std::sync::Arc;

use serde_json::json;
use skep_api::k8s_openapi::api::core::v1::{ConfigMap, Service};
use skep_registry::{ListOptions, WatchOptions};
use skep_store::{EmbeddedConfig, EmbeddedStore, Store};

use crate::harness::{Harness, config, config_map, take_shown};
use crate::services::{allocate_at_once, crowded};

#[tokio::test]
async fn everything_is_there_after_a_restart_and_allocations_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let open = async || Arc::new(EmbeddedStore::open(EmbeddedConfig::new(&path)).await.unwrap());
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": "10.64.0.7", "ports": [{"port": 80}]}});
    let before = {
        let harness = Harness::over(open().await, config()).await;
        harness
            .create_as::<Service>("default", service("a"))
            .await
            .unwrap();
        let written = harness.create("default", config_map("a", "1")).await.unwrap();
        harness.shutdown.cancel();
        harness.registry.closed().await;
        written.object
    };
    let harness = Harness::over(open().await, config()).await;
    let after = harness.get::<ConfigMap>("default", "a").await.unwrap();
    assert_eq!(
        (after.json(), after.revision()),
        (before.json(), before.revision())
    );
    let error = harness
        .create_as::<Service>("default", service("b"))
        .await
        .unwrap_err();
    assert!(error.message.contains("already allocated"), "{error}");
}

#[tokio::test]
async fn two_registries_over_one_store_see_each_other() {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory().await.unwrap());
    let one = Harness::over(Arc::clone(&store), config()).await;
    let two = Harness::over(store, config()).await;
    let mut watch = two.watch(WatchOptions::default()).await.unwrap();
    one.create("default", config_map("a", "1")).await.unwrap();
    let list = two.list(ListOptions::default()).await.unwrap();
    assert_eq!(
        list.items.len(),
        1,
        "a list without a revision sees what the other has acknowledged"
    );
    two.update("default", "a", config_map("a", "2")).await.unwrap();
    assert_eq!(take_shown(&mut watch, 2).await, ["+a=1", "~a=2"]);
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": "10.64.0.7", "ports": [{"port": 80}]}});
    one.create_as::<Service>("default", service("a")).await.unwrap();
    two.create_as::<Service>("default", service("b"))
        .await
        .unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_registries_over_one_store_never_give_the_same_address() {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory().await.unwrap());
    let servers = [
        Harness::over(Arc::clone(&store), crowded()).await,
        Harness::over(Arc::clone(&store), crowded()).await,
    ];
    allocate_at_once(&servers, &store).await;
}

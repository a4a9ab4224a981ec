//! A registry over the embedded store in memory, and short ways to use it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use skep_api::k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use skep_api::{ApiError, Kind, ObjectKey, gvr_of};
use skep_registry::{
    DeleteOptions, Deleted, GetOptions, ListOptions, ObjectList, Patch, PatchKind, Registry, RegistryConfig,
    Scope, SharedObject, WatchEvent, WatchOptions, WatchStream, WriteOptions, Written,
};
use skep_store::{EmbeddedStore, Store};
use tokio_util::sync::CancellationToken;

pub(crate) struct Harness {
    pub(crate) registry: Registry,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) shutdown: CancellationToken,
}

pub(crate) fn config() -> RegistryConfig {
    RegistryConfig {
        freshness_timeout: Duration::from_secs(2),
        bookmark_interval: Duration::from_millis(50),
        ..RegistryConfig::new(vec![
            "10.64.0.0/24".parse().unwrap(),
            "fd00:64::/112".parse().unwrap(),
        ])
    }
}

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}})
}

impl Harness {
    pub(crate) async fn new() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: RegistryConfig) -> Self {
        Self::over(Arc::new(EmbeddedStore::in_memory().await.unwrap()), config).await
    }

    pub(crate) async fn over(store: Arc<dyn Store>, config: RegistryConfig) -> Self {
        let shutdown = CancellationToken::new();
        let registry = Registry::open(Arc::clone(&store), config, shutdown.clone())
            .await
            .unwrap();
        let harness = Self {
            registry,
            store,
            shutdown,
        };
        let outcome = harness
            .create_as::<Namespace>("", json!({"metadata": {"name": "default"}}))
            .await;
        assert!(outcome.is_ok() || outcome.is_err_and(|error| error.is_already_exists()));
        harness
    }

    pub(crate) async fn create_as<K: Kind>(
        &self,
        namespace: &str,
        object: Value,
    ) -> Result<Written, ApiError> {
        self.registry
            .create(&gvr_of::<K>(), namespace, object.into(), &WriteOptions::default())
            .await
    }

    pub(crate) async fn create(&self, namespace: &str, object: Value) -> Result<Written, ApiError> {
        self.create_as::<ConfigMap>(namespace, object).await
    }

    pub(crate) async fn update_as<K: Kind>(
        &self,
        namespace: &str,
        name: &str,
        object: Value,
    ) -> Result<Written, ApiError> {
        let key = ObjectKey::new(namespace, name);
        self.registry
            .update(
                &gvr_of::<K>(),
                &key,
                None,
                object.into(),
                &WriteOptions::default(),
            )
            .await
    }

    pub(crate) async fn update(
        &self,
        namespace: &str,
        name: &str,
        object: Value,
    ) -> Result<Written, ApiError> {
        self.update_as::<ConfigMap>(namespace, name, object).await
    }

    pub(crate) async fn patch<K: Kind>(
        &self,
        namespace: &str,
        name: &str,
        kind: PatchKind,
        body: Value,
    ) -> Result<Written, ApiError> {
        let patch = Patch {
            kind,
            body: body.to_string().into(),
        };
        let key = ObjectKey::new(namespace, name);
        self.registry
            .patch(&gvr_of::<K>(), &key, None, patch, &WriteOptions::default())
            .await
    }

    pub(crate) async fn get<K: Kind>(&self, namespace: &str, name: &str) -> Result<SharedObject, ApiError> {
        let key = ObjectKey::new(namespace, name);
        self.registry
            .get(&gvr_of::<K>(), &key, &GetOptions::default())
            .await
    }
}

impl Harness {
    pub(crate) async fn delete<K: Kind>(&self, namespace: &str, name: &str) -> Result<Deleted, ApiError> {
        let key = ObjectKey::new(namespace, name);
        self.registry
            .delete(&gvr_of::<K>(), &key, &DeleteOptions::default())
            .await
    }

    pub(crate) async fn list(&self, options: ListOptions) -> Result<ObjectList, ApiError> {
        self.registry
            .list(&gvr_of::<ConfigMap>(), &Scope::All, &options)
            .await
    }

    pub(crate) async fn watch(&self, options: WatchOptions) -> Result<WatchStream, ApiError> {
        let scope = Scope::Namespace("default".to_owned());
        self.registry
            .watch(&gvr_of::<ConfigMap>(), &scope, &options)
            .await
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The events of a watch as text: `+a=1`, `~a=2`, `-a`, and `.` for bookmarks, `!` for the end of the initial ones.
pub(crate) fn shown(event: &WatchEvent) -> String {
    let of = |sign: &str, object: &SharedObject| {
        let data = object
            .typed::<ConfigMap>()
            .and_then(|object| object.data.clone())
            .unwrap_or_default();
        let value = data.get("value").cloned().unwrap_or_default();
        format!("{sign}{}={value}", object.key().name)
    };
    match event {
        WatchEvent::Added(object) => of("+", object),
        WatchEvent::Modified(object) => of("~", object),
        WatchEvent::Deleted(object) => of("-", object),
        WatchEvent::Bookmark {
            initial_events_end: true,
            ..
        } => "!".to_owned(),
        WatchEvent::Bookmark { .. } => ".".to_owned(),
    }
}

/// The next `count` events; panics when they do not come.
pub(crate) async fn take(stream: &mut WatchStream, count: usize) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(5), stream.next());
        events.push(
            next.await
                .expect("an event in time")
                .expect("the watch goes on")
                .unwrap(),
        );
    }
    events
}

pub(crate) async fn take_shown(stream: &mut WatchStream, count: usize) -> Vec<String> {
    take(stream, count).await.iter().map(shown).collect()
}

/// The watch's next item is this error.
pub(crate) async fn take_error(stream: &mut WatchStream) -> ApiError {
    let next = tokio::time::timeout(Duration::from_secs(5), stream.next());
    next.await
        .expect("an item in time")
        .expect("an item")
        .unwrap_err()
}

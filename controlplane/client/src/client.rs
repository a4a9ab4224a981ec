//! The verbs, typed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Binding, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use skep_api::{ApiError, Object, ObjectExt, ObjectKey, Revision};

use crate::raw::RawWatchEvent;
use crate::transport::{RawWatchStream, Transport};
use crate::{
    ApiRequest, ApiResponse, ClientConfig, ConfigError, DeleteOptions, HttpsTransport, ListOptions, Patch,
    RawObject, Verb, WatchOptions,
};

/// A page of a list.
#[derive(Clone, Debug)]
pub struct ObjectList<K> {
    /// The revision that the list shows; a watch from here misses nothing.
    pub revision: Revision,
    pub continue_token: Option<String>,
    pub items: Vec<Arc<K>>,
}

/// One event of a typed watch.
#[derive(Clone, Debug)]
pub enum WatchEvent<K> {
    Added(Arc<K>),
    Modified(Arc<K>),
    Deleted(Arc<K>),
    /// Everything up to this revision has been sent.
    Bookmark {
        revision: Revision,
        initial_events_end: bool,
    },
}

/// Typed events of one watch. Ends when the server closes it; after an `Err` nothing follows.
pub type WatchStream<K> = BoxStream<'static, Result<WatchEvent<K>, ApiError>>;

/// A client of the API. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client over any transport.
    #[must_use]
    pub fn with_transport(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }

    /// A client over HTTPS. Nothing is sent yet.
    ///
    /// # Errors
    /// When the configuration cannot be used (address, certificates, keys).
    pub fn https(config: ClientConfig) -> Result<Self, ConfigError> {
        Ok(Self::with_transport(Arc::new(HttpsTransport::new(config)?)))
    }

    /// A client as the kubeconfig's current context says.
    ///
    /// # Errors
    /// When the file cannot be read or used.
    pub fn from_kubeconfig(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::https(ClientConfig::from_kubeconfig(path)?)
    }

    /// Sends a request as it is.
    ///
    /// # Errors
    /// Whatever the transport or the server says.
    pub async fn raw(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        self.transport.send(request).await
    }

    /// Opens a watch as it is.
    ///
    /// # Errors
    /// Whatever the transport or the server says.
    pub async fn raw_watch(&self, request: ApiRequest) -> Result<RawWatchStream, ApiError> {
        self.transport.watch(request).await
    }

    /// The body of a path outside the resources, for health checks (`/healthz`, `/version`).
    ///
    /// # Errors
    /// Whatever the transport or the server says.
    pub async fn get_raw(&self, path: &str) -> Result<Bytes, ApiError> {
        self.transport.get_raw(path).await
    }

    /// One object.
    ///
    /// # Errors
    /// NotFound when there is none.
    pub async fn get<K: Object>(&self, key: &ObjectKey) -> Result<Arc<K>, ApiError> {
        self.object(keyed::<K>(Verb::Get, key)).await
    }

    /// One object, or none.
    ///
    /// # Errors
    /// Anything but NotFound.
    pub async fn find<K: Object>(&self, key: &ObjectKey) -> Result<Option<Arc<K>>, ApiError> {
        match self.get(key).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One page of a list: of a namespace, or of all when `None`.
    ///
    /// # Errors
    /// Gone when the continue token or the exact revision is too old.
    pub async fn list<K: Object>(
        &self,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<ObjectList<K>, ApiError> {
        let mut request = ApiRequest::of::<K>(Verb::List).namespace(namespace.unwrap_or_default());
        request.query = options.to_query();
        match self.raw(request).await? {
            ApiResponse::List {
                revision,
                continue_token,
                items,
            } => Ok(ObjectList {
                revision,
                continue_token,
                items: items
                    .into_iter()
                    .map(RawObject::decode)
                    .collect::<Result<_, _>>()?,
            }),
            ApiResponse::Object(_) | ApiResponse::Status(_) => Err(unexpected::<K>("a list")),
        }
    }

    /// The events after `options.resource_version`, of a namespace, or of all when `None`.
    ///
    /// # Errors
    /// Gone, here or inside the stream, when that revision is too old: list again.
    pub async fn watch<K: Object>(
        &self,
        namespace: Option<&str>,
        options: &WatchOptions,
    ) -> Result<WatchStream<K>, ApiError> {
        let mut request = ApiRequest::of::<K>(Verb::Watch).namespace(namespace.unwrap_or_default());
        request.query = options.to_query();
        let events = self.raw_watch(request).await?;
        Ok(events.map(|event| event.and_then(typed_event)).boxed())
    }

    /// Creates the object in the namespace that it names.
    ///
    /// # Errors
    /// AlreadyExists, Invalid, Forbidden, …
    pub async fn create<K: Object>(&self, object: &K) -> Result<Arc<K>, ApiError> {
        let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
        let request = ApiRequest::of::<K>(Verb::Create)
            .namespace(namespace)
            .body(encode(object)?);
        self.object(request).await
    }

    /// Replaces the object.
    ///
    /// # Errors
    /// Conflict when its resourceVersion is not the current one.
    pub async fn update<K: Object>(&self, object: &K) -> Result<Arc<K>, ApiError> {
        self.object(keyed::<K>(Verb::Update, &object.key()).body(encode(object)?))
            .await
    }

    /// Replaces the object's status, and nothing else of it.
    ///
    /// # Errors
    /// Conflict when its resourceVersion is not the current one.
    pub async fn update_status<K: Object>(&self, object: &K) -> Result<Arc<K>, ApiError> {
        self.update_subresource("status", object).await
    }

    /// Replaces what the subresource covers (`status`, `finalize`).
    ///
    /// # Errors
    /// Conflict when its resourceVersion is not the current one.
    pub async fn update_subresource<K: Object>(
        &self,
        subresource: &str,
        object: &K,
    ) -> Result<Arc<K>, ApiError> {
        let request = keyed::<K>(Verb::Update, &object.key());
        self.object(request.subresource(subresource).body(encode(object)?))
            .await
    }

    /// Patches the object.
    ///
    /// # Errors
    /// NotFound, Invalid, Conflict when the patch names another resourceVersion.
    pub async fn patch<K: Object>(&self, key: &ObjectKey, patch: &Patch) -> Result<Arc<K>, ApiError> {
        self.object(keyed::<K>(Verb::Patch(patch.kind()), key).body(patch.body().clone()))
            .await
    }

    /// Patches the object's status, and nothing else of it.
    ///
    /// # Errors
    /// As [`patch`](Self::patch).
    pub async fn patch_status<K: Object>(&self, key: &ObjectKey, patch: &Patch) -> Result<Arc<K>, ApiError> {
        let request = keyed::<K>(Verb::Patch(patch.kind()), key).subresource("status");
        self.object(request.body(patch.body().clone())).await
    }

    /// Deletes the object. Returns what the server answered with: the object (that may live on until its finalizers or
    /// its grace period are over), or none when it is gone.
    ///
    /// # Errors
    /// NotFound; Conflict when a precondition does not hold.
    pub async fn delete<K: Object>(
        &self,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Result<Option<Arc<K>>, ApiError> {
        match self
            .raw(keyed::<K>(Verb::Delete, key).body(encode(options)?))
            .await?
        {
            ApiResponse::Object(object) => Ok(Some(object.decode()?)),
            ApiResponse::Status(_) => Ok(None),
            ApiResponse::List { .. } => Err(unexpected::<K>("an object")),
        }
    }

    /// Deletes everything that the list options match in the namespace.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn delete_collection<K: Object>(
        &self,
        namespace: Option<&str>,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(), ApiError> {
        let mut request =
            ApiRequest::of::<K>(Verb::DeleteCollection).namespace(namespace.unwrap_or_default());
        request.query = list.to_query();
        self.raw(request.body(encode(options)?)).await.map(drop)
    }

    /// Posts to a subresource of `K` whose body is another kind (`eviction`, `binding`, `token`).
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn create_subresource<K: Object>(
        &self,
        key: &ObjectKey,
        subresource: &str,
        body: &impl Serialize,
    ) -> Result<ApiResponse, ApiError> {
        self.raw(
            keyed::<K>(Verb::Create, key)
                .subresource(subresource)
                .body(encode(body)?),
        )
        .await
    }

    /// Binds a pod to a node, once and for all.
    ///
    /// # Errors
    /// Conflict when the pod is bound, being deleted, or another pod than `uid` names.
    pub async fn bind_pod(&self, pod: &ObjectKey, uid: Option<&str>, node: &str) -> Result<(), ApiError> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.name.clone()),
                namespace: Some(pod.namespace.clone()),
                uid: uid.map(str::to_owned),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        self.create_subresource::<k8s_openapi::api::core::v1::Pod>(pod, "binding", &binding)
            .await
            .map(drop)
    }

    async fn object<K: Object>(&self, request: ApiRequest) -> Result<Arc<K>, ApiError> {
        match self.raw(request).await? {
            ApiResponse::Object(object) => object.decode(),
            ApiResponse::List { .. } | ApiResponse::Status(_) => Err(unexpected::<K>("an object")),
        }
    }
}

fn keyed<K: Object>(verb: Verb, key: &ObjectKey) -> ApiRequest {
    ApiRequest::of::<K>(verb)
        .namespace(&key.namespace)
        .name(&key.name)
}

fn unexpected<K: Object>(wanted: &str) -> ApiError {
    ApiError::internal(format!("{}: the server did not answer with {wanted}", K::KIND))
}

pub(crate) fn encode(value: &impl Serialize) -> Result<Bytes, ApiError> {
    match serde_json::to_vec(value) {
        Ok(json) => Ok(Bytes::from(json)),
        Err(error) => Err(ApiError::internal(format!("encoding a request: {error}"))),
    }
}

fn typed_event<K: Object>(event: RawWatchEvent) -> Result<WatchEvent<K>, ApiError> {
    Ok(match event {
        RawWatchEvent::Added(object) => WatchEvent::Added(object.decode()?),
        RawWatchEvent::Modified(object) => WatchEvent::Modified(object.decode()?),
        RawWatchEvent::Deleted(object) => WatchEvent::Deleted(object.decode()?),
        RawWatchEvent::Bookmark {
            revision,
            initial_events_end,
        } => WatchEvent::Bookmark {
            revision,
            initial_events_end,
        },
    })
}

//! [`Registry`]: the operations on every resource.

use std::sync::Arc;

use skep_api::k8s_openapi::api::core::v1::{Binding, Pod};
use skep_api::{ApiError, GroupVersionResource, Kind, ObjectKey, ResourceTable, Subresource, gvr_of};
use skep_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::cache::{Cache, Feed, Observer, load};
use crate::strategy::Strategies;
use crate::{
    DeleteOptions, Deleted, GetOptions, ListOptions, NewObject, ObjectList, Patch, RegistryConfig, Scope,
    SharedObject, WatchOptions, WatchStream, WriteOptions, Written,
};
use crate::{compaction, expiry, write};

/// Why a registry could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("loading the objects from the store")]
    Load(#[source] StoreError),
}

/// The operations on every resource. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

/// What all clones share.
pub(crate) struct Inner {
    pub(crate) table: Arc<ResourceTable>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) strategies: Arc<Strategies>,
    pub(crate) config: RegistryConfig,
    pub(crate) shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Registry {
    /// Loads every object from the store into the cache and keeps the cache fed until `shutdown`.
    ///
    /// # Errors
    /// [`RegistryError`] when the store cannot be read.
    pub async fn open(
        store: Arc<dyn Store>,
        config: RegistryConfig,
        shutdown: CancellationToken,
    ) -> Result<Self, RegistryError> {
        let table = Arc::new(ResourceTable::builtin());
        let strategies = Strategies::new(&config);
        let cache = load(&store, &table, &config, strategies.as_ref())
            .await
            .map_err(RegistryError::Load)?;
        let cache = Arc::new(cache);
        let tasks = TaskTracker::new();
        let feed = Feed {
            cache: Arc::clone(&cache),
            store: Arc::clone(&store),
            table: Arc::clone(&table),
            observer: Arc::clone(&strategies) as Arc<dyn Observer>,
        };
        tasks.spawn(feed.run(shutdown.clone()));
        let compaction = compaction::run(
            Arc::clone(&store),
            Arc::clone(&cache),
            config.history,
            shutdown.clone(),
        );
        tasks.spawn(compaction);
        let inner = Arc::new(Inner {
            table,
            cache,
            store,
            strategies,
            config,
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
        });
        tasks.spawn(expiry::run(Arc::clone(&inner), shutdown));
        tasks.close();
        Ok(Self { inner })
    }

    /// Returns when, after `shutdown`, the registry's own tasks have ended.
    pub async fn closed(&self) {
        self.inner.tasks.wait().await;
    }

    /// Whether the store can be used now.
    pub async fn is_store_well(&self) -> bool {
        let checked = self.inner.store.check().await;
        if let Err(error) = &checked {
            warn!(error = error as &dyn std::error::Error, "the store is not well");
        }
        checked.is_ok()
    }

    /// Every resource that is served.
    pub fn table(&self) -> &ResourceTable {
        &self.inner.table
    }

    /// An object as the cache has it now: what watchers have been shown, and maybe more.
    pub fn cached<K: Kind>(&self, key: &ObjectKey) -> Option<Arc<K>> {
        let slot = self.inner.cache.slot(&gvr_of::<K>())?;
        self.inner.cache.get(slot, key)?.typed()
    }

    /// The pods that are bound to a node, as the cache has them now.
    pub fn pods_on_node(&self, node: &str) -> Vec<Arc<Pod>> {
        self.inner.strategies.pod.on_node(node)
    }

    /// Waits until the cache shows every write that was acknowledged before this call, on whatever server.
    ///
    /// # Errors
    /// 504 when that takes too long.
    pub async fn fresh(&self) -> Result<(), ApiError> {
        self.inner.fresh(&gvr_of::<Pod>()).await
    }

    /// One object.
    ///
    /// # Errors
    /// 404; 504 when the asked-for revision is not reached in time.
    pub async fn get(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        options: &GetOptions,
    ) -> Result<SharedObject, ApiError> {
        self.inner.get(resource, key, options).await
    }

    /// The `status` of an object is the object; its `scale` an `autoscaling/v1 Scale`.
    ///
    /// # Errors
    /// 404.
    pub async fn get_subresource(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        subresource: Subresource,
        options: &GetOptions,
    ) -> Result<SharedObject, ApiError> {
        let info = self
            .inner
            .table
            .get(resource)
            .ok_or_else(ApiError::unknown_path)?;
        match subresource {
            subresource if !info.has(subresource) => Err(ApiError::unknown_path()),
            Subresource::Status => self.get(resource, key, options).await,
            Subresource::Scale => write::shared_scale(&self.get(resource, key, options).await?),
            Subresource::Binding | Subresource::Finalize => {
                Err(ApiError::method_not_supported(resource, "get"))
            }
        }
    }

    /// Objects at one revision.
    ///
    /// # Errors
    /// 410 when that revision or the continue token is too old, 504 when it is ahead.
    pub async fn list(
        &self,
        resource: &GroupVersionResource,
        scope: &Scope,
        options: &ListOptions,
    ) -> Result<ObjectList, ApiError> {
        self.inner.list(resource, scope, options).await
    }

    /// Changes in revision order; an error item ends the stream.
    ///
    /// # Errors
    /// 504 when the revision is ahead. A revision that is too old is an error item, 410.
    pub async fn watch(
        &self,
        resource: &GroupVersionResource,
        scope: &Scope,
        options: &WatchOptions,
    ) -> Result<WatchStream, ApiError> {
        self.inner.watch(resource, scope, options).await
    }

    /// Creates an object; `namespace` is the URL's, empty for cluster-scoped resources.
    ///
    /// # Errors
    /// 400, 403, 404 (namespace), 409, 422.
    pub async fn create(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        object: NewObject,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        self.inner.create(resource, namespace, &object, options).await
    }

    /// Replaces an object, or its subresource.
    ///
    /// # Errors
    /// 400, 404, 409, 422.
    pub async fn update(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        subresource: Option<Subresource>,
        object: NewObject,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        self.inner
            .update(resource, key, subresource, &object, options)
            .await
    }

    /// Changes an object, or its subresource, by a patch.
    ///
    /// # Errors
    /// 400, 404, 409, 422.
    pub async fn patch(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        subresource: Option<Subresource>,
        patch: Patch,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        self.inner
            .patch(resource, key, subresource, &patch, options)
            .await
    }

    /// Deletes an object, or begins to.
    ///
    /// # Errors
    /// 403, 404, 409.
    pub async fn delete(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        self.inner.delete(resource, key, options).await
    }

    /// Deletes everything that matches; gives the objects as they were listed.
    ///
    /// # Errors
    /// Those of [`Self::list`] and [`Self::delete`].
    pub async fn delete_collection(
        &self,
        resource: &GroupVersionResource,
        scope: &Scope,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<ObjectList, ApiError> {
        self.inner.delete_collection(resource, scope, list, options).await
    }

    /// `pods/binding`: gives a pod its node.
    ///
    /// # Errors
    /// 404; 409 when the pod has a node already or is being deleted.
    pub async fn bind(
        &self,
        namespace: &str,
        pod: &str,
        binding: Binding,
        options: &WriteOptions,
    ) -> Result<(), ApiError> {
        self.inner.bind(namespace, pod, &binding, options).await
    }
}

//! What some kinds do that others do not, beyond what `skep-api` says of them: claims on shared resources and ways
//! to be deleted.

mod namespace;
mod pod;
mod service;

use std::sync::Arc;

use skep_api::resource::{DynObject, ResourceInfo};
use skep_api::{ApiError, FieldError};

use crate::alloc::{Claims, Resources};
use crate::cache::{Change, Objects, Observer};
use crate::{RegistryConfig, SharedObject};

/// How a kind differs. The defaults are what most kinds do.
pub(crate) trait Strategy: Send + Sync {
    /// Fills in, and claims, what only one object may have. `old` is absent at creation.
    fn claim(
        &self,
        _new: &mut dyn DynObject,
        _old: Option<&dyn DynObject>,
    ) -> Result<Option<Claims>, Vec<FieldError>> {
        Ok(None)
    }

    /// Whether the object has any of this.
    fn holds(&self, _object: &SharedObject, _resources: &Resources) -> bool {
        false
    }

    /// Whether this object may be deleted at all.
    fn check_delete(&self, _object: &dyn DynObject) -> Result<(), ApiError> {
        Ok(())
    }

    /// Seconds that the object gets to end, for kinds that end gracefully.
    fn grace_seconds(&self, _object: &dyn DynObject, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether, besides the finalizers of the metadata, something of the kind's own holds the object back.
    fn is_held(&self, _object: &dyn DynObject) -> bool {
        false
    }

    /// Shows in the object that its deletion has begun.
    fn mark_deleting(&self, _object: &mut dyn DynObject) {}

    /// Follows what is applied to the cache; see [`Observer`].
    fn changed(&self, _change: &Change) {}

    /// All objects of the kind were replaced by these.
    fn replaced(&self, _objects: &Objects) {}
}

struct Ordinary;

impl Strategy for Ordinary {}

/// Each kind's strategy.
pub(crate) struct Strategies {
    ordinary: Ordinary,
    namespace: namespace::NamespaceStrategy,
    pub(crate) pod: pod::PodStrategy,
    service: service::ServiceStrategy,
}

impl Strategies {
    pub(crate) fn new(config: &RegistryConfig) -> Arc<Self> {
        Arc::new(Self {
            ordinary: Ordinary,
            namespace: namespace::NamespaceStrategy,
            pod: pod::PodStrategy::default(),
            service: service::ServiceStrategy::new(config),
        })
    }

    pub(crate) fn of(&self, info: &ResourceInfo) -> &dyn Strategy {
        match (&*info.gvr.group, &*info.gvr.resource) {
            ("", "namespaces") => &self.namespace,
            ("", "pods") => &self.pod,
            ("", "services") => &self.service,
            _ => &self.ordinary,
        }
    }
}

impl Observer for Strategies {
    fn changed(&self, info: &ResourceInfo, change: &Change) {
        self.of(info).changed(change);
    }

    fn replaced(&self, state: &mut dyn Iterator<Item = (&ResourceInfo, &Objects)>) {
        for (info, objects) in state {
            self.of(info).replaced(objects);
        }
    }
}

//! [`Object`]: any API object with metadata; [`ObjectExt`]: reading its metadata; [`ObjectKey`]: its place.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, Resource, ResourceScope};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Revision;

/// A compiled-in API type with `ObjectMeta`. Implemented for every such type of k8s-openapi.
pub trait Object:
    Resource<Scope: ResourceScope + 'static>
    + Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<Scope: ResourceScope + 'static>
        + Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + fmt::Debug
        + Send
        + Sync
        + 'static
{
}

/// Namespace and name. The namespace is empty for cluster-scoped objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of a cluster-scoped object.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self::new("", name)
    }

    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(
            meta.namespace.as_deref().unwrap_or(""),
            meta.name.as_deref().unwrap_or(""),
        )
    }
}

/// `namespace/name`, or `name` alone for cluster-scoped objects.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

static EMPTY: BTreeMap<String, String> = BTreeMap::new();

/// Reading metadata without the `Option`s.
pub trait ObjectExt {
    fn meta(&self) -> &ObjectMeta;

    /// The name; empty before it has been given.
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or("")
    }

    /// The namespace; empty for cluster-scoped objects.
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or("")
    }

    /// The uid; empty before it has been given.
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or("")
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        self.meta().labels.as_ref().unwrap_or(&EMPTY)
    }

    fn annotations(&self) -> &BTreeMap<String, String> {
        self.meta().annotations.as_ref().unwrap_or(&EMPTY)
    }

    /// The revision this object was read at; `None` when absent or not a number.
    fn resource_version(&self) -> Option<Revision> {
        self.meta().resource_version.as_deref()?.parse().ok()
    }

    /// The owner that is marked as the controller.
    fn controller_owner(&self) -> Option<&OwnerReference> {
        self.meta()
            .owner_references
            .as_ref()?
            .iter()
            .find(|owner| owner.controller == Some(true))
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::of(self.meta())
    }

    /// Whether deletion has been asked for.
    fn is_terminating(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }
}

impl<K: Metadata<Ty = ObjectMeta>> ObjectExt for K {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
}

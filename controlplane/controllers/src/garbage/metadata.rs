//! Any object as its metadata alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Deserialize;
use skep_api::{ApiError, GroupVersionResource};
use skep_client::RawObject;

pub(crate) const FOREGROUND: &str = "foregroundDeletion";
pub(crate) const ORPHAN: &str = "orphan";

/// A kind as owner references and requests name it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) gvr: GroupVersionResource,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PartialObject {
    pub(crate) metadata: ObjectMeta,
}

impl PartialObject {
    /// # Errors
    /// When the transport gave no JSON, or what it gave is no object.
    pub(crate) fn decode(object: &RawObject) -> Result<Self, ApiError> {
        let Some(json) = &object.json else {
            return Err(ApiError::internal(
                "the transport gave an object without its JSON",
            ));
        };
        serde_json::from_slice(json).map_err(ApiError::internal)
    }

    pub(crate) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn owners(&self) -> &[OwnerReference] {
        self.metadata.owner_references.as_deref().unwrap_or_default()
    }

    pub(crate) fn has_finalizer(&self, name: &str) -> bool {
        self.metadata
            .finalizers
            .iter()
            .flatten()
            .any(|finalizer| finalizer == name)
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Going, and waiting for the dependents that block it.
    pub(crate) fn waits_for_dependents(&self) -> bool {
        self.is_deleting() && self.has_finalizer(FOREGROUND)
    }

    /// Going, and waiting for its dependents to be let go.
    pub(crate) fn orphans_dependents(&self) -> bool {
        self.is_deleting() && self.has_finalizer(ORPHAN)
    }
}

//! Writing: what creation, update, patch and deletion share.
//!
//! Every write ends in one conditional operation of the store; one that lost a race begins again from what won.

mod bind;
mod claim;
mod create;
mod delete;
mod delete_plan;
mod metadata;
mod names;
mod patch;
mod scale;
mod update;

use std::sync::Arc;

use bytes::Bytes;
use skep_api::resource::{DynObject, ResourceInfo};
use skep_api::{ApiError, FieldError, GroupVersionResource, ObjectKey, Revision};
use skep_store::{Entry, StoreError};

use crate::cache::Slot;
use crate::registry::Inner;
use crate::{SharedObject, error, keys};

/// How often a write that loses races begins again before the client is told to.
const ATTEMPTS: usize = 32;

/// The object that a write is about.
pub(crate) struct Target {
    info: Arc<ResourceInfo>,
    slot: Slot,
    key: ObjectKey,
    store_key: String,
}

impl Target {
    fn resource(&self) -> &GroupVersionResource {
        &self.info.gvr
    }

    fn not_found(&self) -> ApiError {
        ApiError::not_found(self.resource(), &self.key.name)
    }

    fn invalid(&self, errors: Vec<FieldError>) -> ApiError {
        ApiError::invalid(&self.info.gvr.group, &self.info.kind, &self.key.name, errors)
    }

    fn failure(&self, error: StoreError) -> ApiError {
        error::from_store(error, self.resource(), &self.key.name)
    }
}

/// Why one attempt did not succeed.
enum Attempt {
    /// Somebody else wrote first; this is what they wrote.
    Lost(SharedObject),
    Failed(ApiError),
}

impl From<ApiError> for Attempt {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl Inner {
    fn target(&self, resource: &GroupVersionResource, key: &ObjectKey) -> Result<Target, ApiError> {
        let (info, slot) = self.resource(resource)?;
        let store_key = keys::key(&info, key);
        Ok(Target {
            info,
            slot,
            key: key.clone(),
            store_key,
        })
    }

    /// The object as every acknowledged write left it.
    async fn current(&self, target: &Target) -> Result<SharedObject, ApiError> {
        self.fresh(target.resource()).await?;
        self.cache
            .get(target.slot, &target.key)
            .ok_or_else(|| target.not_found())
    }

    /// A store's error of a conditional write: a lost race, or a failure.
    fn lost(&self, target: &Target, error: StoreError) -> Attempt {
        match error {
            StoreError::Conflict { current } => match decode_entry(&target.info, &current) {
                Ok(object) => Attempt::Lost(object),
                Err(error) => Attempt::Failed(error),
            },
            error => Attempt::Failed(target.failure(error)),
        }
    }
}

/// An object's `autoscaling/v1 Scale`.
pub(crate) fn shared_scale(object: &SharedObject) -> Result<SharedObject, ApiError> {
    scale::shared(object.object())
}

fn decode_entry(info: &ResourceInfo, entry: &Entry) -> Result<SharedObject, ApiError> {
    let object = info
        .codec
        .decode(&entry.value, None)
        .map_err(ApiError::internal)?;
    Ok(SharedObject::new(
        &entry.value,
        object,
        Revision(entry.mod_revision),
    ))
}

/// The bytes that are stored: everything but the revision, which the store gives.
fn encode(object: &mut dyn DynObject) -> Result<Bytes, ApiError> {
    object.meta_mut().resource_version = None;
    object.to_json().map(Bytes::from).map_err(ApiError::internal)
}

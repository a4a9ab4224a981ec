//! Adoption and release through the API: which of the candidates a controller owns afterwards.

use crate::context::unless_gone;
use crate::owner::{self, Claim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skep_api::{ApiError, LabelSelector, Object, ObjectExt};
use skep_client::{Client, Patch};
use std::sync::Arc;

/// Adopts and releases among `candidates` by the selector, and returns what `owner` then controls.
///
/// # Errors
/// The first refused patch; what was claimed until then stays claimed.
pub(crate) async fn claim<O: Object, K: Object>(
    client: &Client,
    owner: &O,
    selector: &LabelSelector,
    candidates: Vec<Arc<K>>,
) -> Result<Vec<Arc<K>>, ApiError> {
    let mut owned = Vec::with_capacity(candidates.len());
    let mut may_adopt = None;
    for object in candidates {
        match owner::claim(
            owner.metadata(),
            object.metadata(),
            selector.matches(object.labels()),
        ) {
            Claim::Keep => owned.push(object),
            Claim::Ignore => {}
            Claim::Release => {
                let patch = Patch::strategic(&owner::release_patch(&[owner.uid()], object.uid()))?;
                release::<K>(client, &object, &patch).await?;
            }
            Claim::Adopt => {
                let allowed = match may_adopt {
                    Some(allowed) => allowed,
                    None => *may_adopt.insert(still_there::<O>(client, owner.metadata()).await?),
                };
                if allowed {
                    let reference = owner::controller_ref::<O>(owner.metadata());
                    let patch = Patch::strategic(&owner::adopt_patch(&reference, object.uid()))?;
                    owned.extend(unless_gone(client.patch::<K>(&object.key(), &patch).await)?);
                }
            }
        }
    }
    Ok(owned)
}

/// Gone, or another object of the same name (refused as invalid or conflict): released either way.
async fn release<K: Object>(client: &Client, object: &K, patch: &Patch) -> Result<(), ApiError> {
    match client.patch::<K>(&object.key(), patch).await {
        Err(error) if !error.is_not_found() && !error.is_invalid() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

/// Asks the server, not the informer: an owner that is going must adopt nothing.
async fn still_there<O: Object>(client: &Client, owner: &ObjectMeta) -> Result<bool, ApiError> {
    let found = client.find::<O>(&skep_api::ObjectKey::of(owner)).await?;
    Ok(found.is_some_and(|found| {
        found.metadata().uid == owner.uid && found.metadata().deletion_timestamp.is_none()
    }))
}

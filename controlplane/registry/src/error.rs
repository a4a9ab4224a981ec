//! From the store's errors to the API's.

use skep_api::{ApiError, GroupVersionResource};
use skep_store::StoreError;
use tracing::warn;

/// A store's error that the operation at hand gives no meaning of its own.
pub(crate) fn from_store(error: StoreError, resource: &GroupVersionResource, name: &str) -> ApiError {
    match error {
        StoreError::AlreadyExists { .. } => ApiError::already_exists(resource, name),
        StoreError::NotFound => ApiError::not_found(resource, name),
        StoreError::Conflict { .. } => ApiError::modified(resource, name),
        StoreError::Compacted { floor } => too_old(floor),
        StoreError::FutureRevision { requested, current } => {
            ApiError::too_large_resource_version(requested, current)
        }
        StoreError::TooLarge { limit, .. } => ApiError::too_large_body(limit),
        error @ (StoreError::Unavailable { .. } | StoreError::Closed | StoreError::Lagged) => {
            warn!(resource = %resource, name, error = &error as &dyn std::error::Error, "store unavailable");
            ApiError::service_unavailable(error.to_string())
        }
        error @ (StoreError::Corrupt { .. } | StoreError::Config { .. }) => ApiError::internal(error),
    }
}

/// Whether a write that failed like this may have been carried out all the same.
pub(crate) fn is_ambiguous(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. } | StoreError::Closed)
}

/// 410 for history before `floor`.
pub(crate) fn too_old(floor: u64) -> ApiError {
    ApiError::expired(format!(
        "too old resource version: history before {floor} is gone"
    ))
}

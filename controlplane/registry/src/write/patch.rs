//! Patch: an update whose proposed state is computed from the current one.

use serde_json::Value;
use skep_api::patch::{self, PatchError};
use skep_api::{ApiError, GroupVersionResource, ObjectKey, Reason, Subresource};
use tracing::debug;

use super::Target;
use super::update::check_subresource;
use crate::body;
use crate::registry::Inner;
use crate::{Patch, PatchKind, SharedObject, WriteOptions, Written};

/// A patch whose body has been read.
pub(super) enum Parsed {
    Json(patch::JsonPatch),
    Merge(Value),
    Strategic(Value),
}

impl Parsed {
    fn read(patch: &Patch) -> Result<Self, ApiError> {
        let value = || serde_json::from_slice(&patch.body).map_err(|error| malformed(&error));
        match patch.kind {
            PatchKind::Json => patch::JsonPatch::parse(&patch.body)
                .map(Self::Json)
                .map_err(refuse),
            PatchKind::Merge => Ok(Self::Merge(value()?)),
            PatchKind::Strategic => Ok(Self::Strategic(value()?)),
        }
    }

    /// The patched form of an object whose schema has this name.
    pub(super) fn apply(
        &self,
        current: Value,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Result<Value, ApiError> {
        match self {
            Self::Json(operations) => operations.apply(current),
            Self::Merge(change) => patch::merge(current, change),
            Self::Strategic(change) => patch::strategic(current, change, group, version, kind),
        }
        .map_err(refuse)
    }
}

fn malformed(error: &serde_json::Error) -> ApiError {
    ApiError::bad_request(format!("error decoding patch: {error}"))
}

fn refuse(error: PatchError) -> ApiError {
    match error {
        PatchError::Malformed(why) => ApiError::bad_request(why),
        PatchError::TooLarge(why) => ApiError::request_too_large(why),
        PatchError::Failed(why) => {
            // Upstream tells the client no more than this.
            debug!(why, "a patch does not fit its object");
            let message = "the server rejected our request due to an error in our request";
            ApiError::new(422, Reason::Invalid, message)
        }
    }
}

impl Inner {
    pub(crate) async fn patch(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        subresource: Option<Subresource>,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let target = self.target(resource, key)?;
        check_subresource(&target, subresource, "patch")?;
        let parsed = Parsed::read(patch)?;
        if subresource == Some(Subresource::Scale) {
            return self.patch_scale(&target, &parsed, options).await;
        }
        let propose = |current: &SharedObject| {
            let patched = apply(&target, &parsed, current)?;
            body::decode_patched(&target.info, patched, options.field_validation)
        };
        self.mutate(&target, subresource, options, &propose).await
    }
}

fn apply(target: &Target, parsed: &Parsed, current: &SharedObject) -> Result<Value, ApiError> {
    let value = current.object().to_value().map_err(ApiError::internal)?;
    let info = &target.info;
    parsed.apply(value, &info.gvr.group, &info.gvr.version, &info.kind)
}

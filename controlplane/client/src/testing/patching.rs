//! Applies patches, with the engines that the API server uses.

use serde_json::Value;
use skep_api::ApiError;
use skep_api::patch::{self, JsonPatch};

use super::object::text;
use crate::{ApiRequest, PatchKind};

pub(super) fn apply(kind: PatchKind, request: &ApiRequest, object: Value) -> Result<Value, ApiError> {
    let body = request.body.as_deref().unwrap_or_default();
    if kind == PatchKind::Json {
        let patched = JsonPatch::parse(body).and_then(|patch| patch.apply(object));
        return patched.map_err(|error| ApiError::bad_request(error.to_string()));
    }
    let change: Value =
        serde_json::from_slice(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let patched = match kind {
        PatchKind::Strategic => {
            let resource = &request.resource;
            let kind = text(&object, "/kind").to_owned();
            patch::strategic(object, &change, &resource.group, &resource.version, &kind)
        }
        PatchKind::Merge => patch::merge(object, &change),
        PatchKind::Json | PatchKind::Apply => return Err(ApiError::unsupported_media_type(&[])),
    };
    patched.map_err(|error| ApiError::bad_request(error.to_string()))
}

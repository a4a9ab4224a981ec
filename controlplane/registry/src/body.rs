//! From a request's body to an object of the resource's kind, with `fieldValidation`.

use skep_api::decode::Unknown;
use skep_api::resource::{DecodeError, DynObject, ResourceInfo};
use skep_api::{ApiError, FieldError};

use crate::{FieldValidation, NewObject};

/// A decoded object, and what to warn the client of.
pub(crate) struct Proposed {
    pub(crate) object: Box<dyn DynObject>,
    pub(crate) warnings: Vec<String>,
}

/// Decodes an object that a client sent whole.
pub(crate) fn decode(
    info: &ResourceInfo,
    body: &NewObject,
    validation: FieldValidation,
) -> Result<Proposed, ApiError> {
    let refuse = |why: String| {
        let version = info.gvr.api_version();
        let kind = &info.kind;
        ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    };
    let (decoded, faults) = decode_with(info, body, validation);
    let object = decoded.map_err(|DecodeError(why)| refuse(why))?;
    if validation == FieldValidation::Strict && !faults.is_empty() {
        return Err(refuse(format!("strict decoding error: {}", faults.join(", "))));
    }
    Ok(Proposed {
        object,
        warnings: faults,
    })
}

/// Decodes what a patch made of an object.
pub(crate) fn decode_patched(
    info: &ResourceInfo,
    patched: serde_json::Value,
    validation: FieldValidation,
) -> Result<Proposed, ApiError> {
    let shown = patched.to_string();
    let refuse = |why: String| ApiError::invalid("", "", "", vec![FieldError::invalid("patch", &shown, why)]);
    let (decoded, faults) = decode_with(info, &NewObject::Value(patched), validation);
    let object = decoded.map_err(|DecodeError(why)| refuse(why))?;
    if validation == FieldValidation::Strict && !faults.is_empty() {
        return Err(refuse(format!("strict decoding error: {}", faults.join(", "))));
    }
    Ok(Proposed {
        object,
        warnings: faults,
    })
}

fn decode_with(
    info: &ResourceInfo,
    body: &NewObject,
    validation: FieldValidation,
) -> (Result<Box<dyn DynObject>, DecodeError>, Vec<String>) {
    let mut unknown = Unknown::default();
    let wanted = (validation != FieldValidation::Ignore).then_some(&mut unknown);
    let decoded = match body {
        NewObject::Json(json) => info.codec.decode(json, wanted),
        NewObject::Value(value) => info.codec.decode_value(value.clone(), wanted),
    };
    (decoded, unknown.faults)
}

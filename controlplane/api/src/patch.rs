//! Patches: RFC 6902 operations, RFC 7396 merge patches and strategic merge patches, from value to value.

mod extensions;
mod facts;
mod json;
mod order;
mod strategic;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use extensions::field_extensions;
pub use json::JsonPatch;

/// A patch that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is wrong.
    #[error("{0}")]
    Malformed(String),
    /// The patch has too many operations.
    #[error("{0}")]
    TooLarge(String),
    /// The patch does not fit the object.
    #[error("{0}")]
    Failed(String),
}

/// Applies an RFC 7396 merge patch.
///
/// # Errors
/// [`PatchError::Malformed`] when the patch is no object.
pub fn merge(mut value: Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed(
            "error decoding patch: a merge patch must be an object".to_owned(),
        ));
    }
    json_patch::merge(&mut value, patch);
    Ok(value)
}

/// Applies a strategic merge patch to an object of a built-in kind.
///
/// # Errors
/// [`PatchError::Malformed`] for wrong directives or list items without their merge key.
pub fn strategic(
    value: Value,
    patch: &Value,
    group: &str,
    version: &str,
    kind: &str,
) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (value, patch) else {
        return Err(PatchError::Malformed(
            "error decoding patch: a strategic merge patch must be an object".to_owned(),
        ));
    };
    let schema = facts::facts().kind(group, version, kind);
    strategic::merge_objects(original, patch, schema).map(Value::Object)
}

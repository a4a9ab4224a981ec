//! RFC 6902 operations, bounded: neither copying nor nesting makes a small patch into a large object.

use json_patch::PatchOperation;
use serde_json::Value;

use super::PatchError;

/// Upstream's bound on the operations of one JSON patch.
const OPERATIONS_LIMIT: usize = 10_000;
/// Upstream's `JSONPatchMaxCopyBytes`: what all `copy` operations of one patch may copy, as JSON.
const COPY_LIMIT_BYTES: usize = 3 << 20;
/// How deep operations may nest values; what is deeper could not be parsed again (`serde_json`'s limit).
const DEPTH_LIMIT: usize = 128;

/// A list of RFC 6902 operations.
#[derive(Clone, Debug)]
pub struct JsonPatch(json_patch::Patch);

impl JsonPatch {
    /// # Errors
    /// [`PatchError::Malformed`] for what is no list of operations, [`PatchError::TooLarge`] for too long a one.
    pub fn parse(json: &[u8]) -> Result<Self, PatchError> {
        let patch: json_patch::Patch = serde_json::from_slice(json)
            .map_err(|error| PatchError::Malformed(format!("error decoding patch: {error}")))?;
        if patch.0.len() > OPERATIONS_LIMIT {
            return Err(PatchError::TooLarge(format!(
                "The allowed maximum operations in a JSON patch is {OPERATIONS_LIMIT}, got {}",
                patch.0.len()
            )));
        }
        Ok(Self(patch))
    }

    /// # Errors
    /// [`PatchError::Failed`] when a path does not exist, a test fails, or the patch copies or nests too much.
    pub fn apply(&self, value: Value) -> Result<Value, PatchError> {
        let mut growth = Growth {
            copied_bytes: 0,
            depth: depth(&value),
        };
        self.0
            .iter()
            .enumerate()
            .try_fold(value, |mut value, (index, operation)| {
                growth.admit(operation, &value)?;
                match json_patch::patch_unsafe(&mut value, std::slice::from_ref(operation)) {
                    Ok(()) => Ok(value),
                    Err(error) => Err(PatchError::Failed(format!(
                        "operation {index} at {:?}: {}",
                        operation.path().as_str(),
                        error.kind
                    ))),
                }
            })
    }
}

/// How much larger than the object and the patch the result may have become.
struct Growth {
    copied_bytes: usize,
    /// No value lies deeper than this.
    depth: usize,
}

impl Growth {
    fn admit(&mut self, operation: &PatchOperation, value: &Value) -> Result<(), PatchError> {
        let added_depth = match operation {
            PatchOperation::Add(add) => depth(&add.value),
            PatchOperation::Replace(replace) => depth(&replace.value),
            PatchOperation::Move(r#move) => self.depth.saturating_sub(r#move.from.count()),
            PatchOperation::Copy(copy) => match value.pointer(copy.from.as_str()) {
                Some(source) => {
                    self.copy(source)?;
                    depth(source)
                }
                None => 0,
            },
            PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
        };
        self.depth = self.depth.max(operation.path().count() + added_depth);
        if self.depth > DEPTH_LIMIT {
            return Err(PatchError::Failed(format!(
                "Unable to nest values deeper than {DEPTH_LIMIT}"
            )));
        }
        Ok(())
    }

    fn copy(&mut self, source: &Value) -> Result<(), PatchError> {
        self.copied_bytes += source.to_string().len();
        if self.copied_bytes > COPY_LIMIT_BYTES {
            return Err(PatchError::Failed(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {COPY_LIMIT_BYTES}",
                self.copied_bytes
            )));
        }
        Ok(())
    }
}

/// Values within values; 1 for a scalar.
fn depth(value: &Value) -> usize {
    let within = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(fields) => fields.values().map(depth).max(),
        _ => None,
    };
    1 + within.unwrap_or(0)
}

//! Patches: a kind and a body.

use bytes::Bytes;
use serde::Serialize;
use skep_api::ApiError;

use crate::PatchKind;

/// A patch to send with [`Client::patch`](crate::Client::patch).
#[derive(Clone, Debug)]
pub struct Patch {
    kind: PatchKind,
    body: Bytes,
}

impl Patch {
    /// A merge patch (RFC 7386): `null` removes, lists are replaced.
    ///
    /// # Errors
    /// When the value cannot be encoded.
    pub fn merge(value: &impl Serialize) -> Result<Self, ApiError> {
        Self::encode(PatchKind::Merge, value)
    }

    /// A strategic merge patch: lists merge by the keys that the API defines for them.
    ///
    /// # Errors
    /// When the value cannot be encoded.
    pub fn strategic(value: &impl Serialize) -> Result<Self, ApiError> {
        Self::encode(PatchKind::Strategic, value)
    }

    /// A JSON patch (RFC 6902): a list of operations.
    ///
    /// # Errors
    /// When the value cannot be encoded.
    pub fn json(operations: &impl Serialize) -> Result<Self, ApiError> {
        Self::encode(PatchKind::Json, operations)
    }

    fn encode(kind: PatchKind, value: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self {
            kind,
            body: crate::client::encode(value)?,
        })
    }

    /// How the body is to be read.
    #[must_use]
    pub fn kind(&self) -> PatchKind {
        self.kind
    }

    /// The encoded body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

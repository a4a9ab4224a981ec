//! What a request asks for, parsed.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use skep_api::resource::DynObject;
use skep_api::{ApiError, FieldSelector, LabelSelector, Revision};

use crate::Admission;

/// Whose objects a list or watch is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every namespace, or a cluster-scoped resource.
    All,
    Namespace(String),
}

impl Scope {
    /// The scope for a namespace, where empty means all.
    pub fn of(namespace: &str) -> Self {
        if namespace.is_empty() {
            Self::All
        } else {
            Self::Namespace(namespace.to_owned())
        }
    }
}

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadVersion {
    /// No `resourceVersion`: sees every write that was acknowledged before the request.
    #[default]
    Latest,
    /// `resourceVersion=0`: any state.
    Any,
    NotOlderThan(Revision),
    /// Exactly this revision, or 410. Lists only.
    Exact(Revision),
}

impl ReadVersion {
    /// From `resourceVersion` and `resourceVersionMatch` of a list.
    ///
    /// # Errors
    /// 400 and 422 for combinations that upstream refuses.
    pub fn from_query(
        resource_version: Option<&str>,
        version_match: Option<&str>,
        limited: bool,
    ) -> Result<Self, ApiError> {
        let version_match = version_match.filter(|text| !text.is_empty());
        let Some(text) = resource_version.filter(|text| !text.is_empty()) else {
            return match version_match {
                None => Ok(Self::Latest),
                Some(_) => Err(ApiError::bad_request(
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                )),
            };
        };
        let revision = parse_revision(text)?;
        match (version_match, revision.0) {
            (Some("Exact"), 0) => Err(ApiError::bad_request(
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            )),
            (Some("Exact"), _) => Ok(Self::Exact(revision)),
            (Some("NotOlderThan") | None, 0) => Ok(Self::Any),
            (Some("NotOlderThan"), _) => Ok(Self::NotOlderThan(revision)),
            // The legacy rule: a page at a revision is that revision.
            (None, _) if limited => Ok(Self::Exact(revision)),
            (None, _) => Ok(Self::NotOlderThan(revision)),
            (Some(other), _) => Err(ApiError::bad_request(format!(
                "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
            ))),
        }
    }
}

/// Parses a client's `resourceVersion`.
///
/// # Errors
/// 400 in upstream's words.
pub fn parse_revision(text: &str) -> Result<Revision, ApiError> {
    text.parse()
        .map_err(|error| ApiError::bad_request(format!("Invalid value: {text:?}: {error}")))
}

#[derive(Clone, Debug, Default)]
pub struct GetOptions {
    /// [`ReadVersion::Exact`] is taken as not older.
    pub version: ReadVersion,
}

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub version: ReadVersion,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// At most so many items; the rest by `continue_token`.
    pub limit: Option<usize>,
    pub continue_token: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// `None`: begins with the state, fresh. 0: begins with any state. Else: what happens after it, or, with
    /// `send_initial_events`, begins with a state that is not older.
    pub resource_version: Option<Revision>,
    pub bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

/// What to do about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

impl FieldValidation {
    /// From the `fieldValidation` query parameter.
    ///
    /// # Errors
    /// 422-like 400 for other values.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => Err(ApiError::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }
}

#[derive(Clone, Default)]
pub struct WriteOptions {
    /// Do everything but write.
    pub dry_run: bool,
    pub field_validation: FieldValidation,
    /// `None` admits everything.
    pub admission: Option<Arc<dyn Admission>>,
}

impl WriteOptions {
    pub(crate) fn admit(&self, new: &dyn DynObject, old: Option<&dyn DynObject>) -> Result<(), ApiError> {
        self.admission
            .as_ref()
            .map_or(Ok(()), |admission| admission.admit(new, old))
    }
}

/// What happens to an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    /// Delete only the object with this uid.
    pub uid: Option<String>,
    /// Delete only the object at this revision.
    pub resource_version: Option<Revision>,
    pub propagation: Option<Propagation>,
}

/// An object as a client sent it.
#[derive(Clone, Debug)]
pub enum NewObject {
    Json(Bytes),
    Value(Value),
}

impl From<Bytes> for NewObject {
    fn from(json: Bytes) -> Self {
        Self::Json(json)
    }
}

impl From<Value> for NewObject {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// How a patch's body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
}

#[derive(Clone, Debug)]
pub struct Patch {
    pub kind: PatchKind,
    pub body: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_versions_follow_upstreams_table() {
        let parse = |version, version_match, limited| {
            ReadVersion::from_query(version, version_match, limited).map_err(|error| error.code)
        };
        let five = Revision(5);
        let cases = [
            (None, None, false, Ok(ReadVersion::Latest)),
            (Some(""), None, true, Ok(ReadVersion::Latest)),
            (Some("0"), None, false, Ok(ReadVersion::Any)),
            (Some("0"), None, true, Ok(ReadVersion::Any)),
            (Some("0"), Some("NotOlderThan"), false, Ok(ReadVersion::Any)),
            (Some("0"), Some("Exact"), false, Err(400)),
            (Some("5"), None, false, Ok(ReadVersion::NotOlderThan(five))),
            (Some("5"), None, true, Ok(ReadVersion::Exact(five))),
            (
                Some("5"),
                Some("NotOlderThan"),
                true,
                Ok(ReadVersion::NotOlderThan(five)),
            ),
            (Some("5"), Some("Exact"), false, Ok(ReadVersion::Exact(five))),
            (None, Some("Exact"), false, Err(400)),
            (Some("5"), Some("Other"), false, Err(400)),
            (Some("x"), None, false, Err(400)),
        ];
        for (version, version_match, limited, expected) in cases {
            assert_eq!(
                parse(version, version_match, limited),
                expected,
                "{version:?} {version_match:?}"
            );
        }
    }
}

//! [`FieldError`]: what is wrong with one field, in upstream's text shape; [`FieldPath`]: where it is.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde::Serialize;

/// The kind of a field's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    Required,
    Invalid,
    Duplicate,
    Forbidden,
    NotSupported,
    NotFound,
    TooLong,
    TooMany,
    TypeInvalid,
    Internal,
}

impl FieldErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::NotSupported => "Unsupported value",
            Self::NotFound => "Not found",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotSupported => "FieldValueNotSupported",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    /// Whether the text names the offending value.
    fn shows_value(self) -> bool {
        matches!(
            self,
            Self::Invalid | Self::TypeInvalid | Self::Duplicate | Self::NotSupported | Self::NotFound
        )
    }
}

/// What is wrong with one field. Its text is `path: Kind: value: detail`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub path: String,
    pub kind: FieldErrorKind,
    pub detail: String,
    /// The offending value as shown, already quoted where it is a string.
    pub value: Option<String>,
}

impl FieldError {
    fn new(path: impl Into<FieldPath>, kind: FieldErrorKind, detail: impl Into<String>) -> Self {
        Self {
            path: path.into().0,
            kind,
            detail: detail.into(),
            value: None,
        }
    }

    fn of(mut self, value: impl Serialize) -> Self {
        self.value = serde_json::to_string(&value).ok();
        self
    }

    pub fn required(path: impl Into<FieldPath>, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Required, detail)
    }

    pub fn invalid(path: impl Into<FieldPath>, value: impl Serialize, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Invalid, detail).of(value)
    }

    pub fn duplicate(path: impl Into<FieldPath>, value: impl Serialize) -> Self {
        Self::new(path, FieldErrorKind::Duplicate, "").of(value)
    }

    pub fn forbidden(path: impl Into<FieldPath>, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Forbidden, detail)
    }

    /// A value that is not among the `supported` ones.
    pub fn not_supported(path: impl Into<FieldPath>, value: impl Serialize, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        Self::new(
            path,
            FieldErrorKind::NotSupported,
            format!("supported values: {}", quoted.join(", ")),
        )
        .of(value)
    }

    pub fn not_found(path: impl Into<FieldPath>, value: impl Serialize) -> Self {
        Self::new(path, FieldErrorKind::NotFound, "").of(value)
    }

    pub fn too_long(path: impl Into<FieldPath>, limit_bytes: usize) -> Self {
        Self::new(
            path,
            FieldErrorKind::TooLong,
            format!("may not be more than {limit_bytes} bytes"),
        )
    }

    pub fn too_many(path: impl Into<FieldPath>, actual: usize, limit: usize) -> Self {
        Self::new(
            path,
            FieldErrorKind::TooMany,
            format!("must have at most {limit} items"),
        )
        .of(actual)
    }

    pub fn internal(path: impl Into<FieldPath>, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Internal, detail)
    }

    /// The text without the path, as in a `StatusCause`.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        let value = match self.kind {
            FieldErrorKind::TooMany => self.value.as_deref(),
            kind if kind.shows_value() => self.value.as_deref(),
            _ => None,
        };
        for part in [value.unwrap_or(""), &self.detail] {
            if !part.is_empty() {
                text.push_str(": ");
                text.push_str(part);
            }
        }
        text
    }

    pub(super) fn to_cause(&self) -> StatusCause {
        StatusCause {
            reason: Some(self.kind.reason().to_owned()),
            message: Some(self.body()),
            field: Some(self.path.clone()),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// Where a field is: `spec.containers[0].ports[1].name`, `metadata.labels[app]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(String);

impl FieldPath {
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            Self(format!("{}.{name}", self.0))
        }
    }

    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for FieldPath {
    fn from(path: &str) -> Self {
        Self(path.to_owned())
    }
}

impl From<String> for FieldPath {
    fn from(path: String) -> Self {
        Self(path)
    }
}

impl From<&FieldPath> for FieldPath {
    fn from(path: &FieldPath) -> Self {
        path.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_as_upstream() {
        let ports = FieldPath::new("spec").child("ports").index(0).child("port");
        let cases = [
            (
                FieldError::invalid(&ports, 0, "must be between 1 and 65535, inclusive"),
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (FieldError::required("spec.x", ""), "spec.x: Required value"),
            (
                FieldError::duplicate("spec.x", "a"),
                r#"spec.x: Duplicate value: "a""#,
            ),
            (
                FieldError::not_supported("spec.type", "Foo", &["A", "B"]),
                r#"spec.type: Unsupported value: "Foo": supported values: "A", "B""#,
            ),
            (FieldError::forbidden("spec", "no"), "spec: Forbidden: no"),
            (
                FieldError::too_long("data", 5),
                "data: Too long: may not be more than 5 bytes",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}

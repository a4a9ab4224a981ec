//! [`ApiError`]: a refused or failed request, in upstream's wording, and its form on the wire (`Status`).

mod field;
mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{StatusCause, StatusDetails};

pub use field::{FieldError, FieldErrorKind, FieldPath};
pub use status::Reason;

use crate::GroupVersionResource;
use crate::gvr::qualified;

/// A refused or failed API request.
///
/// `code` is the HTTP status; 0 means that the request never got an answer (a client's transport failed).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: u16,
    pub reason: Reason,
    pub message: String,
    pub details: Option<Box<StatusDetails>>,
    /// Seconds after which the request may be sent again.
    pub retry_after: Option<u32>,
    /// Where a list whose pages are forgotten can go on, in whatever state is then current.
    pub continue_token: Option<String>,
}

impl ApiError {
    pub fn new(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            retry_after: None,
            continue_token: None,
        }
    }

    fn with_details(mut self, details: StatusDetails) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    fn about(self, resource: &GroupVersionResource, name: &str) -> Self {
        self.with_details(StatusDetails {
            name: non_empty(name),
            group: non_empty(&resource.group),
            kind: non_empty(&resource.resource),
            ..StatusDetails::default()
        })
    }

    /// Adds one cause to the details.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.causes.get_or_insert_default().push(StatusCause {
            reason: non_empty(reason),
            message: non_empty(message),
            field: non_empty(field),
        });
        self
    }

    pub fn not_found(resource: &GroupVersionResource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.group_resource());
        Self::new(404, Reason::NotFound, message).about(resource, name)
    }

    /// No such path or resource type at all.
    pub fn unknown_path() -> Self {
        Self::new(
            404,
            Reason::NotFound,
            "the server could not find the requested resource",
        )
        .with_details(StatusDetails::default())
    }

    pub fn already_exists(resource: &GroupVersionResource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.group_resource());
        Self::new(409, Reason::AlreadyExists, message).about(resource, name)
    }

    /// `generateName` did not find a free name in a bounded number of attempts.
    pub fn generate_name_conflict(resource: &GroupVersionResource, name: &str) -> Self {
        let message = format!(
            "{} {name:?} already exists, the server was not able to generate a unique name for the object",
            resource.group_resource()
        );
        let mut error = Self::new(409, Reason::AlreadyExists, message).about(resource, name);
        error.retry_after = Some(1);
        error
    }

    pub fn conflict(resource: &GroupVersionResource, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            resource.group_resource()
        );
        Self::new(409, Reason::Conflict, message).about(resource, name)
    }

    /// The usual [`Self::conflict`]: another writer was faster.
    pub fn modified(resource: &GroupVersionResource, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// `group` and `kind` of the refused object, and everything that is wrong with it.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: Vec<FieldError>) -> Self {
        let mut texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        texts.dedup();
        let list = if texts.len() == 1 {
            texts.remove(0)
        } else {
            format!("[{}]", texts.join(", "))
        };
        let message = format!("{} {name:?} is invalid: {list}", qualified(kind, group));
        Self::new(422, Reason::Invalid, message).with_details(StatusDetails {
            name: non_empty(name),
            group: non_empty(group),
            kind: non_empty(kind),
            causes: Some(errors.iter().map(FieldError::to_cause).collect()),
            ..StatusDetails::default()
        })
    }

    pub fn forbidden(resource: &GroupVersionResource, name: &str, why: &str) -> Self {
        let on = resource.group_resource();
        let message = match (on.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{on} is forbidden: {why}"),
            (false, false) => format!("{on} {name:?} is forbidden: {why}"),
        };
        Self::new(403, Reason::Forbidden, message).about(resource, name)
    }

    pub fn unauthorized(why: &str) -> Self {
        Self::new(
            401,
            Reason::Unauthorized,
            if why.is_empty() { "Unauthorized" } else { why },
        )
    }

    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, Reason::BadRequest, why)
    }

    /// The asked-for history is gone: 410 with reason `Gone`.
    pub fn gone(why: impl Into<String>) -> Self {
        Self::new(410, Reason::Gone, why)
    }

    /// The asked-for revision is too old: 410 with reason `Expired`, on which clients list again.
    pub fn expired(why: impl Into<String>) -> Self {
        Self::new(410, Reason::Expired, why)
    }

    /// A revision was asked for that the server has not reached.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let mut error = Self::new(504, Reason::Timeout, message).with_cause(
            "ResourceVersionTooLarge",
            "Too large resource version",
            "",
        );
        error.retry_after = Some(1);
        error
    }

    /// Whether this is [`Self::too_large_resource_version`].
    pub fn is_too_large_resource_version(&self) -> bool {
        let causes = self.details.as_ref().and_then(|details| details.causes.as_ref());
        causes.is_some_and(|causes| {
            causes
                .iter()
                .any(|cause| cause.reason.as_deref() == Some("ResourceVersionTooLarge"))
        })
    }

    pub fn method_not_supported(resource: &GroupVersionResource, action: &str) -> Self {
        let message = format!(
            "{action} is not supported on resources of kind {:?}",
            resource.group_resource()
        );
        Self::new(405, Reason::MethodNotAllowed, message).about(resource, "")
    }

    /// The request's body is in none of the `accepted` media types.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, Reason::UnsupportedMediaType, message)
    }

    /// None of the `offered` media types is acceptable to the client.
    pub fn not_acceptable(offered: &[&str]) -> Self {
        let message = format!(
            "only the following media types are accepted: {}",
            offered.join(", ")
        );
        Self::new(406, Reason::NotAcceptable, message)
    }

    pub fn too_large_body(limit_bytes: usize) -> Self {
        Self::request_too_large(format!("limit is {limit_bytes}"))
    }

    pub fn request_too_large(why: impl std::fmt::Display) -> Self {
        let message = format!("Request entity too large: {why}");
        Self::new(413, Reason::RequestEntityTooLarge, message)
    }

    pub fn internal(why: impl std::fmt::Display) -> Self {
        let why = why.to_string();
        Self::new(
            500,
            Reason::InternalError,
            format!("Internal error occurred: {why}"),
        )
        .with_cause("", &why, "")
    }

    pub fn timeout(why: impl std::fmt::Display, retry_after_seconds: u32) -> Self {
        let mut error = Self::new(504, Reason::Timeout, format!("Timeout: {why}"));
        error.retry_after = Some(retry_after_seconds);
        error
    }

    pub fn service_unavailable(why: impl Into<String>) -> Self {
        Self::new(503, Reason::ServiceUnavailable, why)
    }

    /// A client's request got no answer: whether it was carried out is unknown.
    pub fn connection(why: impl Into<String>) -> Self {
        Self::new(0, Reason::ServiceUnavailable, why)
    }

    pub fn too_many_requests(why: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut error = Self::new(429, Reason::TooManyRequests, why);
        error.retry_after = Some(retry_after_seconds);
        error
    }

    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }

    pub fn is_conflict(&self) -> bool {
        self.reason == Reason::Conflict
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason == Reason::AlreadyExists
    }

    /// 410 in either form: the reader must list again.
    pub fn is_gone(&self) -> bool {
        self.code == 410
    }

    pub fn is_invalid(&self) -> bool {
        self.reason == Reason::Invalid
    }

    pub fn is_forbidden(&self) -> bool {
        self.reason == Reason::Forbidden
    }

    /// Whether the same request may succeed later without anyone changing it.
    pub fn is_retriable(&self) -> bool {
        matches!(self.code, 0 | 429 | 500 | 503 | 504)
    }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: GroupVersionResource = GroupVersionResource::new("", "v1", "pods");
    const DEPLOYMENTS: GroupVersionResource = GroupVersionResource::new("apps", "v1", "deployments");

    #[test]
    fn messages_read_as_upstream() {
        let cases = [
            (ApiError::not_found(&PODS, "a"), 404, r#"pods "a" not found"#),
            (
                ApiError::already_exists(&DEPLOYMENTS, "a"),
                409,
                r#"deployments.apps "a" already exists"#,
            ),
            (
                ApiError::modified(&PODS, "a"),
                409,
                "Operation cannot be fulfilled on pods \"a\": the object has been modified; please apply your changes to the latest version and try again",
            ),
            (ApiError::forbidden(&PODS, "", "no"), 403, "pods is forbidden: no"),
            (
                ApiError::forbidden(&PODS, "a", "no"),
                403,
                r#"pods "a" is forbidden: no"#,
            ),
            (
                ApiError::too_large_resource_version(9, 4),
                504,
                "Too large resource version: 9, current: 4",
            ),
            (ApiError::internal("x"), 500, "Internal error occurred: x"),
            (
                ApiError::invalid(
                    "apps",
                    "Deployment",
                    "a",
                    vec![
                        FieldError::required("spec.selector", ""),
                        FieldError::invalid("spec.replicas", -1, "must be greater than or equal to 0"),
                    ],
                ),
                422,
                "Deployment.apps \"a\" is invalid: [spec.selector: Required value, spec.replicas: Invalid value: -1: must be greater than or equal to 0]",
            ),
        ];
        for (error, code, message) in cases {
            assert_eq!((error.code, error.message.as_str()), (code, message));
        }
    }

    #[test]
    fn survives_the_wire() {
        for error in [
            ApiError::not_found(&PODS, "a"),
            ApiError::too_large_resource_version(9, 4),
            ApiError::invalid("", "Pod", "a", vec![FieldError::required("spec", "why")]),
            ApiError::expired("too old"),
        ] {
            let again = ApiError::from_status(error.to_status());
            assert_eq!(again.code, error.code);
            assert_eq!(again.reason, error.reason);
            assert_eq!(again.retry_after, error.retry_after);
            assert_eq!(
                again.is_too_large_resource_version(),
                error.is_too_large_resource_version()
            );
        }
    }
}

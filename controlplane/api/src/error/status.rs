//! The wire form of an [`ApiError`]: `meta/v1 Status`, and its reasons.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status, StatusDetails};

use super::ApiError;

macro_rules! reasons {
    ($($name:ident),* $(,)?) => {
        /// Why a request failed, as machines read it.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($name,)*
            /// A reason that this version does not know; may be empty.
            Other(Cow<'static, str>),
        }

        impl Reason {
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Other(text) => text,
                }
            }

            pub fn parse(text: &str) -> Self {
                match text {
                    $(stringify!($name) => Self::$name,)*
                    other => Self::Other(Cow::Owned(other.to_owned())),
                }
            }
        }
    };
}

reasons!(
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
);

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ApiError {
    /// The `Status` object that tells a client of this error.
    pub fn to_status(&self) -> Status {
        let mut details = self.details.as_deref().cloned();
        if let Some(seconds) = self.retry_after {
            let details = details.get_or_insert_with(StatusDetails::default);
            details.retry_after_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
        }
        Status {
            status: Some("Failure".to_owned()),
            message: Some(self.message.clone()),
            reason: (!self.reason.as_str().is_empty()).then(|| self.reason.as_str().to_owned()),
            details,
            code: Some(i32::from(self.code)),
            metadata: ListMeta {
                continue_: self.continue_token.clone(),
                ..ListMeta::default()
            },
        }
    }

    /// The error that a `Status` with `status: Failure` tells of.
    pub fn from_status(status: Status) -> Self {
        let retry_after = status
            .details
            .as_ref()
            .and_then(|details| details.retry_after_seconds);
        Self {
            code: status
                .code
                .and_then(|code| u16::try_from(code).ok())
                .unwrap_or(500),
            reason: Reason::parse(status.reason.as_deref().unwrap_or("")),
            message: status.message.unwrap_or_else(|| "unknown error".to_owned()),
            retry_after: retry_after.and_then(|seconds| u32::try_from(seconds).ok()),
            details: status.details.map(Box::new),
            continue_token: status.metadata.continue_,
        }
    }
}

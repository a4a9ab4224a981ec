//! What can go wrong when speaking to a runtime.

/// A failed call to the runtime.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call}: {message}")]
pub struct RuntimeError {
    /// The name of the CRI call.
    pub call: &'static str,
    /// What kind of failure it was; callers decide by this, never by the text.
    pub kind: RuntimeErrorKind,
    /// The runtime's own words.
    pub message: String,
}

/// The failures that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeErrorKind {
    /// The runtime cannot be reached: it is absent, or starting again.
    Unavailable,
    /// No such sandbox, container or image.
    NotFound,
    /// A sandbox or container of that name and attempt exists or is being made.
    AlreadyExists,
    /// The runtime does not know this call.
    Unimplemented,
    /// The call, or the command that it ran, took longer than allowed.
    DeadlineExceeded,
    /// Everything else.
    Other,
}

impl RuntimeError {
    /// An error of the given kind, for implementations of the trait.
    pub fn new(call: &'static str, kind: RuntimeErrorKind, message: impl Into<String>) -> Self {
        Self {
            call,
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn from_status(call: &'static str, status: &tonic::Status) -> Self {
        let kind = match status.code() {
            tonic::Code::Unavailable => RuntimeErrorKind::Unavailable,
            tonic::Code::NotFound => RuntimeErrorKind::NotFound,
            tonic::Code::AlreadyExists => RuntimeErrorKind::AlreadyExists,
            tonic::Code::Unimplemented => RuntimeErrorKind::Unimplemented,
            tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => RuntimeErrorKind::DeadlineExceeded,
            _ => RuntimeErrorKind::Other,
        };
        Self::new(call, kind, status.message())
    }

    /// Whether the thing that the call named does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind == RuntimeErrorKind::NotFound
    }

    /// Whether the runtime lacks this call.
    pub fn is_unimplemented(&self) -> bool {
        self.kind == RuntimeErrorKind::Unimplemented
    }
}

//! The seam between the client and whatever carries its requests.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use skep_api::ApiError;

use crate::{ApiRequest, ApiResponse, RawWatchEvent};

/// Events of one watch, in revision order. Ends when the server closes it; after an `Err` nothing follows.
pub type RawWatchStream = BoxStream<'static, Result<RawWatchEvent, ApiError>>;

/// Carries requests to an API server. Implementations authenticate; the server authorizes on every transport alike.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends any request but a watch.
    ///
    /// # Errors
    /// The server's refusal, or [`ApiError::connection`] when there was no answer.
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError>;

    /// Opens a watch. Returns once the server has accepted it.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    async fn watch(&self, request: ApiRequest) -> Result<RawWatchStream, ApiError>;

    /// The body of a path outside the resources (`/healthz`, `/version`).
    ///
    /// # Errors
    /// As [`send`](Self::send); transports without paths refuse.
    async fn get_raw(&self, path: &str) -> Result<Bytes, ApiError> {
        Err(ApiError::internal(format!(
            "this transport has no paths, asked for {path}"
        )))
    }
}

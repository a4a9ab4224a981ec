//! What a transport gives back before the client types it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use skep_api::{ApiError, Object, Revision};

use crate::request::decode_json;

/// An object as JSON, as a shared decoded value, or as both. At least one is there.
#[derive(Clone)]
pub struct RawObject {
    /// With apiVersion, kind and resourceVersion.
    pub json: Option<Bytes>,
    /// An `Arc<K>` of the request's kind.
    pub decoded: Option<Arc<dyn Any + Send + Sync>>,
}

impl RawObject {
    /// From encoded JSON.
    #[must_use]
    pub fn from_json(json: Bytes) -> Self {
        Self {
            json: Some(json),
            decoded: None,
        }
    }

    /// From a decoded object, shared.
    #[must_use]
    pub fn from_decoded<K: Object>(object: Arc<K>) -> Self {
        Self {
            json: None,
            decoded: Some(object),
        }
    }

    /// The object as `K`: the shared value if it is one, else decoded from JSON.
    ///
    /// # Errors
    /// When the object is no `K`.
    pub fn decode<K: Object>(self) -> Result<Arc<K>, ApiError> {
        if let Some(decoded) = self.decoded
            && let Ok(object) = decoded.downcast::<K>()
        {
            return Ok(object);
        }
        match self.json {
            Some(json) => Ok(Arc::new(decode_json(&json)?)),
            None => Err(ApiError::internal(format!(
                "the transport's answer is no {}",
                K::KIND
            ))),
        }
    }
}

impl fmt::Debug for RawObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawObject")
            .field("json", &self.json)
            .field("decoded", &self.decoded.is_some())
            .finish()
    }
}

/// The answer to a request other than a watch.
#[derive(Clone, Debug)]
pub enum ApiResponse {
    Object(RawObject),
    List {
        revision: Revision,
        continue_token: Option<String>,
        items: Vec<RawObject>,
    },
    /// Success without an object (a deletion that left nothing).
    Status(Box<Status>),
}

/// One event of a watch. A failure inside the stream (410, closed by the server) is the stream's `Err`.
#[derive(Clone, Debug)]
pub enum RawWatchEvent {
    Added(RawObject),
    Modified(RawObject),
    Deleted(RawObject),
    Bookmark {
        revision: Revision,
        initial_events_end: bool,
    },
}

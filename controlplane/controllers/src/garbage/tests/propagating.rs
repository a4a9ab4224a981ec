//! What the API in memory leaves out of a deletion: the propagation policy as a finalizer.

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use skep_api::ApiError;
use skep_client::testing::FakeTransport;
use skep_client::{ApiRequest, ApiResponse, Client, PatchKind, RawWatchStream, Transport, Verb};
use std::sync::Arc;

pub(super) struct Propagating(FakeTransport);

impl Propagating {
    pub(super) fn client(api: &FakeTransport) -> Client {
        Client::with_transport(Arc::new(Self(api.clone())))
    }
}

#[async_trait]
impl Transport for Propagating {
    async fn send(&self, mut request: ApiRequest) -> Result<ApiResponse, ApiError> {
        if request.verb == Verb::Delete {
            let mut options: Value = request
                .body
                .as_ref()
                .map_or(json!({}), |body| serde_json::from_slice(body).unwrap());
            let finalizer = match options["propagationPolicy"].as_str() {
                Some("Foreground") => "foregroundDeletion",
                Some("Orphan") => "orphan",
                _ => return self.0.send(request).await,
            };
            // The revision asked for is checked by this patch.
            let mut patch = request.clone();
            patch.verb = Verb::Patch(PatchKind::Merge);
            let revision = options["preconditions"]["resourceVersion"].take();
            let mut metadata = json!({ "finalizers": [finalizer] });
            if revision.is_string() {
                metadata["resourceVersion"] = revision;
            }
            patch.body = Some(Bytes::from(json!({ "metadata": metadata }).to_string()));
            self.0.send(patch).await?;
            if let Some(preconditions) = options["preconditions"].as_object_mut() {
                preconditions.remove("resourceVersion");
            }
            request.body = Some(Bytes::from(options.to_string()));
        }
        self.0.send(request).await
    }

    async fn watch(&self, request: ApiRequest) -> Result<RawWatchStream, ApiError> {
        self.0.watch(request).await
    }
}

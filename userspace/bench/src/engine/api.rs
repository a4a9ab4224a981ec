//! An API in memory, as fast as a server can be: lists and watches hand out shared objects.
//!
//! What a proxy is measured with when the server's own time is not to be part of it. It holds Services and
//! EndpointSlices; everything else is empty, and writes are refused.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use skep_api::{ApiError, Object, Revision, gvr_of};
use skep_client::{
    ApiRequest, ApiResponse, Client, RawObject, RawWatchEvent, RawWatchStream, Transport, Verb,
};
use tokio::sync::mpsc;

use crate::engine::services::Objects;

/// Changes that may wait for a watcher.
const WATCH_BUFFER: usize = 65_536;

/// The revision of what is there from the start.
const FIRST: Revision = Revision(1);

struct State {
    revision: u64,
    objects: Objects,
    watchers: Vec<mpsc::Sender<Arc<EndpointSlice>>>,
}

/// The API. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct MemoryApi {
    state: Arc<Mutex<State>>,
}

impl MemoryApi {
    /// An API that holds these objects, once it is asked for them: they are handed over, not kept, so that a
    /// proxy's memory is its own.
    pub(crate) fn new(mut objects: Objects) -> Self {
        let first = || Some(FIRST.to_string());
        for service in &mut objects.services {
            Arc::make_mut(service).metadata.resource_version = first();
        }
        for slice in &mut objects.slices {
            Arc::make_mut(slice).metadata.resource_version = first();
        }
        Self {
            state: Arc::new(Mutex::new(State {
                revision: FIRST.0,
                objects,
                watchers: Vec::new(),
            })),
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::with_transport(Arc::new(self.clone()))
    }

    /// Whether somebody watches EndpointSlices.
    pub(crate) fn is_watched(&self) -> bool {
        !self.state.lock().watchers.is_empty()
    }

    /// An EndpointSlice changed: every watcher has it in its queue when this returns.
    ///
    /// # Errors
    /// [`ApiError`] when a watcher is too far behind, or nobody watches.
    pub(crate) fn change(&self, mut slice: EndpointSlice) -> Result<(), ApiError> {
        let mut state = self.state.lock();
        state.revision += 1;
        slice.metadata.resource_version = Some(state.revision.to_string());
        let slice = Arc::new(slice);
        if state.watchers.is_empty() {
            return Err(ApiError::internal("nobody watches EndpointSlices"));
        }
        for watcher in &state.watchers {
            watcher
                .try_send(Arc::clone(&slice))
                .map_err(|error| ApiError::internal(format!("a watcher: {error}")))?;
        }
        Ok(())
    }
}

fn decoded<K: Object>(objects: Vec<Arc<K>>) -> Vec<RawObject> {
    objects.into_iter().map(RawObject::from_decoded).collect()
}

#[async_trait]
impl Transport for MemoryApi {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        if request.verb != Verb::List {
            return Err(ApiError::internal("this API only lists and watches"));
        }
        let mut state = self.state.lock();
        let items = if request.resource == gvr_of::<Service>() {
            decoded(std::mem::take(&mut state.objects.services))
        } else if request.resource == gvr_of::<EndpointSlice>() {
            decoded(std::mem::take(&mut state.objects.slices))
        } else {
            Vec::new()
        };
        Ok(ApiResponse::List {
            revision: Revision(state.revision),
            continue_token: None,
            items,
        })
    }

    async fn watch(&self, request: ApiRequest) -> Result<RawWatchStream, ApiError> {
        if request.resource != gvr_of::<EndpointSlice>() {
            return Ok(stream::pending().boxed());
        }
        let (sender, mut changes) = mpsc::channel(WATCH_BUFFER);
        self.state.lock().watchers.push(sender);
        let events = stream::poll_fn(move |context| changes.poll_recv(context));
        Ok(events
            .map(|slice| Ok(RawWatchEvent::Modified(RawObject::from_decoded(slice))))
            .boxed())
    }
}

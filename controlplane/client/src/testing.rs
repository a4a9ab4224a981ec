//! An API in memory, for the tests of whatever speaks to the API.
//!
//! [`FakeTransport`] models what clients can observe: revisions that rise with every write, optimistic concurrency,
//! separate status, generation, graceful deletion of scheduled pods, finalizers, bindings, selectors, paged lists, and
//! watches that resume, end, break and expire. It knows no kinds: nothing is defaulted or validated, namespaces need not
//! exist, and a created object keeps the status that it was given, so that tests can begin anywhere.

mod object;
mod patching;
mod state;
mod watching;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use parking_lot::Mutex;
use serde_json::Value;
use skep_api::{ApiError, Object, ObjectExt, ObjectKey, Revision, gvr_of};
use tokio::sync::watch;

use crate::transport::{RawWatchStream, Transport};
use crate::{ApiRequest, ApiResponse, Client, RawObject, Verb};
use state::{Outcome, State};

type Matcher = Box<dyn Fn(&ApiRequest) -> bool + Send + Sync>;

/// A failure to inject: into so many more requests that match.
struct Fault {
    matches: Matcher,
    times: usize,
    error: ApiError,
}

struct Inner {
    state: Mutex<State>,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<Vec<ApiRequest>>,
    /// Told of every change that watches must look at.
    changed: watch::Sender<()>,
}

/// The API. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct FakeTransport {
    inner: Arc<Inner>,
}

impl fmt::Debug for FakeTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeTransport")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

impl Default for FakeTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeTransport {
    /// An API without objects. Its clock starts at the present and follows tokio's, paused or not.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner {
            state: Mutex::new(State::new()),
            faults: Mutex::default(),
            requests: Mutex::default(),
            changed: watch::Sender::new(()),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// A client of this API.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::with_transport(Arc::new(self.clone()))
    }

    /// The revision of the last write.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.inner.state.lock().revision()
    }

    /// Creates the object, or replaces it whole, status and all, whatever its resourceVersion. Returns it as stored.
    ///
    /// # Panics
    /// When the object cannot be encoded.
    pub fn put<K: Object>(&self, object: &K) -> K {
        let value = serde_json::to_value(object).expect("API objects encode as JSON");
        let stored = self.inner.state.lock().put(&gvr_of::<K>(), object.key(), value);
        self.inner.changed.send_replace(());
        typed(&stored)
    }

    /// Removes the object at once, finalizers or not.
    pub fn remove<K: Object>(&self, key: &ObjectKey) {
        self.inner.state.lock().remove(&gvr_of::<K>(), key);
        self.inner.changed.send_replace(());
    }

    /// The object as stored.
    #[must_use]
    pub fn get<K: Object>(&self, key: &ObjectKey) -> Option<K> {
        self.inner.state.lock().find(&gvr_of::<K>(), key).map(typed)
    }

    /// All objects of the kind, in the order of their keys.
    #[must_use]
    pub fn all<K: Object>(&self) -> Vec<K> {
        self.inner.state.lock().all(&gvr_of::<K>()).map(typed).collect()
    }

    /// Every request so far (watches too) that was not made to fail, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<ApiRequest> {
        self.inner.requests.lock().clone()
    }

    /// The requests so far other than gets, lists and watches, as `create pods in default`.
    #[must_use]
    pub fn writes(&self) -> Vec<String> {
        let reads = [Verb::Get, Verb::List, Verb::Watch];
        self.requests()
            .iter()
            .filter(|request| !reads.contains(&request.verb))
            .map(ToString::to_string)
            .collect()
    }

    /// Makes the next `times` requests fail, whatever they are. Zero takes back what is left of earlier calls.
    pub fn fail_next(&self, times: usize, error: ApiError) {
        self.fail_matching(times, error, |_| true);
    }

    /// Makes the next `times` requests that match fail. Zero takes back what is left of all earlier calls.
    pub fn fail_matching(
        &self,
        times: usize,
        error: ApiError,
        matches: impl Fn(&ApiRequest) -> bool + Send + Sync + 'static,
    ) {
        let mut faults = self.inner.faults.lock();
        if times == 0 {
            faults.clear();
        } else {
            faults.push(Fault {
                matches: Box::new(matches),
                times,
                error,
            });
        }
    }

    /// Ends every open watch as a server does: without an error.
    pub fn close_watches(&self) {
        self.inner.state.lock().end_watches(None);
        self.inner.changed.send_replace(());
    }

    /// Breaks every open watch: the stream ends with an error.
    pub fn break_watches(&self, error: ApiError) {
        self.inner.state.lock().end_watches(Some(error));
        self.inner.changed.send_replace(());
    }

    /// Forgets the history: watches from before now, and continue tokens, are answered with 410.
    pub fn compact(&self) {
        self.inner.state.lock().compact();
    }

    /// Sends a bookmark to every open watch that asked for them.
    pub fn send_bookmarks(&self) {
        self.inner.state.lock().bookmark();
        self.inner.changed.send_replace(());
    }

    fn admit(&self, request: &ApiRequest) -> Result<(), ApiError> {
        let mut faults = self.inner.faults.lock();
        if let Some(position) = faults.iter().position(|fault| (fault.matches)(request)) {
            let fault = &mut faults[position];
            let error = fault.error.clone();
            fault.times -= 1;
            if fault.times == 0 {
                faults.remove(position);
            }
            return Err(error);
        }
        drop(faults);
        self.inner.requests.lock().push(request.clone());
        Ok(())
    }
}

fn typed<K: Object>(value: &Value) -> K {
    serde_json::from_value(value.clone()).expect("objects are stored under their own kind")
}

fn raw(value: &Value) -> RawObject {
    RawObject::from_json(value.to_string().into())
}

#[async_trait]
impl Transport for FakeTransport {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        // As with a network, others run between a request and its answer.
        tokio::task::yield_now().await;
        self.admit(&request)?;
        let outcome = self.inner.state.lock().handle(&request)?;
        self.inner.changed.send_replace(());
        Ok(match outcome {
            Outcome::Object(value) => ApiResponse::Object(raw(&value)),
            Outcome::Done => ApiResponse::Status(Box::new(Status {
                status: Some("Success".to_owned()),
                ..Status::default()
            })),
            Outcome::List {
                revision,
                continue_token,
                items,
            } => ApiResponse::List {
                revision,
                continue_token,
                items: items.iter().map(raw).collect(),
            },
        })
    }

    async fn watch(&self, request: ApiRequest) -> Result<RawWatchStream, ApiError> {
        tokio::task::yield_now().await;
        self.admit(&request)?;
        watching::open(self, &request)
    }
}

#[cfg(test)]
mod tests;

//! Typed client for the Kubernetes API.
//!
//! Owns how a component speaks to the API: [`Client`] has the verbs, generic over the kind; [`Transport`] carries them,
//! over HTTPS ([`ClientConfig`], [`Client::from_kubeconfig`]) or in one process straight to the registry. The in-process
//! transport lives beside the registry, not here.
//!
//! Contract: every failure is an [`ApiError`](skep_api::ApiError). What the server refused carries the server's code and
//! reason. What never got an answer (no connection, time-out, broken stream) has code 0 and reason `ServiceUnavailable`,
//! and its message names the server, the verb and the resource; see [`is_unreachable`].
//! The client never retries by itself: informers and work queues own back-off.
//!
//! Tests of other crates use `skep_client::testing::FakeTransport`, behind the feature `testing`:
//! `skep-client = { workspace = true, features = ["testing"] }` under `[dev-dependencies]`.

mod client;
mod config;
mod error;
mod https;
mod kubeconfig;
mod options;
mod patch;
mod raw;
mod request;
mod transport;

#[cfg(feature = "testing")]
pub mod testing;

pub use client::{Client, ObjectList, WatchEvent, WatchStream};
pub use config::{ClientConfig, ConfigError, Credentials};
pub use error::is_unreachable;
pub use https::HttpsTransport;
pub use kubeconfig::Kubeconfig;
pub use options::{DeleteOptions, ListOptions, Preconditions, Propagation, VersionMatch, WatchOptions};
pub use patch::Patch;
pub use raw::{ApiResponse, RawObject, RawWatchEvent};
pub use request::{ApiRequest, PatchKind, Verb};
pub use transport::{RawWatchStream, Transport};

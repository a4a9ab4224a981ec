//! The Kubernetes API over a registry.
//!
//! Owns HTTP, TLS, authentication by client certificate and service account token, RBAC authorization, discovery, OpenAPI, content
//! negotiation and the way to kubelets. No handler knows a kind: paths, verbs and columns come from the
//! registry's resource table. It never sees the store, and keeps no state of its own but the compiled
//! access rules.
//!
//! A request's way: `listener` → `handler` (who, may they) → `ops` (registry) → `view` (form).
//! `in_process` joins at the second step.

mod auth;
mod catalog;
mod discovery;
mod error;
mod handler;
mod health;
mod http;
mod in_process;
mod listener;
mod metrics;
mod node;
mod openapi;
mod ops;
mod reviews;
mod server;
mod tls;
mod tokens;
mod version;
mod view;
mod watching;

pub use auth::user::User;
pub use error::ServeError;
pub use node::KubeletTls;
pub use server::{ApiServer, ApiServerConfig};
pub use tls::TlsMaterial;
pub use tokens::TokenConfig;

//! The control plane in one process: certificates, store, registry, the objects every cluster starts
//! with, the HTTPS API, scheduler and controllers.
//!
//! Owns the wiring and the bootstrap objects; the parts are libraries of their own. Called by
//! `skep server` and `skep up`.

mod bootstrap;
mod config;
mod error;
mod parts;
mod run;

pub use config::{ServerConfig, StoreConfig};
pub use error::ServerError;
pub use run::run;

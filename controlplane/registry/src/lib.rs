//! The registry: every kind's create, read, update, delete and watch, over the table of resources.
//!
//! The only crate that sees the store. Reads and watches are served from a cache in memory that one watch of the
//! store feeds; writes go to the store by compare-and-swap. The API server (and nobody else) calls it; it does no
//! authentication, authorization or HTTP.

mod admission;
mod alloc;
mod answer;
mod body;
mod cache;
mod compaction;
mod config;
mod continue_token;
mod error;
mod expiry;
mod keys;
mod object;
mod options;
mod read;
mod registry;
mod strategy;
mod watch;
mod write;

pub use admission::Admission;
pub use answer::{Deleted, ObjectList, WatchEvent, WatchStream, Written};
pub use config::RegistryConfig;
pub use object::SharedObject;
pub use options::{
    DeleteOptions, FieldValidation, GetOptions, ListOptions, NewObject, Patch, PatchKind, Propagation,
    ReadVersion, Scope, WatchOptions, WriteOptions, parse_revision,
};
pub use registry::{Registry, RegistryError};

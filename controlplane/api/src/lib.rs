//! The Kubernetes API as data: types, defaulting, validation, patches and the table of resources.
//!
//! This crate does no I/O, has no clock and no randomness: time is an argument. Everything else of Skep
//! that speaks of API objects depends on it; it depends on nothing of the workspace.

pub mod decode;
pub mod error;
pub mod gvr;
pub mod int_or_string;
mod kinds;
pub mod object;
pub mod patch;
pub mod print;
pub mod quantity;
pub mod references;
pub mod resource;
pub mod revision;
pub mod selector;
pub mod validation;

pub use error::{ApiError, FieldError, FieldErrorKind, FieldPath, Reason};
pub use gvr::{GroupVersionResource, gvr_of, is_namespaced};
pub use object::{Object, ObjectExt, ObjectKey};
pub use quantity::Quantity;
pub use resource::{Column, DynObject, Kind, ResourceInfo, ResourceTable, Subresource, Verb};
pub use revision::Revision;
pub use selector::{FieldSelector, LabelSelector};

pub use k8s_openapi;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

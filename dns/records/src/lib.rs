//! Cluster DNS as data: Services, EndpointSlices and Namespaces in, answers out.
//!
//! Semantics are those of *Kubernetes DNS-Based Service Discovery* 1.1.0, and of CoreDNS's `kubernetes` plugin
//! where the specification is silent. This crate is pure: no sockets, no clock, no randomness (the order of
//! addresses within an answer is sorted; a server rotates it if it wants to).
//!
//! A [`Zone`] is the one writer: it is told of objects as they come, change and go, in any order, and each call
//! costs the work of the one Service concerned. [`Zone::snapshot`] is O(1) and gives an immutable [`Snapshot`]
//! that any number of readers ask by [`Snapshot::answer`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod answer;
mod facts;
mod reverse;
mod service;
mod snapshot;
mod zone;

pub use answer::{Answer, Outcome};
pub use snapshot::Snapshot;
pub use zone::{PodRecords, Zone, ZoneConfig};

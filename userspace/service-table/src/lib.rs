//! The service table: Services, EndpointSlices and this node's view in, dataplane map operations out.
//!
//! Owns which frontends exist, which backends each of them may pick, and the order in which a change is
//! written so that a reader who looks in between never meets a hole. Pure: no clock, no sockets, no maps; the
//! same calls in the same order give the same operations.
//!
//! - [`ServiceTable::apply_service`], [`ServiceTable::apply_slice`] and their `remove_` counterparts take the
//!   objects as they change. One changed endpoint costs the work of its slice, whatever the size of the rest.
//! - [`ServiceTable::take_ops`] gives what has to be written since the last call, in safe order (see [`MapOp`]).
//! - [`ServiceTable::repairs`] compares what the maps are found to hold with what was written to them.
//! - [`IdState`] is what the maps held before: a new table adopts its ids and slot ranges, so that a restart
//!   writes only what differs.
//!
//! Semantics: *Virtual IPs and Service Proxies* of the Kubernetes reference, KEP-1669 (terminating endpoints),
//! KEP-2086 (internalTrafficPolicy), KEP-1860 (ipMode), KEP-2433, KEP-3015 and KEP-4444 (topology hints).

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod backends;
mod drift;
mod extents;
mod facts;
mod frontends;
mod image;
mod listing;
mod names;
mod node_ports;
mod op;
mod port;
mod set;
mod source_ranges;
mod table;

pub use drift::Found;
pub use facts::LocalReady;
pub use op::{IdState, MapOp};
pub use table::{Limits, NodeLocal, NodeView, Problem, SERVICE_NAME_LABEL, ServiceTable};

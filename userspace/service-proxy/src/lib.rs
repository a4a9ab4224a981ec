//! The service proxy of a node: watches the API, compiles the service table, writes the dataplane's maps.
//!
//! Owns when something is written and what happens when that fails. What is written, and in which order, is the
//! service table's; the maps outlive this process, and whatever happens to it or to the API server, they keep the
//! last state written.
//!
//! Flow: wait until everything that exists was seen, read what the maps hold, write the difference; then follow
//! the changes, gathered for at most a few milliseconds. After a failed write the maps are read again and the
//! difference is tried anew, with back-off. Once a second a sixtieth of each map is read and
//! compared with what was written to it; what somebody else has changed is repaired and counted.

#![forbid(unsafe_code)]

mod config;
mod error;
mod health;
mod metrics;
mod node_ports;
mod proxy;
mod run;
mod service_metrics;
mod verify;
mod write;

pub use config::ProxyConfig;
pub use error::ProxyError;
pub use metrics::ProxyMetrics;
pub use run::run;
pub use service_metrics::register_service_metrics;

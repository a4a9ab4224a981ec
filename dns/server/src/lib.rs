//! The cluster's DNS server: answers for Services from the zone's snapshot, forwards everything else.
//!
//! Owns the sockets, the forwarder and the metrics; what the zone answers is `skep-dns-records`' affair. One task feeds
//! the zone from informers and publishes a snapshot after every batch of changes; queries read it without a lock. Before
//! the informers have synced, names of the zone are SERVFAIL; with the API server away, the last state is served.
//! Called by the agent.

#![forbid(unsafe_code)]

mod breaker;
mod config;
mod error;
mod feed;
mod forward;
mod handler;
mod limit;
mod metrics;
mod run;

pub use config::{DnsConfig, Upstreams};
pub use error::DnsError;
pub use run::{DnsMetrics, DnsServer};

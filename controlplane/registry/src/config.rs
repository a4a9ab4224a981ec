//! How a registry is set up.

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

/// How a registry is set up.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// ClusterIPs are taken from these; the first decides the default family.
    pub service_cidrs: Vec<IpNet>,
    pub node_port_range: RangeInclusive<u16>,
    /// How long history is kept for lists at, and watches from, older revisions.
    pub history: Duration,
    /// The most changes kept per resource for watches from older revisions, whatever their age.
    pub history_events: usize,
    /// The most bytes of objects, as JSON, in those changes per resource.
    pub history_bytes: usize,
    /// How long a reader waits for a revision that the cache has not reached.
    pub freshness_timeout: Duration,
    /// How often a watch that allows bookmarks gets one.
    pub bookmark_interval: Duration,
    /// How often objects that have expired, such as old events, are looked for.
    pub expiry_interval: Duration,
}

impl RegistryConfig {
    pub fn new(service_cidrs: Vec<IpNet>) -> Self {
        Self {
            service_cidrs,
            ..Self::default()
        }
    }
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            service_cidrs: Vec::new(),
            node_port_range: 30000..=32767,
            history: Duration::from_secs(5 * 60),
            history_events: 100_000,
            history_bytes: 64 << 20,
            freshness_timeout: Duration::from_secs(3),
            bookmark_interval: Duration::from_secs(60),
            expiry_interval: Duration::from_secs(60),
        }
    }
}

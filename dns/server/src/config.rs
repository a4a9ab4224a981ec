//! How the DNS server listens, what it is authoritative for and where it forwards the rest.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Configuration of the cluster DNS server.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Addresses to bind, UDP and TCP each. Port 0 is one that the system chooses, the same for both.
    pub listen: Vec<SocketAddr>,
    /// The cluster domain, such as `cluster.local`.
    pub domain: String,
    /// Time to live of the zone's records, seconds, at most 3600.
    pub ttl_s: u32,
    /// Who answers for names outside the cluster domain.
    pub upstreams: Upstreams,
}

impl DnsConfig {
    /// The defaults: TTL of 5 s, upstreams of `/etc/resolv.conf`.
    pub fn new(listen: Vec<SocketAddr>, domain: impl Into<String>) -> DnsConfig {
        let upstreams = Upstreams::FromResolvConf(PathBuf::from("/etc/resolv.conf"));
        DnsConfig {
            listen,
            domain: domain.into(),
            ttl_s: 5,
            upstreams,
        }
    }
}

/// Where names outside the cluster domain are forwarded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstreams {
    /// The `nameserver` lines of this file. Addresses that this server itself listens on are left out.
    FromResolvConf(PathBuf),
    /// These servers, in this order. Empty: names outside the cluster domain are SERVFAIL at once.
    List(Vec<SocketAddr>),
}

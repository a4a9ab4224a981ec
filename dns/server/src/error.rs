//! Why the server cannot serve.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// An address is taken or not this machine's.
    #[error(
        "the DNS server cannot listen on {address}/{protocol}: end what holds it, or choose another address"
    )]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The zone cannot be named so.
    #[error("{domain:?} is no domain name")]
    Domain {
        /// What was given.
        domain: String,
        /// Why.
        source: hickory_proto::ProtoError,
    },
    /// The file with the upstream servers.
    #[error("the upstream servers cannot be read from {path}")]
    ResolvConf {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The forwarder cannot be made.
    #[error("the forwarder cannot be made")]
    Forwarder(#[source] hickory_resolver::net::NetError),
    /// A socket failed for good.
    #[error("a DNS socket failed")]
    Socket(#[source] hickory_resolver::net::NetError),
}

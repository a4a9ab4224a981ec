use std::io;
use std::net::SocketAddr;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "{address} is in use by another process: stop it (`ss -ltnp 'sport = :{}'` shows it), or have this server listen elsewhere",
        address.port()
    )]
    AddressInUse { address: SocketAddr },

    #[error("cannot listen on {address}: check that the address is one of this machine's")]
    Listen { address: SocketAddr, source: io::Error },

    #[error("{what} cannot be used for TLS")]
    Tls {
        what: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    #[error("the key of service accounts' tokens cannot be used")]
    TokenKey {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

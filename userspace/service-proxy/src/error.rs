//! What ends a proxy.

/// The proxy cannot go on. What the maps refuse is not among it: that is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The task that writes the maps panicked.
    #[error("the task that writes the maps ended")]
    Writer(#[source] tokio::task::JoinError),
}

//! Why the agent's side of pod networking failed.

use std::io;
use std::path::PathBuf;

use skep_ipam::LedgerError;

/// Errors of the agent's side. `Display` leaves the source out: log the chain.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// A file or socket.
    #[error("cannot {during} {}", path.display())]
    Io {
        /// What was tried.
        during: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another agent serves this socket.
    #[error("another agent serves {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The kernel refused a change of the network.
    #[error("cannot {during}")]
    Netlink {
        /// What was tried.
        during: String,
        /// Why it failed.
        source: rtnetlink::Error,
    },
    /// The pod's network namespace cannot be used.
    #[error("cannot {during} the pod's network namespace")]
    Namespace {
        /// What was tried.
        during: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A device that must exist does not.
    #[error("there is no device {name}")]
    NoDevice {
        /// Its name.
        name: String,
    },
    /// The addresses.
    #[error("cannot assign or release an address")]
    Addresses(#[from] LedgerError),
    /// What CHECK found to differ.
    #[error("{what}")]
    Differs {
        /// What is not as it was made.
        what: String,
    },
    /// The request makes no sense.
    #[error("{what}")]
    Request {
        /// What is wrong.
        what: String,
    },
    /// Whoever is told of pods' networks did not take note.
    #[error("cannot tell of the pod's network")]
    Observer {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A task of the agent panicked.
    #[error("a task of the network agent failed")]
    Task(#[from] tokio::task::JoinError),
}

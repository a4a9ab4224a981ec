//! Why a measurement could not be made.

use std::io;

use skep_api::ApiError;
use skep_bpf_maps::MapError;
use skep_client::ConfigError;
use skep_loader::LoadError;
use skep_server::ServerError;
use skep_service_proxy::ProxyError;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A signal came. What the run had made is gone.
    #[error("interrupted")]
    Interrupted,
    /// Namespaces and programs need root.
    #[error("this makes network namespaces and loads eBPF programs: run it as root")]
    NotRoot,
    /// Client and server would disturb each other.
    #[error("the traffic suite pins its client and its server to two cores, and this machine has one")]
    OneCore,
    /// A file or a system call.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// Another program failed.
    #[error("`{command}` failed ({status}): {said}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said.
        said: String,
    },
    /// Something was waited for in vain.
    #[error("it never happened that {0}")]
    Never(String),
    /// The dataplane cannot be opened.
    #[error("the dataplane")]
    Dataplane(#[from] LoadError),
    /// A map cannot be read.
    #[error("a map of the dataplane")]
    Map(#[from] MapError),
    /// The service proxy ended.
    #[error("the service proxy")]
    Proxy(#[from] ProxyError),
    /// The API refused.
    #[error("the API")]
    Api(#[from] ApiError),
    /// The server's kubeconfig is of no use.
    #[error("the client of the API")]
    Client(#[from] ConfigError),
    /// The server cannot start.
    #[error("the API server")]
    Server(#[from] ServerError),
    /// The report cannot be encoded, or a child's answer not be read.
    #[error("JSON")]
    Json(#[from] serde_json::Error),
}

impl BenchError {
    /// Names what was tried when the system refused.
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io {
            what,
            source: source.into(),
        }
    }
}

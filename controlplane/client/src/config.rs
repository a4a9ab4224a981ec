//! What a client needs to know to speak to a server over HTTPS.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Kubeconfig;

/// Default of [`ClientConfig::connect_timeout`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Default of [`ClientConfig::request_timeout`].
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is no kubeconfig")]
    Syntax {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("kubeconfig: there is no {what} named {name:?}")]
    Missing { what: &'static str, name: String },
    #[error("kubeconfig: {field} is not base64")]
    Base64 {
        field: &'static str,
        source: base64::DecodeError,
    },
    #[error("{what} is not supported: {instead}")]
    Unsupported {
        what: &'static str,
        instead: &'static str,
    },
    #[error("the server's address {server:?} cannot be used: {problem}")]
    Server { server: String, problem: String },
    #[error("{what} cannot be used: {problem}")]
    Tls { what: &'static str, problem: String },
}

/// How the client says who it is.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nobody: health checks, and joining with a token in the body.
    #[default]
    Anonymous,
    /// A client certificate (chain) and its key, PEM.
    Certificate {
        certificate_pem: Vec<u8>,
        key_pem: Vec<u8>,
    },
    /// A bearer token.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Certificate { .. } => "Certificate",
            Self::Token(_) => "Token",
        })
    }
}

/// A server, how to recognise it, and who is calling.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `https://host:port`, with a path if the API is below one.
    pub server: String,
    /// The only authorities whose server certificates are believed, PEM.
    pub ca_pem: Vec<u8>,
    pub credentials: Credentials,
    /// The name to expect in the server's certificate, if not the address's host.
    pub tls_server_name: Option<String>,
    pub user_agent: String,
    pub connect_timeout: Duration,
    /// From sending a request to the end of its answer; a watch's answer may last.
    pub request_timeout: Duration,
}

impl ClientConfig {
    /// An anonymous client of the server, which `ca_pem` has signed.
    #[must_use]
    pub fn new(server: impl Into<String>, ca_pem: impl Into<Vec<u8>>) -> Self {
        Self {
            server: server.into(),
            ca_pem: ca_pem.into(),
            credentials: Credentials::Anonymous,
            tls_server_name: None,
            user_agent: concat!("skep/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
        }
    }

    /// With a client certificate (chain) and its key, PEM.
    #[must_use]
    pub fn client_certificate(
        mut self,
        certificate_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> Self {
        self.credentials = Credentials::Certificate {
            certificate_pem: certificate_pem.into(),
            key_pem: key_pem.into(),
        };
        self
    }

    /// With a bearer token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.credentials = Credentials::Token(token.into());
        self
    }

    /// With a component's name before the version in `User-Agent`.
    #[must_use]
    pub fn component(mut self, name: &str) -> Self {
        self.user_agent = format!("{name}/{}", env!("CARGO_PKG_VERSION"));
        self
    }

    /// As the current context of the kubeconfig file says. Files that it names are relative to it.
    ///
    /// # Errors
    /// When the file cannot be read or used.
    pub fn from_kubeconfig(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Kubeconfig::read(path.as_ref())?.client_config(None)
    }
}

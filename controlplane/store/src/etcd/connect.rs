//! Connections to the members of a cluster.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::StoreError;

/// Longest time for a connection to one member, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// A connection without traffic is probed this often, and given up this much later.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Files (PEM) for TLS with the cluster.
#[derive(Clone, Debug)]
pub struct EtcdTls {
    /// The authorities that sign the members' certificates.
    pub ca: PathBuf,
    /// Our certificate chain and its key, when the cluster asks for client certificates.
    pub identity: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug)]
struct Member {
    host: String,
    port: u16,
    tls: bool,
}

struct Dialer {
    members: Vec<Member>,
    tls: Option<TlsConnector>,
    /// The member that answered last.
    preferred: AtomicUsize,
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A channel that connects on first use and after each loss, to the first member that answers.
pub(super) fn channel(endpoints: &[String], tls: Option<&EtcdTls>) -> Result<Channel, StoreError> {
    let members = endpoints
        .iter()
        .map(|endpoint| parse(endpoint))
        .collect::<Result<Vec<_>, _>>()?;
    if members.is_empty() {
        return Err(wrong("no etcd endpoint"));
    }
    let tls = match tls {
        Some(tls) => Some(TlsConnector::from(Arc::new(client_config(tls)?))),
        None if members.iter().any(|member| member.tls) => {
            return Err(wrong("https etcd endpoints need the authority's certificate"));
        }
        None => None,
    };
    let dialer = Arc::new(Dialer {
        members,
        tls,
        preferred: AtomicUsize::new(0),
    });
    let connector = tower::service_fn(move |_| {
        let dialer = dialer.clone();
        async move { dialer.dial().await.map(TokioIo::new) }
    });
    // The name is only the requests' authority; the dialer knows where to go.
    Ok(Endpoint::from_static("http://etcd")
        .http2_keep_alive_interval(PROBE_INTERVAL)
        .keep_alive_timeout(PROBE_LIMIT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector))
}

impl Dialer {
    async fn dial(&self) -> io::Result<Box<dyn Connection>> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = io::Error::other("no etcd endpoint");
        for step in 0..self.members.len() {
            let index = (first + step) % self.members.len();
            let member = &self.members[index];
            let attempt = tokio::time::timeout(CONNECT_LIMIT, self.connect(member)).await;
            match attempt.unwrap_or_else(|elapsed| Err(elapsed.into())) {
                Ok(connection) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(error) => {
                    tracing::debug!(host = member.host, port = member.port, %error, "etcd member not reached");
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    async fn connect(&self, member: &Member) -> io::Result<Box<dyn Connection>> {
        let stream = TcpStream::connect((member.host.as_str(), member.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            Some(tls) if member.tls => {
                let name = ServerName::try_from(member.host.clone()).map_err(io::Error::other)?;
                Ok(Box::new(tls.connect(name, stream).await?))
            }
            _ => Ok(Box::new(stream)),
        }
    }
}

fn parse(endpoint: &str) -> Result<Member, StoreError> {
    let form = || wrong(&format!("etcd endpoint {endpoint:?} is not http(s)://host:port"));
    let Ok(uri) = endpoint.parse::<http::Uri>() else {
        return Err(form());
    };
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(form()),
    };
    let host = uri.host().ok_or_else(form)?.trim_matches(['[', ']']).to_owned();
    Ok(Member {
        host,
        port: uri.port_u16().unwrap_or(2379),
        tls,
    })
}

fn client_config(tls: &EtcdTls) -> Result<rustls::ClientConfig, StoreError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&tls.ca)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(&tls.ca, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&format!("TLS for etcd: {error}")))?
        .with_root_certificates(roots);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
            builder
                .with_client_auth_cert(certificates(chain)?, private)
                .map_err(|error| unusable(chain, &error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(path, &error))?;
    if certificates.is_empty() {
        return Err(wrong(&format!("{} holds no certificate", path.display())));
    }
    Ok(certificates)
}

fn wrong(what: &str) -> StoreError {
    StoreError::Config {
        what: what.to_owned(),
    }
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> StoreError {
    wrong(&format!("{} cannot be used for etcd: {error}", path.display()))
}

//! The server's certificates, and who calls.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::ServerTls;

/// The group whose members may do everything.
const MASTERS: &str = "system:masters";

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or is not what it should be.
    #[error("{path} holds no usable PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// An authority's certificate is broken.
    #[error("{path} holds no usable authority")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Certificate and key do not fit, or the like.
    #[error("certificate {path} cannot be served")]
    Serving {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// No authority was given.
    #[error("{path} names no authority for client certificates")]
    NoAuthority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::server::VerifierBuilderError,
    },
}

/// Who presented a certificate.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) name: String,
    groups: Vec<String>,
}

impl Caller {
    /// Whether the caller is one of the named, or an administrator.
    pub(crate) fn may_call(&self, allowed: &[String]) -> bool {
        allowed.contains(&self.name) || self.groups.iter().any(|group| group == MASTERS)
    }
}

/// The caller of a connection whose certificate has been verified.
pub(crate) fn caller(connection: &ServerConnection) -> Option<Caller> {
    let certificate = connection.peer_certificates()?.first()?;
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok())
        .map(str::to_owned);
    Some(Caller {
        name,
        groups: groups.collect(),
    })
}

/// An acceptor that demands a certificate of the cluster's authority.
pub(crate) fn acceptor(tls: &ServerTls) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.client_ca)? {
        roots.add(certificate).map_err(|source| TlsError::Authority {
            path: tls.client_ca.clone(),
            source,
        })?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|source| TlsError::NoAuthority {
            path: tls.client_ca.clone(),
            source,
        })?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|source| TlsError::Pem {
        path: tls.key.clone(),
        source,
    })?;
    let serving = |source| TlsError::Serving {
        path: tls.certificate.clone(),
        source,
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(serving)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&tls.certificate)?, key)
        .map_err(serving)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| TlsError::Pem {
            path: path.to_owned(),
            source,
        })
}

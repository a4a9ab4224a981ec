//! The TLS side of the listener.

use crate::ServeError;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use std::sync::Arc;

/// The server's certificate, and whose client certificates it takes; all PEM.
#[derive(Clone)]
pub struct TlsMaterial {
    pub certificate: String,
    pub key: String,
    pub client_ca: String,
}

pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// Decides on presented certificates after the handshake.
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
}

pub(crate) fn build(material: &TlsMaterial) -> Result<Tls, ServeError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = roots(&material.client_ca)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| ServeError::Tls {
            what: "the client authority",
            source: error.into(),
        })?;
    let chain = certificates(&material.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(material.key.as_bytes()).map_err(|error| ServeError::Tls {
        what: "the serving key",
        source: error.into(),
    })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ServeError::Tls {
            what: "the protocol versions",
            source: error.into(),
        })?
        .with_client_cert_verifier(Arc::new(AskThenJudge(verifier.clone())))
        .with_single_cert(chain, key)
        .map_err(|error| ServeError::Tls {
            what: "the serving certificate",
            source: error.into(),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls {
        config: Arc::new(config),
        verifier,
    })
}

pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ServeError::Tls {
            what: "a certificate",
            source: error.into(),
        })
}

pub(crate) fn roots(pem: &str) -> Result<RootCertStore, ServeError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| ServeError::Tls {
            what: "an authority's certificate",
            source: error.into(),
        })?;
    }
    Ok(roots)
}

/// Asks for a client certificate and lets the handshake pass whatever chain comes, so that a client with
/// a wrong one gets a 401 it can read, as from upstream, and not a broken connection. The handshake still
/// proves possession of the key; the chain is judged before the first request.
#[derive(Debug)]
struct AskThenJudge(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AskThenJudge {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

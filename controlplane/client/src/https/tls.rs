//! TLS as the configuration says: only the given authorities are believed.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig as TlsConfig, RootCertStore};

use crate::{ClientConfig, ConfigError, Credentials};

pub(super) fn tls_config(config: &ClientConfig) -> Result<TlsConfig, ConfigError> {
    const AUTHORITY: &str = "the certificate authority";
    const CERTIFICATE: &str = "the client certificate";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(AUTHORITY, &config.ca_pem)? {
        roots
            .add(certificate)
            .map_err(|error| refuse(AUTHORITY, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = TlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse("TLS", &error))?
        .with_root_certificates(roots);
    let mut tls = match &config.credentials {
        Credentials::Certificate {
            certificate_pem,
            key_pem,
        } => {
            let chain = certificates(CERTIFICATE, certificate_pem)?;
            let key =
                PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| refuse("the client key", &error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| refuse(CERTIFICATE, &error))?
        }
        Credentials::Anonymous | Credentials::Token(_) => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(what, &error))?;
    if certificates.is_empty() {
        return Err(ConfigError::Tls {
            what,
            problem: "it holds no PEM certificate".to_owned(),
        });
    }
    Ok(certificates)
}

fn refuse(what: &'static str, error: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::Tls {
        what,
        problem: error.to_string(),
    }
}

//! What an existing certificate says, and whether it still serves.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::SystemTime;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The facts of a certificate that decide on its reuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) common_name: String,
    pub(crate) organizations: BTreeSet<String>,
    /// DNS names and addresses in text form.
    pub(crate) alt_names: BTreeSet<String>,
    pub(crate) not_after_unix_s: i64,
    /// SubjectPublicKeyInfo, DER.
    pub(crate) public_key: Vec<u8>,
}

/// The facts of the first certificate in a PEM text; `None` if there is none.
pub(crate) fn facts(pem_text: &str) -> Option<Facts> {
    with_certificate(pem_text, |certificate| {
        let subject = certificate.subject();
        let text =
            |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
        Facts {
            common_name: subject.iter_common_name().find_map(text).unwrap_or_default(),
            organizations: subject.iter_organization().filter_map(text).collect(),
            alt_names: alt_names(certificate),
            not_after_unix_s: certificate.validity().not_after.timestamp(),
            public_key: certificate.public_key().raw.to_vec(),
        }
    })
}

/// Whether `issuer`'s key signed `pem_text`.
pub(crate) fn signed_by(pem_text: &str, issuer_pem: &str) -> bool {
    with_certificate(issuer_pem, |issuer| {
        with_certificate(pem_text, |certificate| {
            certificate.issuer() == issuer.subject()
                && certificate.verify_signature(Some(issuer.public_key())).is_ok()
        })
    })
    .flatten()
    .unwrap_or(false)
}

pub(crate) fn unix_seconds(time: SystemTime) -> Option<i64> {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
}

fn with_certificate<T>(pem_text: &str, read: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let (_, pem) = parse_x509_pem(pem_text.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    Some(read(&certificate))
}

fn alt_names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return BTreeSet::new();
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(alt_name)
        .collect()
}

fn alt_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|octets| IpAddr::from(octets).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|octets| IpAddr::from(octets).to_string()),
        },
        _ => None,
    }
}

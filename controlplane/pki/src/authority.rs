//! The certificate authority: its creation, its checks on opening, and signing.

use crate::PkiError;
use crate::error::BrokenFile;
use crate::files;
use crate::identity::Usage;
use crate::inspect;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, date_time_ymd,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3650);
const CERTIFICATE_LIFETIME: Duration = DAY.saturating_mul(365);
/// A certificate with less than this left is issued again.
pub(crate) const RENEW_BEFORE: Duration = DAY.saturating_mul(60);
/// Clocks of a cluster's machines differ; a new certificate is valid at once on all of them.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// `OrganizationName` and the same attribute by number: the signing library keeps one value per kind.
const MAX_GROUPS: usize = 2;
const OID_ORGANIZATION: &[u64] = &[2, 5, 4, 10];

/// What a certificate is to say.
pub(crate) struct Request<'a> {
    pub(crate) usage: Usage,
    pub(crate) common_name: &'a str,
    pub(crate) organizations: &'a [&'a str],
    /// DNS names and addresses.
    pub(crate) alt_names: &'a [String],
}

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate_pem: String,
    pub(crate) certificate_path: PathBuf,
}

impl Authority {
    /// Opens the authority in `dir`; `None` if there is none. The folder's lock must be held.
    pub(crate) fn open(dir: &Path, now: SystemTime) -> Result<Option<Self>, PkiError> {
        let (certificate_path, key_path) = paths(dir);
        let Some(key_pem) = files::read_optional(&key_path)? else {
            if certificate_path.exists() {
                let (certificate, key) = (certificate_path, key_path);
                return Err(PkiError::MissingAuthorityKey {
                    certificate,
                    key,
                    dir: dir.to_owned(),
                });
            }
            return Ok(None);
        };
        let broken = |what, path: &Path, source| PkiError::BrokenAuthority {
            what,
            path: path.to_owned(),
            dir: dir.to_owned(),
            source,
        };
        let key = KeyPair::from_pem(&key_pem)
            .map_err(|error| broken("the authority's key", &key_path, BrokenFile::NotAKey(error)))?;
        let Some(certificate_pem) = files::read_optional(&certificate_path)? else {
            return Ok(None);
        };
        let bad = |source| broken("the authority's certificate", &certificate_path, source);
        let facts = inspect::facts(&certificate_pem).ok_or_else(|| bad(BrokenFile::NotACertificate))?;
        if facts.public_key != key.subject_public_key_info() {
            return Err(broken("the authority's key", &key_path, BrokenFile::KeyMismatch));
        }
        let left = facts.not_after_unix_s - inspect::unix_seconds(now).ok_or(PkiError::Clock)?;
        if left <= 0 {
            return Err(bad(BrokenFile::Expired));
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .map_err(|error| bad(BrokenFile::NotAnIssuer(error)))?;
        Ok(Some(Self {
            issuer,
            certificate_pem,
            certificate_path,
        }))
    }

    /// Whether the authority's own certificate should be renewed.
    pub(crate) fn nears_end(&self, now: SystemTime) -> bool {
        !lasts(&self.certificate_pem, now)
    }

    /// Writes a new certificate for the authority. A key that stands in the folder is kept, so that
    /// certificates signed before stay valid. The folder's lock must be held.
    pub(crate) fn create(dir: &Path, cluster: &str, now: SystemTime) -> Result<Self, PkiError> {
        let (certificate_path, key_path) = paths(dir);
        let common_name = format!("{cluster}-ca");
        let failed = |source| PkiError::Sign {
            common_name: common_name.clone(),
            source,
        };
        let key = match files::read_optional(&key_path)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(failed)?,
            None => {
                let key = KeyPair::generate().map_err(failed)?;
                files::write_private(&key_path, key.serialize_pem().as_bytes())?;
                key
            }
        };
        let mut params = params(&common_name, &[], AUTHORITY_LIFETIME, now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate_pem = CertifiedIssuer::self_signed(params.clone(), &key)
            .map_err(failed)?
            .pem();
        files::write_public(&certificate_path, certificate_pem.as_bytes())?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate_pem,
            certificate_path,
        })
    }

    /// A new key and its certificate, both PEM.
    pub(crate) fn sign(&self, request: &Request<'_>, now: SystemTime) -> Result<(String, String), PkiError> {
        let failed = |source| PkiError::Sign {
            common_name: request.common_name.to_owned(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(
            request.common_name,
            request.organizations,
            CERTIFICATE_LIFETIME,
            now,
        )?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match request.usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Serving => vec![ExtendedKeyUsagePurpose::ServerAuth],
        };
        for name in request.alt_names {
            params.subject_alt_names.push(alt_name(name)?);
        }
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Whether this certificate and key can go on serving for `request`.
    pub(crate) fn still_serves(
        &self,
        certificate_pem: &str,
        key_pem: &str,
        request: &Request<'_>,
        now: SystemTime,
    ) -> bool {
        let Some(facts) = inspect::facts(certificate_pem) else {
            return false;
        };
        let Ok(key) = KeyPair::from_pem(key_pem) else {
            return false;
        };
        facts.public_key == key.subject_public_key_info()
            && facts.common_name == request.common_name
            && facts
                .organizations
                .iter()
                .map(String::as_str)
                .eq(sorted(request.organizations))
            && request
                .alt_names
                .iter()
                .all(|name| facts.alt_names.contains(name))
            && lasts(certificate_pem, now)
            && inspect::signed_by(certificate_pem, &self.certificate_pem)
    }
}

fn paths(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("ca.crt"), dir.join("ca.key"))
}

fn sorted<'a>(names: &[&'a str]) -> impl Iterator<Item = &'a str> {
    names
        .iter()
        .copied()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
}

fn lasts(certificate_pem: &str, now: SystemTime) -> bool {
    let until = inspect::facts(certificate_pem).map_or(0, |facts| facts.not_after_unix_s);
    inspect::unix_seconds(now + RENEW_BEFORE).is_some_and(|renew_at| renew_at < until)
}

fn alt_name(name: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let bad = |source| PkiError::BadSubjectAltName {
        name: name.to_owned(),
        source,
    };
    Ok(SanType::DnsName(name.try_into().map_err(bad)?))
}

fn params(
    common_name: &str,
    organizations: &[&str],
    lifetime: Duration,
    now: SystemTime,
) -> Result<CertificateParams, PkiError> {
    let since_epoch = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_before| PkiError::Clock)?;
    let start = date_time_ymd(1970, 1, 1) + Duration::from_secs(since_epoch.as_secs());
    let mut name = DistinguishedName::new();
    let kinds = [
        DnType::OrganizationName,
        DnType::CustomDnType(OID_ORGANIZATION.to_vec()),
    ];
    if organizations.len() > MAX_GROUPS {
        let (common_name, count) = (common_name.to_owned(), organizations.len());
        return Err(PkiError::TooManyGroups {
            common_name,
            count,
            limit: MAX_GROUPS,
        });
    }
    for (kind, organization) in kinds.into_iter().zip(organizations) {
        name.push(kind, *organization);
    }
    name.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = start - BACKDATE;
    params.not_after = start + lifetime;
    Ok(params)
}

//! Authentication by client certificate: CN is the user, every O a group.

use crate::auth::user::User;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use std::sync::Arc;
use std::time::SystemTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// No certificate was presented.
    Anonymous,
    /// A certificate that is not of this cluster, is expired, or names no user.
    Rejected,
    /// Valid until the certificate's end.
    Known { user: Arc<User>, until: SystemTime },
}

impl Peer {
    /// The user, as long as the certificate lasts.
    pub(crate) fn user(&self, now: SystemTime) -> Option<&Arc<User>> {
        match self {
            Self::Known { user, until } if now <= *until => Some(user),
            _ => None,
        }
    }
}

/// Checks what a peer presented. The handshake has proven that it holds the key.
pub(crate) fn identify(verifier: &dyn ClientCertVerifier, chain: Option<&[CertificateDer<'_>]>) -> Peer {
    let Some((end_entity, intermediates)) = chain.and_then(|chain| chain.split_first()) else {
        return Peer::Anonymous;
    };
    if let Err(error) = verifier.verify_client_cert(end_entity, intermediates, UnixTime::now()) {
        tracing::debug!(%error, "client certificate is not valid here");
        return Peer::Rejected;
    }
    read(end_entity).unwrap_or(Peer::Rejected)
}

fn read(end_entity: &CertificateDer<'_>) -> Option<Peer> {
    let (_, certificate) = X509Certificate::from_der(end_entity).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups = subject
        .iter_organization()
        .filter_map(|organization| organization.as_str().ok());
    let until_s = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    let until = SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(until_s))?;
    (!name.is_empty()).then(|| Peer::Known {
        user: Arc::new(User::new(name, groups)),
        until,
    })
}

use std::io;
use std::path::PathBuf;

/// What went wrong with which file, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot {action} {}: check that the folder is writable by this user and that the disk is not full", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    #[error("{} is not usable as {what}: restore it from a backup, or remove the folder {} to start a new authority (every certificate and kubeconfig must then be issued again)", path.display(), dir.display())]
    BrokenAuthority {
        what: &'static str,
        path: PathBuf,
        dir: PathBuf,
        source: BrokenFile,
    },

    #[error("the certificate authority {} exists but its key {} does not: restore the key, or remove the folder {} to start a new authority (every certificate and kubeconfig must then be issued again)", certificate.display(), key.display(), dir.display())]
    MissingAuthorityKey {
        certificate: PathBuf,
        key: PathBuf,
        dir: PathBuf,
    },

    #[error("there is no certificate authority in {}: start the server with this data folder first, it creates one", dir.display())]
    NoAuthority { dir: PathBuf },

    #[error("cannot make a key")]
    Key { source: rcgen::Error },

    #[error("cannot sign a certificate for {common_name:?}")]
    Sign {
        common_name: String,
        source: rcgen::Error,
    },

    #[error("{name:?} is not a DNS name or IP address that a certificate can carry")]
    BadSubjectAltName { name: String, source: rcgen::Error },

    #[error(
        "{common_name:?} is to be in {count} groups, but a certificate issued here carries at most {limit}"
    )]
    TooManyGroups {
        common_name: String,
        count: usize,
        limit: usize,
    },

    #[error("the system's clock is before 1970: set it, certificates depend on it")]
    Clock,
}

/// Why a file of the authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BrokenFile {
    #[error("it does not hold a PEM encoded X.509 certificate")]
    NotACertificate,
    #[error("it does not hold a usable private key")]
    NotAKey(#[source] rcgen::Error),
    #[error("it is not the key of the certificate beside it")]
    KeyMismatch,
    #[error("the certificate cannot serve as an issuer")]
    NotAnIssuer(#[source] rcgen::Error),
    #[error("it has expired")]
    Expired,
}

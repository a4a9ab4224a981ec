//! The cluster's public key infrastructure: one ECDSA P-256 certificate authority in a folder, and the
//! client and serving certificates signed by it.
//!
//! Owns the files in that folder: `ca.crt`, `ca.key`, the key of service accounts' tokens `sa.key`, and per identity `client-<name>.crt|key` or
//! `serving-<name>.crt|key`. Files that still serve are reused; a certificate that nears its end, or
//! that no longer says what is asked for, is issued again. Keys and kubeconfigs are readable by their
//! owner only. Several processes may use one folder: changes are made under a file lock, and files are
//! replaced atomically.
//!
//! ```no_run
//! # fn main() -> Result<(), skep_pki::PkiError> {
//! use skep_pki::{Pki, PkiOptions, names};
//! let pki = Pki::open_or_create("/var/lib/skep/skep/pki", PkiOptions::new("skep"))?;
//! let admin = pki.issue_client(names::ADMIN, &[names::MASTERS])?;
//! let kubeconfig = pki.kubeconfig("https://172.29.0.1:6443", &admin);
//! skep_pki::write_private("/root/skep.kubeconfig".as_ref(), kubeconfig.as_bytes())?;
//! # Ok(())
//! # }
//! ```

mod authority;
mod error;
mod files;
mod identity;
mod inspect;
mod kubeconfig;
pub mod names;
mod pki;

pub use error::PkiError;
pub use files::{create_private_folder, write_private};
pub use identity::Identity;
pub use pki::{Pki, PkiOptions};

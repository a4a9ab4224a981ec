use crate::authority::{Authority, Request};
use crate::files::{self, FolderLock};
use crate::identity::{Identity, Usage};
use crate::kubeconfig::Kubeconfig;
use crate::{PkiError, names};
use rcgen::KeyPair;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How a folder is opened.
#[derive(Debug, Clone)]
pub struct PkiOptions {
    /// Names the cluster in the authority's subject and in kubeconfigs.
    pub cluster: String,
    /// The clock that validity and renewal go by.
    pub clock: fn() -> SystemTime,
}

impl PkiOptions {
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            clock: SystemTime::now,
        }
    }
}

/// A folder with a certificate authority, from which certificates are issued.
pub struct Pki {
    dir: PathBuf,
    options: PkiOptions,
    authority: Authority,
}

impl Pki {
    /// Opens the authority in `dir`, and makes the folder and the authority where they are absent.
    /// An authority near its end is renewed with its own key: what it signed stays valid.
    ///
    /// # Errors
    /// When files cannot be read or written, or an existing authority is broken or expired.
    pub fn open_or_create(dir: impl Into<PathBuf>, options: PkiOptions) -> Result<Self, PkiError> {
        let dir = dir.into();
        files::create_folder(&dir)?;
        let _lock = FolderLock::take(&dir)?;
        let now = (options.clock)();
        let authority = match Authority::open(&dir, now)? {
            Some(authority) if !authority.nears_end(now) => authority,
            _ => Authority::create(&dir, &options.cluster, now)?,
        };
        Ok(Self {
            dir,
            options,
            authority,
        })
    }

    /// Opens an existing authority.
    ///
    /// # Errors
    /// [`PkiError::NoAuthority`] where there is none; else as [`Pki::open_or_create`].
    pub fn open(dir: impl Into<PathBuf>, options: PkiOptions) -> Result<Self, PkiError> {
        let dir = dir.into();
        let none = || PkiError::NoAuthority { dir: dir.clone() };
        if !dir.is_dir() {
            return Err(none());
        }
        let lock = FolderLock::take(&dir)?;
        let authority = Authority::open(&dir, (options.clock)())?.ok_or_else(none)?;
        drop(lock);
        Ok(Self {
            dir,
            options,
            authority,
        })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The authority's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.authority.certificate_pem
    }

    /// The file of the authority's certificate.
    pub fn ca_path(&self) -> &Path {
        &self.authority.certificate_path
    }

    /// A client certificate for user `common_name` in `groups` (at most two): the one in the folder if
    /// it still serves, else a new one.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn issue_client(&self, common_name: &str, groups: &[&str]) -> Result<Identity, PkiError> {
        self.issue(&Request {
            usage: Usage::Client,
            common_name,
            organizations: groups,
            alt_names: &[],
        })
    }

    /// The client certificate of a node's agent.
    ///
    /// # Errors
    /// As [`Pki::issue_client`].
    pub fn issue_node_client(&self, node: &str) -> Result<Identity, PkiError> {
        self.issue_client(&names::node(node), &[names::NODES])
    }

    /// A serving certificate valid for `alt_names` (DNS names and addresses as text): the one in the
    /// folder if it names them all and still serves, else a new one.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate, or files cannot be read or written.
    pub fn issue_serving(&self, common_name: &str, alt_names: &[String]) -> Result<Identity, PkiError> {
        self.issue(&Request {
            usage: Usage::Serving,
            common_name,
            organizations: &[],
            alt_names,
        })
    }

    /// The key that service accounts' tokens are signed with (P-256, PKCS #8 as PEM), made where it is absent.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn token_key(&self) -> Result<String, PkiError> {
        let path = self.dir.join("sa.key");
        let _lock = FolderLock::take(&self.dir)?;
        if let Some(key) = files::read_optional(&path)? {
            return Ok(key);
        }
        let key = KeyPair::generate().map_err(|source| PkiError::Key { source })?;
        let key = key.serialize_pem();
        files::write_private(&path, key.as_bytes())?;
        Ok(key)
    }

    /// The text of a kubeconfig with embedded certificates. It holds the identity's key: write it with
    /// [`write_private`](crate::write_private).
    pub fn kubeconfig(&self, server_url: &str, identity: &Identity) -> String {
        Kubeconfig {
            cluster: &self.options.cluster,
            server: server_url,
            user: &identity.common_name,
            ca_pem: self.ca_pem(),
            certificate_pem: &identity.certificate_pem,
            key_pem: &identity.key_pem,
        }
        .render()
    }

    fn issue(&self, request: &Request<'_>) -> Result<Identity, PkiError> {
        let stem = request.usage.file_stem(request.common_name);
        let certificate_path = self.dir.join(format!("{stem}.crt"));
        let key_path = self.dir.join(format!("{stem}.key"));
        let now = (self.options.clock)();
        let _lock = FolderLock::take(&self.dir)?;
        let standing = files::read_optional(&certificate_path)?.zip(files::read_optional(&key_path)?);
        let usable =
            standing.filter(|(certificate, key)| self.authority.still_serves(certificate, key, request, now));
        let (certificate_pem, key_pem) = match usable {
            Some(pair) => pair,
            None => {
                let (certificate, key) = self.authority.sign(request, now)?;
                files::write_private(&key_path, key.as_bytes())?;
                files::write_public(&certificate_path, certificate.as_bytes())?;
                (certificate, key)
            }
        };
        let common_name = request.common_name.to_owned();
        Ok(Identity {
            common_name,
            certificate_path,
            key_path,
            certificate_pem,
            key_pem,
        })
    }
}

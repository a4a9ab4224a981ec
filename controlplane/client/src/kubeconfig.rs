//! The kubeconfig file format (client.authentication `v1.Config`), as much of it as the client can honour. What it
//! cannot honour is refused by name, never ignored: a client that skips verification or credentials in silence is worse
//! than none.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::{ClientConfig, ConfigError, Credentials};

/// A kubeconfig, parsed.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kubeconfig {
    #[serde(rename = "apiVersion", default, skip_serializing_if = "Option::is_none")]
    api_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    /// Where the file lies; relative paths start here.
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: User,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_authority: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_authority_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_server_name: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    insecure_skip_tls_verify: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proxy_url: Option<String>,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_certificate: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_certificate_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_key: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_key_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(rename = "tokenFile", default, skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exec: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_provider: Option<serde_json::Value>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Kubeconfig {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or is not of the format.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self = serde_saphyr::from_str(&text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        config.folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(config)
    }

    /// The context that is used when none is named.
    #[must_use]
    pub fn current_context(&self) -> &str {
        &self.current_context
    }

    /// The client of a context, of the current one when `None`.
    ///
    /// # Errors
    /// When the context, or what it names, is missing or cannot be honoured.
    pub fn client_config(&self, context: Option<&str>) -> Result<ClientConfig, ConfigError> {
        let context = self.context(context.unwrap_or(&self.current_context))?;
        let cluster = find("cluster", &self.clusters, &context.cluster, |cluster| {
            &cluster.name
        })?;
        let cluster = &cluster.cluster;
        if cluster.insecure_skip_tls_verify {
            return Err(ConfigError::Unsupported {
                what: "insecure-skip-tls-verify",
                instead: "give the cluster's certificate-authority-data",
            });
        }
        if cluster.proxy_url.is_some() {
            return Err(ConfigError::Unsupported {
                what: "proxy-url",
                instead: "name the server itself",
            });
        }
        let ca_pem = self.file_or_data(
            "certificate-authority-data",
            cluster.certificate_authority.as_deref(),
            cluster.certificate_authority_data.as_deref(),
        )?;
        let mut config = ClientConfig::new(cluster.server.clone(), ca_pem.unwrap_or_default());
        config.tls_server_name.clone_from(&cluster.tls_server_name);
        config.credentials = self.credentials(&context.user)?;
        Ok(config)
    }

    fn context(&self, name: &str) -> Result<&Context, ConfigError> {
        Ok(&find("context", &self.contexts, name, |context| &context.name)?.context)
    }

    fn credentials(&self, name: &str) -> Result<Credentials, ConfigError> {
        if name.is_empty() {
            return Ok(Credentials::Anonymous);
        }
        let user = &find("user", &self.users, name, |user| &user.name)?.user;
        let unsupported = |what| {
            let instead = "use a client certificate or a token";
            Err(ConfigError::Unsupported { what, instead })
        };
        if user.exec.is_some() {
            return unsupported("a credential plugin (exec)");
        }
        if user.auth_provider.is_some() {
            return unsupported("auth-provider");
        }
        if user.username.is_some() {
            return unsupported("username and password");
        }
        if let Some(token) = &user.token {
            return Ok(Credentials::Token(token.clone()));
        }
        if let Some(path) = &user.token_file {
            let token = read(&self.folder.join(path))?;
            return Ok(Credentials::Token(
                String::from_utf8_lossy(&token).trim().to_owned(),
            ));
        }
        let certificate = self.file_or_data(
            "client-certificate-data",
            user.client_certificate.as_deref(),
            user.client_certificate_data.as_deref(),
        )?;
        let key = self.file_or_data(
            "client-key-data",
            user.client_key.as_deref(),
            user.client_key_data.as_deref(),
        )?;
        match (certificate, key) {
            (Some(certificate_pem), Some(key_pem)) => Ok(Credentials::Certificate {
                certificate_pem,
                key_pem,
            }),
            (None, None) => Ok(Credentials::Anonymous),
            (Some(_), None) => Err(missing("client-key of user", name)),
            (None, Some(_)) => Err(missing("client-certificate of user", name)),
        }
    }

    /// Inline data wins over the file, as with kubectl.
    fn file_or_data(
        &self,
        field: &'static str,
        path: Option<&Path>,
        data: Option<&str>,
    ) -> Result<Option<Vec<u8>>, ConfigError> {
        match (data.filter(|data| !data.is_empty()), path) {
            (Some(data), _) => STANDARD
                .decode(data.trim())
                .map(Some)
                .map_err(|source| ConfigError::Base64 { field, source }),
            (None, Some(path)) => read(&self.folder.join(path)).map(Some),
            (None, None) => Ok(None),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

fn missing(what: &'static str, name: &str) -> ConfigError {
    ConfigError::Missing {
        what,
        name: name.to_owned(),
    }
}

fn find<'a, T>(
    what: &'static str,
    items: &'a [T],
    name: &str,
    name_of: impl Fn(&T) -> &String,
) -> Result<&'a T, ConfigError> {
    items
        .iter()
        .find(|item| name_of(item) == name)
        .ok_or_else(|| missing(what, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
apiVersion: v1
kind: Config
preferences: {}
current-context: skep
clusters:
- name: skep
  cluster: {server: 'https://127.0.0.1:6443', certificate-authority-data: Q0E=, tls-server-name: kubernetes}
- name: open
  cluster: {server: 'https://127.0.0.1:6443', insecure-skip-tls-verify: true}
users:
- name: admin
  user: {client-certificate-data: Q0VSVA==, client-key: admin.key}
- name: robot
  user: {token: abc}
- name: plugin
  user: {exec: {command: login}}
contexts:
- {name: skep, context: {cluster: skep, user: admin, namespace: default}}
- {name: robot, context: {cluster: skep, user: robot}}
- {name: plugin, context: {cluster: skep, user: plugin}}
- {name: open, context: {cluster: open, user: robot}}
- {name: lost, context: {cluster: nowhere, user: robot}}
";

    fn kubeconfig() -> (tempfile::TempDir, Kubeconfig) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config"), TEXT).unwrap();
        std::fs::write(folder.path().join("admin.key"), "KEY").unwrap();
        let config = Kubeconfig::read(&folder.path().join("config")).unwrap();
        (folder, config)
    }

    #[test]
    fn current_context_gives_server_authority_and_certificate() {
        let (_folder, kubeconfig) = kubeconfig();
        let config = kubeconfig.client_config(None).unwrap();
        assert_eq!(config.server, "https://127.0.0.1:6443");
        assert_eq!(config.ca_pem, b"CA");
        assert_eq!(config.tls_server_name.as_deref(), Some("kubernetes"));
        let Credentials::Certificate {
            certificate_pem,
            key_pem,
        } = config.credentials
        else {
            panic!("{:?}", config.credentials);
        };
        assert_eq!(
            (certificate_pem.as_slice(), key_pem.as_slice()),
            (&b"CERT"[..], &b"KEY"[..])
        );
    }

    #[test]
    fn named_context_gives_token() {
        let (_folder, kubeconfig) = kubeconfig();
        let config = kubeconfig.client_config(Some("robot")).unwrap();
        assert!(matches!(config.credentials, Credentials::Token(token) if token == "abc"));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let (_folder, kubeconfig) = kubeconfig();
        for (context, text) in [
            (
                "plugin",
                "a credential plugin (exec) is not supported: use a client certificate or a token",
            ),
            (
                "open",
                "insecure-skip-tls-verify is not supported: give the cluster's certificate-authority-data",
            ),
            ("lost", "kubeconfig: there is no cluster named \"nowhere\""),
            ("none", "kubeconfig: there is no context named \"none\""),
        ] {
            assert_eq!(
                kubeconfig.client_config(Some(context)).unwrap_err().to_string(),
                text
            );
        }
    }

    #[test]
    fn absent_file_is_named() {
        let error = Kubeconfig::read(Path::new("/nonexistent/config")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent/config");
    }

    proptest::proptest! {
        #[test]
        fn any_damage_to_a_file_is_an_error_or_another_file(at in 0..TEXT.len(), with in ".{0,3}", len in 0usize..20) {
            let mut text = TEXT.as_bytes().to_vec();
            let end = (at + len).min(text.len());
            text.splice(at..end, with.into_bytes());
            if let Ok(config) = serde_saphyr::from_str::<Kubeconfig>(&String::from_utf8_lossy(&text)) {
                drop(config.client_config(None));
            }
        }
    }
}

//! The kubeconfig text: one cluster, one user, one context, certificates embedded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub(crate) struct Kubeconfig<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) server: &'a str,
    pub(crate) user: &'a str,
    pub(crate) ca_pem: &'a str,
    pub(crate) certificate_pem: &'a str,
    pub(crate) key_pem: &'a str,
}

impl Kubeconfig<'_> {
    pub(crate) fn render(&self) -> String {
        let cluster = quoted(self.cluster);
        let user = quoted(self.user);
        format!(
            "apiVersion: v1\nkind: Config\n\
             clusters:\n- name: {cluster}\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n\
             users:\n- name: {user}\n  user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n\
             contexts:\n- name: {cluster}\n  context:\n    cluster: {cluster}\n    user: {user}\n\
             current-context: {cluster}\n",
            server = quoted(self.server),
            ca = STANDARD.encode(self.ca_pem),
            certificate = STANDARD.encode(self.certificate_pem),
            key = STANDARD.encode(self.key_pem),
        )
    }
}

/// A YAML single-quoted scalar.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

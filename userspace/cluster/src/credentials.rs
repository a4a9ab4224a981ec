//! What a node's agent needs to be known: the authority, a kubeconfig for each part, the kubelet's serving certificate.

use std::path::{Path, PathBuf};

use skep_pki::{Pki, create_private_folder, names, write_private};

use crate::ClusterError;

/// The files of one node's credentials.
#[derive(Debug, Clone)]
pub struct NodeCredentials {
    /// The folder that holds them.
    pub dir: PathBuf,
}

impl NodeCredentials {
    /// The cluster authority's certificate.
    pub const AUTHORITY: &str = "ca.crt";
    /// The kubelet's kubeconfig.
    pub const KUBELET: &str = "kubelet.kubeconfig";
    /// The service proxy's kubeconfig.
    pub const PROXY: &str = "kube-proxy.kubeconfig";
    /// The DNS server's kubeconfig.
    pub const DNS: &str = "dns.kubeconfig";
    /// The kubelet's serving certificate.
    pub const SERVING_CERTIFICATE: &str = "kubelet.crt";
    /// Its key.
    pub const SERVING_KEY: &str = "kubelet.key";
}

/// Issues a node's credentials into a folder.
///
/// # Errors
/// When certificates cannot be made or files cannot be written.
pub fn issue_node_credentials(
    pki: &Pki,
    server_url: &str,
    node: &str,
    address: &str,
    dir: &Path,
) -> Result<NodeCredentials, ClusterError> {
    create_private_folder(dir)?;
    let configs = [
        (NodeCredentials::KUBELET, pki.issue_node_client(node)?),
        (NodeCredentials::PROXY, pki.issue_client(names::PROXY, &[])?),
        (NodeCredentials::DNS, pki.issue_client(names::DNS, &[])?),
    ];
    for (file, identity) in configs {
        write_private(&dir.join(file), pki.kubeconfig(server_url, &identity).as_bytes())?;
    }
    let serving = pki.issue_serving(&names::node(node), &[node.to_owned(), address.to_owned()])?;
    write_private(
        &dir.join(NodeCredentials::SERVING_CERTIFICATE),
        serving.certificate_pem.as_bytes(),
    )?;
    write_private(
        &dir.join(NodeCredentials::SERVING_KEY),
        serving.key_pem.as_bytes(),
    )?;
    write_private(&dir.join(NodeCredentials::AUTHORITY), pki.ca_pem().as_bytes())?;
    Ok(NodeCredentials { dir: dir.to_owned() })
}

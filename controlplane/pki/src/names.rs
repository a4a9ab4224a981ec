//! The names by which the cluster's parts are known to the API server (certificate CN and O).
//!
//! Upstream's names, so that upstream's role bindings hold: <https://kubernetes.io/docs/setup/best-practices/certificates/>.

/// The administrator's user name; its rights come from [`MASTERS`].
pub const ADMIN: &str = "kubernetes-admin";
/// Group whose members may do everything.
pub const MASTERS: &str = "system:masters";
/// Group of all nodes' agents.
pub const NODES: &str = "system:nodes";
pub const SCHEDULER: &str = "system:kube-scheduler";
pub const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
pub const PROXY: &str = "system:kube-proxy";
pub const DNS: &str = "system:dns";
/// As whom the API server speaks to kubelets.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";
/// Subject of the API server's serving certificate.
pub const API_SERVER: &str = "kube-apiserver";

/// The user name of a node's agent.
pub fn node(name: &str) -> String {
    format!("system:node:{name}")
}

//! The labels and annotations by which the kubelet finds its state again in the runtime.
//!
//! They are upstream's (`pkg/kubelet/types/labels.go`, `pkg/kubelet/kuberuntime/labels.go`), so that tools that
//! read them work, and a node can change its kubelet.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use skep_api::ObjectExt;

pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";

pub(crate) const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub(crate) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub(crate) const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Where on the host the container writes its termination message.
pub(crate) const MESSAGE_FILE: &str = "io.skep.container.terminationMessageFile";

/// Which pod is meant. Two pods of one name that follow each other differ in their uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PodIdentity {
    /// The namespace.
    pub(crate) namespace: String,
    /// The name.
    pub(crate) name: String,
    /// The uid.
    pub(crate) uid: String,
}

impl PodIdentity {
    /// The identity of an API object.
    pub(crate) fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        }
    }

    /// The name of the pod's directory of logs.
    pub(crate) fn log_directory(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }
}

/// `name_namespace(uid)`, as upstream writes pods in messages.
impl fmt::Display for PodIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}({})", self.name, self.namespace, self.uid)
    }
}

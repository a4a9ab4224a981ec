//! What happened to pods and their containers, as Events.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use skep_runtime::{EventRecorder, EventType, object_reference};

use crate::spec::spec;

/// Records events of this node's kubelet.
#[derive(Clone, Debug)]
pub(crate) struct Events(pub(crate) EventRecorder);

impl Events {
    /// About a pod.
    pub(crate) fn pod(&self, pod: &Pod, kind: EventType, reason: &str, message: &str) {
        self.0.event(pod, kind, reason, message);
    }

    /// About a container of a pod.
    pub(crate) fn container(&self, (pod, name): (&Pod, &str), kind: EventType, reason: &str, message: &str) {
        let is_init = spec(pod)
            .init_containers()
            .iter()
            .any(|container| container.name == name);
        let list = if is_init { "initContainers" } else { "containers" };
        let reference = ObjectReference {
            field_path: Some(format!("spec.{list}{{{name}}}")),
            ..object_reference(pod)
        };
        self.0.event_about(reference, kind, reason, message);
    }
}

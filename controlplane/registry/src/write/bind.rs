//! `pods/binding`: a pod gets its node, once.

use skep_api::k8s_openapi::api::core::v1::{Binding, Pod, PodCondition};
use skep_api::{ApiError, FieldError, GroupVersionResource, ObjectExt, ObjectKey, Subresource, gvr_of};

use super::metadata;
use crate::body::Proposed;
use crate::registry::Inner;
use crate::{SharedObject, WriteOptions};

const BINDINGS: GroupVersionResource = GroupVersionResource::new("", "v1", "pods/binding");

impl Inner {
    pub(crate) async fn bind(
        &self,
        namespace: &str,
        name: &str,
        binding: &Binding,
        options: &WriteOptions,
    ) -> Result<(), ApiError> {
        check(binding, name)?;
        let target = self.target(&gvr_of::<Pod>(), &ObjectKey::new(namespace, name))?;
        let propose = |current: &SharedObject| {
            let mut pod = current
                .typed::<Pod>()
                .ok_or_else(|| target.not_found())?
                .as_ref()
                .clone();
            assign(&mut pod, binding)?;
            Ok(Proposed {
                object: Box::new(pod),
                warnings: Vec::new(),
            })
        };
        self.mutate(&target, Some(Subresource::Binding), options, &propose)
            .await?;
        Ok(())
    }
}

fn check(binding: &Binding, name: &str) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    let kind = binding.target.kind.as_deref().unwrap_or("");
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(
            "target.kind",
            kind,
            &["Node", "<empty>"],
        ));
    }
    if binding.target.name.as_deref().unwrap_or("").is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if !binding.name().is_empty() && binding.name() != name {
        let why = format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            binding.name()
        );
        return Err(ApiError::bad_request(why));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid("", "Binding", name, errors))
    }
}

/// Gives the pod its node, if it may have one.
fn assign(pod: &mut Pod, binding: &Binding) -> Result<(), ApiError> {
    let name = pod.name().to_owned();
    let conflict = |why: String| ApiError::conflict(&BINDINGS, &name, &why);
    if !binding.uid().is_empty() && binding.uid() != pod.uid() {
        return Err(conflict(format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            binding.uid(),
            pod.uid()
        )));
    }
    if pod.is_terminating() {
        return Err(conflict(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        )));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Err(conflict(format!(
            "pod {name} is already assigned to node {node:?}"
        )));
    }
    if spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty())
    {
        return Err(conflict(format!(
            "pod {name} has non-empty .spec.schedulingGates"
        )));
    }
    spec.node_name.clone_from(&binding.target.name);
    if !binding.annotations().is_empty() {
        let annotations = binding
            .annotations()
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()));
        pod.metadata
            .annotations
            .get_or_insert_default()
            .extend(annotations);
    }
    let conditions = pod
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    conditions.push(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(metadata::now()),
        ..PodCondition::default()
    });
    Ok(())
}

//! What of a pod can change once it exists.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::error::FieldError;

const WHY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate(new: &Pod, old: &Pod) -> Vec<FieldError> {
    let (Some(new_spec), Some(old_spec)) = (&new.spec, &old.spec) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    if new_spec.containers.len() != old_spec.containers.len() {
        errors.push(FieldError::forbidden(
            "spec.containers",
            "pod updates may not add or remove containers",
        ));
        return errors;
    }
    let tolerations = |spec: &PodSpec| spec.tolerations.clone().unwrap_or_default();
    let added = tolerations(new_spec);
    if !tolerations(old_spec)
        .iter()
        .all(|toleration| added.contains(toleration))
    {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", why));
    }
    // The binding of a pod is a write of its own; everything else must be as before.
    let mut allowed = old_spec.clone();
    permit(&mut allowed, new_spec);
    if allowed != *new_spec {
        errors.push(FieldError::forbidden("spec", WHY));
    }
    errors
}

/// Takes over from `new` what may change.
fn permit(spec: &mut PodSpec, new: &PodSpec) {
    for (container, new) in spec.containers.iter_mut().zip(&new.containers) {
        container.image.clone_from(&new.image);
    }
    for (container, new) in spec
        .init_containers
        .iter_mut()
        .flatten()
        .zip(new.init_containers.iter().flatten())
    {
        container.image.clone_from(&new.image);
    }
    let shorter = match (spec.active_deadline_seconds, new.active_deadline_seconds) {
        (None, _) => true,
        (Some(before), Some(after)) => after <= before,
        (Some(_), None) => false,
    };
    if shorter {
        spec.active_deadline_seconds = new.active_deadline_seconds;
    }
    spec.tolerations.clone_from(&new.tolerations);
    if spec
        .termination_grace_period_seconds
        .is_some_and(|seconds| seconds < 0)
        && new.termination_grace_period_seconds == Some(1)
    {
        spec.termination_grace_period_seconds = Some(1);
    }
    if let (Some(gates), Some(kept)) = (&mut spec.scheduling_gates, &new.scheduling_gates) {
        gates.retain(|gate| kept.contains(gate));
    } else if new.scheduling_gates.is_none() {
        spec.scheduling_gates = None;
    }
}

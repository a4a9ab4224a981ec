//! `PodTemplateSpec` and the selectors that must match it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as MetaSelector;

use crate::error::{FieldError, FieldPath};
use crate::validation::{meta, selectors};
use crate::{LabelSelector, Quantity};

/// Defaults of a template. Upstream's answer shows no `creationTimestamp` in it.
pub(in crate::kinds) fn set_template_defaults(template: &mut PodTemplateSpec) {
    template.metadata.get_or_insert_default();
    super::set_defaults(template.spec.get_or_insert_default());
}

fn labels(template: &PodTemplateSpec) -> BTreeMap<String, String> {
    template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone())
        .unwrap_or_default()
}

/// Checks the selector of a workload and that it matches the template's labels.
pub(in crate::kinds) fn check_selector(
    errors: &mut Vec<FieldError>,
    selector: &MetaSelector,
    template: Option<&PodTemplateSpec>,
    path: &FieldPath,
) {
    let selector_path = path.child("selector");
    let no_labels = selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty);
    let no_expressions = selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if no_labels && no_expressions {
        errors.push(FieldError::invalid(
            &selector_path,
            selector,
            "empty selector is invalid for deployment",
        ));
        return;
    }
    errors.extend(selectors::validate(selector, &selector_path));
    let Some(template) = template else { return };
    let labels = labels(template);
    if LabelSelector::from_meta(Some(selector)).is_ok_and(|selector| !selector.matches(&labels)) {
        errors.push(FieldError::invalid(
            path.child("template").child("metadata").child("labels"),
            labels,
            "`selector` does not match template `labels`",
        ));
    }
}

/// Checks the template of a workload whose pods run for ever.
pub(in crate::kinds) fn validate_template(
    errors: &mut Vec<FieldError>,
    template: &PodTemplateSpec,
    path: &FieldPath,
) {
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    errors.extend(meta::labels(labels, &path.child("metadata").child("labels")));
    let Some(spec) = &template.spec else { return };
    let path = path.child("spec");
    super::validate(errors, spec, &path);
    if let Some(policy) = spec
        .restart_policy
        .as_deref()
        .filter(|policy| *policy != "Always")
    {
        errors.push(FieldError::not_supported(
            path.child("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if spec.active_deadline_seconds.is_some() {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.push(FieldError::forbidden(path.child("activeDeadlineSeconds"), why));
    }
}

/// Whether a request is above its limit.
pub(super) fn exceeds(request: &str, limit: &str) -> bool {
    match (request.parse::<Quantity>(), limit.parse::<Quantity>()) {
        (Ok(request), Ok(limit)) => request > limit,
        _ => false,
    }
}

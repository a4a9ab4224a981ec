//! What is wrong with a pod's spec.

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

use super::{containers, volumes};
use crate::error::{FieldError, FieldPath};
use crate::validation::{fields, meta, names};

/// Checks pods and templates alike.
pub(in crate::kinds) fn validate(errors: &mut Vec<FieldError>, spec: &PodSpec, path: &FieldPath) {
    volumes::validate(
        errors,
        spec.volumes.as_deref().unwrap_or_default(),
        &path.child("volumes"),
    );
    containers::validate_all(errors, spec, path);
    let text = |name: &'static str| path.child(name);
    fields::one_of(
        errors,
        &text("restartPolicy"),
        spec.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
    );
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    fields::one_of(errors, &text("dnsPolicy"), spec.dns_policy.as_deref(), &policies);
    let servers = spec
        .dns_config
        .as_ref()
        .and_then(|config| config.nameservers.as_ref());
    if spec.dns_policy.as_deref() == Some("None") && servers.is_none_or(Vec::is_empty) {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(text("dnsConfig").child("nameservers"), why));
    }
    errors.extend(meta::labels(spec.node_selector.as_ref(), &text("nodeSelector")));
    fields::not_negative(
        errors,
        &text("terminationGracePeriodSeconds"),
        spec.termination_grace_period_seconds,
    );
    if let Some(seconds) = spec
        .active_deadline_seconds
        .filter(|seconds| !(1..=i64::from(i32::MAX)).contains(seconds))
    {
        let why = format!("must be between 1 and {}, inclusive", i32::MAX);
        errors.push(FieldError::invalid(text("activeDeadlineSeconds"), seconds, why));
    }
    let labels = [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)];
    for (name, value) in labels {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            fields::faults(errors, &text(name), value, names::dns1123_label(value));
        }
    }
    let subdomains = [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
    ];
    for (name, value) in subdomains {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            fields::faults(errors, &text(name), value, names::dns1123_subdomain(value));
        }
    }
    tolerations(
        errors,
        spec.tolerations.as_deref().unwrap_or_default(),
        &text("tolerations"),
    );
}

fn tolerations(errors: &mut Vec<FieldError>, tolerations: &[Toleration], path: &FieldPath) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let key = toleration.key.as_deref().unwrap_or("");
        let value = toleration.value.as_deref().unwrap_or("");
        let operator = toleration.operator.as_deref().unwrap_or("");
        if !key.is_empty() {
            fields::faults(errors, &path.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(path.child("operator"), operator, why));
        }
        match operator {
            "" | "Equal" => fields::faults(errors, &path.child("value"), value, names::label_value(value)),
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(path.child("operator"), value, why));
            }
            "Exists" => {}
            other => {
                errors.push(FieldError::not_supported(
                    path.child("operator"),
                    other,
                    &["Equal", "Exists"],
                ));
            }
        }
        let effect = toleration.effect.as_deref().unwrap_or("");
        let effects = ["", "NoExecute", "NoSchedule", "PreferNoSchedule"];
        fields::one_of(errors, &path.child("effect"), Some(effect), &effects);
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(path.child("effect"), effect, why));
        }
    }
}

//! What the RBAC kinds share. Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/.

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use serde_json::Value;

use crate::error::{FieldError, FieldPath};
use crate::resource::Column;
use crate::validation::meta;

pub(super) const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) const ROLE_COLUMNS: &[Column] = &[
    Column::NAME,
    Column {
        kind: "string",
        ..Column::string(
            "Created At",
            "CreationTimestamp is a timestamp representing the server time when this object was created.",
        )
    },
];

pub(super) const BINDING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Role", "RoleRef can reference a Role or a ClusterRole."),
    Column::AGE,
    Column::string("Users", "Users in the binding").wide(),
    Column::string("Groups", "Groups in the binding").wide(),
    Column::string("ServiceAccounts", "ServiceAccounts in the binding").wide(),
];

/// The creation time in full, as upstream prints it for roles.
pub(super) fn created_at(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Value {
    serde_json::to_value(&meta.creation_timestamp).unwrap_or(Value::Null)
}

pub(super) fn validate_rules(rules: Option<&[PolicyRule]>, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        let path = FieldPath::new("rules").index(index);
        let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        if rule.verbs.is_empty() {
            errors.push(FieldError::required(
                path.child("verbs"),
                "verbs must contain at least one value",
            ));
        }
        if !empty(&rule.non_resource_urls) {
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(
                    path.child("nonResourceURLs"),
                    &rule.non_resource_urls,
                    why,
                ));
            }
            if !empty(&rule.api_groups) || !empty(&rule.resources) || !empty(&rule.resource_names) {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(
                    path.child("nonResourceURLs"),
                    &rule.non_resource_urls,
                    why,
                ));
            }
            continue;
        }
        if empty(&rule.api_groups) {
            let why = "resource rules must supply at least one api group";
            errors.push(FieldError::required(path.child("apiGroups"), why));
        }
        if empty(&rule.resources) {
            let why = "resource rules must supply at least one resource";
            errors.push(FieldError::required(path.child("resources"), why));
        }
    }
    errors
}

pub(super) fn set_binding_defaults(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    role.api_group.get_or_insert_with(|| GROUP.to_owned());
    for subject in subjects.into_iter().flatten() {
        let group = if matches!(subject.kind.as_str(), "User" | "Group") {
            GROUP
        } else {
            ""
        };
        if subject.api_group.is_none() && !group.is_empty() {
            subject.api_group = Some(group.to_owned());
        }
    }
}

pub(super) fn validate_binding(
    role: &RoleRef,
    subjects: Option<&[Subject]>,
    namespaced: bool,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = FieldPath::new("roleRef");
    let group = role.api_group.as_deref().unwrap_or("");
    if group != GROUP {
        errors.push(FieldError::not_supported(path.child("apiGroup"), group, &[GROUP]));
    }
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    if !kinds.contains(&role.kind.as_str()) {
        errors.push(FieldError::not_supported(path.child("kind"), &role.kind, kinds));
    }
    if role.name.is_empty() {
        errors.push(FieldError::required(path.child("name"), ""));
    }
    for (index, subject) in subjects.into_iter().flatten().enumerate() {
        let path = FieldPath::new("subjects").index(index);
        if subject.name.is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
        }
        match subject.kind.as_str() {
            "ServiceAccount" if subject.namespace.as_deref().unwrap_or("").is_empty() => {
                errors.push(FieldError::required(path.child("namespace"), ""));
            }
            "ServiceAccount" | "User" | "Group" => {}
            other => {
                let supported = ["ServiceAccount", "User", "Group"];
                errors.push(FieldError::not_supported(path.child("kind"), other, &supported));
            }
        }
    }
    errors
}

pub(super) fn validate_binding_update(new: &RoleRef, old: &RoleRef) -> Vec<FieldError> {
    let mut errors = Vec::new();
    meta::immutable(&mut errors, &FieldPath::new("roleRef"), new, old);
    errors
        .iter_mut()
        .for_each(|error| error.detail = "cannot change roleRef".to_owned());
    errors
}

/// Role, then, after the age, users, groups and ServiceAccounts.
pub(super) fn binding_cells(role: &RoleRef, subjects: Option<&[Subject]>) -> (Value, [Value; 3]) {
    let named = |kind: &str| {
        let of_kind = subjects
            .into_iter()
            .flatten()
            .filter(|subject| subject.kind == kind);
        let names = of_kind.map(|subject| match &subject.namespace {
            Some(namespace) if kind == "ServiceAccount" => format!("{namespace}/{}", subject.name),
            _ => subject.name.clone(),
        });
        Value::from(names.collect::<Vec<_>>().join(", "))
    };
    let role = format!("{}/{}", role.kind, role.name);
    (
        role.into(),
        [named("User"), named("Group"), named("ServiceAccount")],
    )
}

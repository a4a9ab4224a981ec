//! `metadata`: what every object's must obey, at creation and at update.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;

use super::names;
use crate::error::{FieldError, FieldPath};

/// Upstream's `TotalAnnotationSizeLimitB`.
pub const ANNOTATIONS_LIMIT_BYTES: usize = 256 * 1024;

/// How a kind's names are checked.
pub type NameCheck = fn(&str) -> Vec<String>;

/// Checks the metadata of any object.
pub fn validate(meta: &ObjectMeta, namespaced: bool, name: NameCheck) -> Vec<FieldError> {
    let path = FieldPath::new("metadata");
    let mut errors = Vec::new();
    if let Some(prefix) = meta.generate_name.as_deref().filter(|prefix| !prefix.is_empty()) {
        // The name is made by appending to the prefix, so a trailing dash is right.
        let probe = prefix
            .strip_suffix('-')
            .map_or(prefix.to_owned(), |head| format!("{head}a"));
        let wrong = name(&probe);
        errors.extend(
            wrong
                .into_iter()
                .map(|why| FieldError::invalid(path.child("generateName"), prefix, why)),
        );
    }
    match meta.name.as_deref().unwrap_or("") {
        "" => errors.push(FieldError::required(
            path.child("name"),
            "name or generateName is required",
        )),
        given => errors.extend(
            name(given)
                .into_iter()
                .map(|why| FieldError::invalid(path.child("name"), given, why)),
        ),
    }
    errors.extend(validate_namespace(meta, namespaced, &path));
    errors.extend(labels(meta.labels.as_ref(), &path.child("labels")));
    errors.extend(annotations(meta.annotations.as_ref(), &path.child("annotations")));
    errors.extend(owners(
        meta.owner_references.as_deref().unwrap_or_default(),
        &path.child("ownerReferences"),
    ));
    errors.extend(finalizers(
        meta.finalizers.as_deref().unwrap_or_default(),
        &path.child("finalizers"),
    ));
    errors
}

fn validate_namespace(meta: &ObjectMeta, namespaced: bool, path: &FieldPath) -> Vec<FieldError> {
    let path = path.child("namespace");
    match (namespaced, meta.namespace.as_deref().unwrap_or("")) {
        (true, "") => vec![FieldError::required(path, "")],
        (true, namespace) => names::dns1123_label(namespace)
            .into_iter()
            .map(|why| FieldError::invalid(&path, namespace, why))
            .collect(),
        (false, "") => Vec::new(),
        (false, _) => vec![FieldError::forbidden(path, "not allowed on this type")],
    }
}

/// Checks a map of labels; `path` is where the map is.
pub fn labels(labels: Option<&BTreeMap<String, String>>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.into_iter().flatten() {
        errors.extend(
            names::qualified_name(key)
                .into_iter()
                .map(|why| FieldError::invalid(path, key, why)),
        );
        errors.extend(
            names::label_value(value)
                .into_iter()
                .map(|why| FieldError::invalid(path, value, why)),
        );
    }
    errors
}

fn annotations(annotations: Option<&BTreeMap<String, String>>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut total = 0;
    for (key, value) in annotations.into_iter().flatten() {
        let wrong = names::qualified_name(&key.to_lowercase());
        errors.extend(wrong.into_iter().map(|why| FieldError::invalid(path, key, why)));
        total += key.len() + value.len();
    }
    if total > ANNOTATIONS_LIMIT_BYTES {
        errors.push(FieldError::too_long(path, ANNOTATIONS_LIMIT_BYTES));
    }
    errors
}

fn owners(owners: &[OwnerReference], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controller: Option<&str> = None;
    for (index, owner) in owners.iter().enumerate() {
        let path = path.index(index);
        let required = [
            ("apiVersion", &owner.api_version, "version must not be empty"),
            ("kind", &owner.kind, "must not be empty"),
            ("name", &owner.name, "must not be empty"),
            ("uid", &owner.uid, "must not be empty"),
        ];
        for (field, value, why) in required {
            if value.is_empty() {
                errors.push(FieldError::invalid(path.child(field), value, why));
            }
        }
        if owner.controller == Some(true) {
            if let Some(first) = controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                    owner.name
                );
                errors.push(FieldError::invalid("metadata.ownerReferences", owners, why));
            }
            controller = Some(&owner.name);
        }
    }
    errors
}

fn finalizers(finalizers: &[String], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, finalizer) in finalizers.iter().enumerate() {
        let wrong = names::qualified_name(finalizer);
        errors.extend(
            wrong
                .into_iter()
                .map(|why| FieldError::invalid(path.index(index), finalizer, why)),
        );
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        let why = "finalizers orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(path, finalizers, why));
    }
    errors
}

/// Checks what no update may change. The registry has already restored what it owns.
pub fn validate_update(new: &ObjectMeta, old: &ObjectMeta) -> Vec<FieldError> {
    let path = FieldPath::new("metadata");
    let mut errors = Vec::new();
    if old.deletion_timestamp.is_some() {
        let before = old.finalizers.as_deref().unwrap_or_default();
        let added: Vec<&String> = new
            .finalizers
            .iter()
            .flatten()
            .filter(|finalizer| !before.contains(finalizer))
            .collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            errors.push(FieldError::forbidden(path.child("finalizers"), why));
        }
    }
    immutable(&mut errors, &path.child("name"), &new.name, &old.name);
    immutable(
        &mut errors,
        &path.child("namespace"),
        &new.namespace,
        &old.namespace,
    );
    immutable(&mut errors, &path.child("uid"), &new.uid, &old.uid);
    immutable(
        &mut errors,
        &path.child("creationTimestamp"),
        &new.creation_timestamp,
        &old.creation_timestamp,
    );
    errors
}

/// Adds upstream's `field is immutable` where `new` differs from `old`.
pub fn immutable<T: PartialEq + Serialize>(errors: &mut Vec<FieldError>, path: &FieldPath, new: &T, old: &T) {
    if new != old {
        errors.push(FieldError::invalid(path, new, "field is immutable"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            ..ObjectMeta::default()
        }
    }

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn right_metadata_passes() {
        assert_eq!(
            texts(&validate(&meta("web-1.x"), true, names::dns1123_subdomain)),
            Vec::<String>::new()
        );
        let generated = ObjectMeta {
            generate_name: Some("web-".into()),
            ..meta("web-abcde")
        };
        assert_eq!(
            texts(&validate(&generated, true, names::dns1123_subdomain)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn wrong_metadata_is_told_by_field() {
        let mut wrong = meta("Web");
        wrong.labels = Some([("a b".to_owned(), "x".to_owned())].into());
        wrong.finalizers = Some(vec!["orphan".into(), "foregroundDeletion".into()]);
        let errors = validate(&wrong, true, names::dns1123_subdomain);
        let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["metadata.name", "metadata.labels", "metadata.finalizers"]);
        assert_eq!(
            texts(&validate(&meta(""), true, names::dns1123_label)),
            ["metadata.name: Required value: name or generateName is required"]
        );
    }

    #[test]
    fn updates_keep_identity() {
        let mut new = meta("a");
        new.uid = Some("2".into());
        let old = ObjectMeta {
            uid: Some("1".into()),
            ..meta("a")
        };
        assert_eq!(
            texts(&validate_update(&new, &old)),
            [r#"metadata.uid: Invalid value: "2": field is immutable"#]
        );
    }
}

//! Reading and writing metadata of objects of any kind.

use serde_json::{Map, Value, json};
use skep_api::{ApiError, FieldSelector, LabelSelector, Revision};

use crate::ApiRequest;

pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

pub(super) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

pub(super) fn revision(object: &Value) -> Revision {
    text(object, "/metadata/resourceVersion")
        .parse()
        .unwrap_or_default()
}

pub(super) fn is_terminating(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|time| !time.is_null())
}

pub(super) fn has_finalizers(object: &Value) -> bool {
    let of = |pointer| {
        object
            .pointer(pointer)
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
    };
    of("/metadata/finalizers") || (text(object, "/kind") == "Namespace" && of("/spec/finalizers"))
}

/// Sets a field of the metadata; `Null` removes it.
pub(super) fn set_meta(object: &mut Value, field: &str, value: Value) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    let meta = object
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    let Some(meta) = meta.as_object_mut() else { return };
    if value.is_null() {
        meta.remove(field);
    } else {
        meta.insert(field.to_owned(), value);
    }
}

pub(super) fn set_revision(object: &mut Value, revision: Revision) {
    set_meta(object, "resourceVersion", json!(revision.to_string()));
}

/// Copies a top-level field, or its absence.
pub(super) fn copy_field(from: &Value, to: &mut Value, field: &str) {
    let Some(to) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => to.insert(field.to_owned(), value.clone()),
        None => to.remove(field),
    };
}

/// Which objects of a list or watch are meant.
pub(super) struct Filter {
    namespace: Option<String>,
    labels: Option<LabelSelector>,
    fields: Option<FieldSelector>,
}

impl Filter {
    pub(super) fn of(request: &ApiRequest) -> Result<Self, ApiError> {
        let labels = query(request, "labelSelector")
            .map(LabelSelector::parse)
            .transpose();
        let fields = query(request, "fieldSelector")
            .map(FieldSelector::parse)
            .transpose();
        Ok(Self {
            namespace: request.namespace.clone(),
            labels: labels.map_err(|error| ApiError::bad_request(error.to_string()))?,
            fields: fields.map_err(|error| ApiError::bad_request(error.to_string()))?,
        })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = || {
            object
                .pointer("/metadata/labels")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect()
        };
        self.namespace
            .as_ref()
            .is_none_or(|namespace| text(object, "/metadata/namespace") == namespace)
            && self
                .labels
                .as_ref()
                .is_none_or(|selector| selector.matches(&labels()))
            && self
                .fields
                .as_ref()
                .is_none_or(|selector| selector.matches(|path| field(object, path)))
    }
}

fn field<'a>(object: &'a Value, path: &str) -> Option<std::borrow::Cow<'a, str>> {
    match object.pointer(&format!("/{}", path.replace('.', "/")))? {
        Value::String(text) => Some(text.into()),
        other => Some(other.to_string().into()),
    }
}

pub(super) fn query<'a>(request: &'a ApiRequest, name: &str) -> Option<&'a str> {
    request
        .query
        .iter()
        .find(|(other, _)| other == name)
        .map(|(_, value)| value.as_str())
}

//! The definitions of a document: k8s-openapi's schemas in upstream's dialect, with the list kinds and
//! the facts that patches need.

use super::Dialect;
use crate::catalog::{Entry, Gvk};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Binding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, Status};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use skep_api::patch::field_extensions;

pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

const API_VERSION_TEXT: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND_TEXT: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const LIST_META_TEXT: &str = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const PATCH_TEXT: &str =
    "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.";

/// The name of a kind's definition: `io.k8s.api.rbac.v1.Role`.
pub(super) fn definition_of(kind: &Gvk) -> String {
    let group = if kind.group.is_empty() {
        "core"
    } else {
        kind.group.split('.').next().unwrap_or_default()
    };
    format!("io.k8s.api.{group}.{}.{}", kind.version, kind.kind)
}

/// Every definition that the entries reach, by name.
pub(super) fn definitions<'a>(
    dialect: Dialect,
    entries: impl Iterator<Item = &'a Entry> + Clone,
) -> Map<String, Value> {
    let mut definitions = generate(dialect, entries.clone());
    for (name, definition) in &mut definitions {
        rewrite(dialect, name, definition);
        state_facts(name, definition);
    }
    for entry in entries {
        let name = definition_of(&entry.kind);
        if let Some(definition) = definitions.get_mut(&name) {
            definition["x-kubernetes-group-version-kind"] = json!([gvk(&entry.kind)]);
        }
        if let Some(list_kind) = &entry.list_kind {
            let kind = Gvk {
                kind: list_kind.clone(),
                ..entry.kind.clone()
            };
            definitions.insert(
                definition_of(&kind),
                list(dialect, &name, &kind, &entry.kind.kind),
            );
        }
    }
    definitions.insert(PATCH.into(), json!({"description": PATCH_TEXT, "type": "object"}));
    definitions
}

/// The definitions as the schema library writes them.
fn generate<'a>(dialect: Dialect, entries: impl Iterator<Item = &'a Entry>) -> Map<String, Value> {
    let mut settings = SchemaSettings::openapi3();
    settings.definitions_path = dialect.definitions_path().into();
    let mut generator = settings.into_generator();
    drop(generator.subschema_for::<Status>());
    drop(generator.subschema_for::<DeleteOptions>());
    drop(generator.subschema_for::<ListMeta>());
    for entry in entries {
        (entry.schema)(&mut generator);
        for subresource in &entry.subresources {
            match subresource.name {
                "scale" => drop(generator.subschema_for::<Scale>()),
                "binding" => drop(generator.subschema_for::<Binding>()),
                "token" => drop(generator.subschema_for::<TokenRequest>()),
                _ => {}
            }
        }
    }
    generator.take_definitions(false)
}

pub(super) fn gvk(kind: &Gvk) -> Value {
    json!({"group": kind.group, "kind": kind.kind, "version": kind.version})
}

/// The definition of a list kind; all are alike.
fn list(dialect: Dialect, item: &str, kind: &Gvk, item_kind: &str) -> Value {
    let mut metadata = dialect.reference(LIST_META);
    metadata["description"] = LIST_META_TEXT.into();
    allow_siblings(dialect, &mut metadata);
    let items = json!({"type": "array", "description": "items is the list of objects.", "items": dialect.reference(item)});
    json!({
        "description": format!("{} is a collection of {item_kind}.", kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": API_VERSION_TEXT},
            "kind": {"type": "string", "description": KIND_TEXT},
            "items": items,
            "metadata": metadata,
        },
        "x-kubernetes-group-version-kind": [gvk(kind)],
    })
}

/// Puts a definition into the dialect, in depth.
fn rewrite(dialect: Dialect, name: &str, value: &mut Value) {
    if let Some(map) = value.as_object_mut()
        && map.remove("x-kubernetes-int-or-string").is_some()
    {
        let form = match (name, dialect) {
            (INT_OR_STRING, Dialect::V3) => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            (QUANTITY, Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            (INT_OR_STRING, Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
            _ => json!({"type": "string"}),
        };
        map.extend(form.as_object().cloned().unwrap_or_default());
    }
    allow_siblings(dialect, value);
    match value {
        Value::Object(map) => map.values_mut().for_each(|value| rewrite(dialect, name, value)),
        Value::Array(values) => values.iter_mut().for_each(|value| rewrite(dialect, name, value)),
        _ => {}
    }
}

/// In v3 nothing may stand beside a `$ref`: it moves into an `allOf`, as upstream writes it.
fn allow_siblings(dialect: Dialect, value: &mut Value) {
    let Some(map) = value.as_object_mut() else { return };
    if dialect == Dialect::V3
        && map.len() > 1
        && let Some(reference) = map.remove("$ref")
    {
        map.insert("allOf".into(), json!([{"$ref": reference}]));
    }
}

/// Adds list types, merge keys and patch strategies to a definition's fields.
fn state_facts(name: &str, definition: &mut Value) {
    let Some(properties) = definition.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (field, property) in properties {
        for (extension, value) in field_extensions(name, field) {
            property[extension] = value;
        }
    }
}

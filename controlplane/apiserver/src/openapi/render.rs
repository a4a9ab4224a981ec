//! Operations in the words of a dialect.

use super::Dialect;
use super::operations::{self, Operation, Parameter};
use super::schemas::gvk;
use crate::catalog::Entry;
use serde_json::{Map, Value, json};

const OBJECTS: &[&str] = &["application/json", "application/yaml"];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// The `paths` of a document.
pub(super) fn paths<'a>(dialect: Dialect, entries: impl Iterator<Item = &'a Entry>) -> Map<String, Value> {
    let mut paths: Map<String, Value> = Map::new();
    for operation in entries.flat_map(operations::of) {
        let item = paths
            .entry(operation.path.clone())
            .or_insert_with(|| json!({"parameters": path_parameters(dialect, &operation.path)}));
        item[operation.method] = render(dialect, &operation);
    }
    paths
}

fn path_parameters(dialect: Dialect, path: &str) -> Vec<Value> {
    let mut parameters = Vec::new();
    for (name, description) in [
        ("name", "name of the object"),
        (
            "namespace",
            "object name and auth scope, such as for teams and projects",
        ),
    ] {
        if path.contains(&format!("{{{name}}}")) {
            let mut value = parameter(dialect, "path", &(name, "string", description));
            value["required"] = true.into();
            parameters.push(value);
        }
    }
    let pretty = "If 'true', then the output is pretty printed.";
    parameters.push(parameter(dialect, "query", &("pretty", "string", pretty)));
    parameters
}

fn parameter(dialect: Dialect, place: &str, (name, kind, description): &Parameter) -> Value {
    let mut value = json!({"name": name, "in": place, "description": description});
    match dialect {
        Dialect::V2 => {
            value["type"] = (*kind).into();
            value["uniqueItems"] = true.into();
        }
        Dialect::V3 => value["schema"] = json!({"type": kind, "uniqueItems": true}),
    }
    value
}

fn render(dialect: Dialect, operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = operation
        .parameters
        .iter()
        .map(|query| parameter(dialect, "query", query))
        .collect();
    let mut value = json!({
        "description": operation.description, "operationId": operation.id, "tags": [operation.tag],
        "x-kubernetes-action": operation.action, "x-kubernetes-group-version-kind": gvk(&operation.kind),
    });
    let accepted = if operation.method == "patch" {
        PATCHES
    } else {
        OBJECTS
    };
    let required = operation.method != "delete";
    let body = operation
        .body
        .as_ref()
        .map(|definition| dialect.reference(definition));
    let answer = operation.answer.as_ref().map_or_else(
        || json!({"type": "string"}),
        |definition| dialect.reference(definition),
    );
    let ok = match dialect {
        Dialect::V2 => {
            if let Some(schema) = body {
                parameters
                    .push(json!({"name": "body", "in": "body", "required": required, "schema": schema}));
            }
            value["consumes"] = json!(accepted);
            value["produces"] = json!(OBJECTS);
            value["schemes"] = json!(["https"]);
            json!({"description": "OK", "schema": answer})
        }
        Dialect::V3 => {
            if let Some(schema) = body {
                value["requestBody"] = json!({"required": required, "content": content(accepted, &schema)});
            }
            json!({"description": "OK", "content": content(OBJECTS, &answer)})
        }
    };
    value["responses"] = json!({"200": ok, "401": {"description": "Unauthorized"}});
    if !parameters.is_empty() {
        value["parameters"] = parameters.into();
    }
    value
}

fn content(media_types: &[&str], schema: &Value) -> Map<String, Value> {
    media_types
        .iter()
        .map(|media_type| ((*media_type).to_owned(), json!({"schema": schema})))
        .collect()
}

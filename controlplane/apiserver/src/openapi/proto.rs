//! The v2 document in protobuf, the only form that kubectl up to 1.28 takes it in: gnostic's messages
//! (<https://github.com/google/gnostic-models>, `openapiv2/OpenAPIv2.proto`), written from the JSON form.

use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value};

/// What clients send in `Accept`.
pub(super) const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// What they are answered with; `@` is not allowed in a media type.
pub(super) const CONTENT_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// One message, written field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        encode_key(field, WireType::LengthDelimited, &mut self.0);
        encode_varint(bytes.len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u32, message: &Self) {
        self.bytes(field, &message.0);
    }

    /// A text, or each text of a list.
    fn text(&mut self, field: u32, value: Option<&Value>) {
        match value {
            Some(Value::String(text)) => self.bytes(field, text.as_bytes()),
            Some(Value::Array(texts)) => texts.iter().for_each(|text| self.text(field, Some(text))),
            _ => {}
        }
    }

    fn flag(&mut self, field: u32, value: Option<&Value>) {
        if value == Some(&Value::Bool(true)) {
            encode_key(field, WireType::Varint, &mut self.0);
            encode_varint(1, &mut self.0);
        }
    }

    /// A `Named…` entry: a name and a message.
    fn named(&mut self, field: u32, name: &str, value: &Self) {
        let mut entry = Self::default();
        entry.bytes(1, name.as_bytes());
        entry.message(2, value);
        self.message(field, &entry);
    }

    /// The `x-…` fields, their values as YAML, of which JSON is a part.
    fn extensions(&mut self, field: u32, of: &Map<String, Value>) {
        for (name, value) in of.iter().filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Self::default();
            any.bytes(2, value.to_string().as_bytes());
            self.named(field, name, &any);
        }
    }
}

/// The `Document`.
pub(super) fn document(json: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.text(1, json.get("swagger"));
    let mut info = Message::default();
    info.text(1, json.pointer("/info/title"));
    info.text(2, json.pointer("/info/version"));
    message.message(2, &info);
    let mut paths = Message::default();
    for (path, item) in entries(json.get("paths")) {
        paths.named(2, path, &path_item(item));
    }
    message.message(8, &paths);
    let mut definitions = Message::default();
    for (name, definition) in entries(json.get("definitions")) {
        definitions.named(1, name, &schema(definition));
    }
    message.message(9, &definitions);
    message.0
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn path_item(value: &Value) -> Message {
    let mut message = Message::default();
    for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(value) = value.get(method).and_then(Value::as_object) {
            message.message(field, &operation(value));
        }
    }
    for parameter in items(value.get("parameters")) {
        message.message(9, &parameters_item(parameter));
    }
    message
}

fn operation(value: &Map<String, Value>) -> Message {
    let mut message = Message::default();
    message.text(1, value.get("tags"));
    message.text(3, value.get("description"));
    message.text(5, value.get("operationId"));
    message.text(6, value.get("produces"));
    message.text(7, value.get("consumes"));
    for parameter in items(value.get("parameters")) {
        message.message(8, &parameters_item(parameter));
    }
    let mut responses = Message::default();
    for (code, value) in entries(value.get("responses")) {
        let mut response = Message::default();
        response.text(1, value.get("description"));
        if let Some(value) = value.get("schema") {
            response.message(2, &wrapped(&schema(value)));
        }
        responses.named(1, code, &wrapped(&response));
    }
    message.message(9, &responses);
    message.text(10, value.get("schemes"));
    message.extensions(13, value);
    message
}

/// A message that is the first alternative of another one.
fn wrapped(inner: &Message) -> Message {
    let mut message = Message::default();
    message.message(1, inner);
    message
}

fn parameters_item(value: &Value) -> Message {
    let mut parameter = Message::default();
    match value.get("in").and_then(Value::as_str) {
        Some("body") => {
            let mut body = Message::default();
            body.text(1, value.get("description"));
            body.text(2, value.get("name"));
            body.text(3, value.get("in"));
            body.flag(4, value.get("required"));
            if let Some(value) = value.get("schema") {
                body.message(5, &schema(value));
            }
            parameter.message(1, &body);
        }
        place => {
            // The fields of the two messages part after the name.
            let in_path = place == Some("path");
            let mut plain = Message::default();
            plain.flag(1, value.get("required"));
            plain.text(2, value.get("in"));
            plain.text(3, value.get("description"));
            plain.text(4, value.get("name"));
            plain.text(if in_path { 5 } else { 6 }, value.get("type"));
            plain.flag(if in_path { 19 } else { 20 }, value.get("uniqueItems"));
            let mut non_body = Message::default();
            non_body.message(if in_path { 4 } else { 3 }, &plain);
            parameter.message(2, &non_body);
        }
    }
    wrapped(&parameter)
}

fn schema(value: &Value) -> Message {
    let mut message = Message::default();
    message.text(1, value.get("$ref"));
    message.text(2, value.get("format"));
    message.text(4, value.get("description"));
    message.text(19, value.get("required"));
    match value.get("additionalProperties") {
        Some(Value::Bool(allowed)) => {
            let mut item = Message::default();
            item.flag(2, Some(&Value::Bool(*allowed)));
            message.message(21, &item);
        }
        Some(inner) => message.message(21, &wrapped(&schema(inner))),
        None => {}
    }
    if let Some(kind) = value.get("type") {
        let mut item = Message::default();
        item.text(1, Some(kind));
        message.message(22, &item);
    }
    if let Some(inner) = value.get("items") {
        message.message(23, &wrapped(&schema(inner)));
    }
    if value.get("properties").is_some() {
        let mut properties = Message::default();
        for (name, property) in entries(value.get("properties")) {
            properties.named(1, name, &schema(property));
        }
        message.message(25, &properties);
    }
    if let Some(map) = value.as_object() {
        message.extensions(31, map);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;
    use skep_api::ResourceTable;
    use std::collections::BTreeSet;

    /// Every keyword that occurs in schemas of the document.
    fn keywords(schema: &Value, found: &mut BTreeSet<String>) {
        let Some(map) = schema.as_object() else { return };
        found.extend(map.keys().cloned());
        for inner in map
            .get("items")
            .into_iter()
            .chain(map.get("additionalProperties"))
        {
            keywords(inner, found);
        }
        entries(map.get("properties")).for_each(|(_, property)| keywords(property, found));
    }

    #[test]
    fn no_keyword_of_a_schema_is_left_out() {
        let groups = catalog::groups(&ResourceTable::builtin());
        let document = super::super::v2_value(&groups);
        let mut found = BTreeSet::new();
        entries(document.get("definitions")).for_each(|(_, definition)| keywords(definition, &mut found));
        found.retain(|keyword| !keyword.starts_with("x-"));
        let written = [
            "$ref",
            "format",
            "description",
            "required",
            "additionalProperties",
            "type",
            "items",
            "properties",
        ];
        assert!(
            found.iter().all(|keyword| written.contains(&keyword.as_str())),
            "{found:?}"
        );
    }

    #[test]
    fn messages_are_written_as_protobuf_has_them() {
        let value = serde_json::json!({"type": "string", "description": "d", "x-y": 1});
        // description(4), type(22){value(1)}, vendor_extension(31){name(1), value(2){yaml(2)}}
        let expected = b"\x22\x01d\xb2\x01\x08\x0a\x06string\xfa\x01\x0a\x0a\x03x-y\x12\x03\x12\x011";
        assert_eq!(schema(&value).0, expected);
    }
}

//! Request bodies in Kubernetes' protobuf, as client-go's typed clients send them (kubectl from 1.32 on),
//! turned into the JSON that the same client would have sent.
//!
//! Driven by a table of field numbers for all built-in kinds; no kind has code of its own. Answers are
//! always JSON, which these clients accept.

mod fields;
mod values;

use crate::http::body::MAX_BODY_BYTES;
use bytes::{Buf, Bytes};
use fields::{Field, Fields, Of, Shape};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use serde_json::{Map, Value};
use skep_api::ApiError;

pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Messages within messages; no built-in kind is deeper than 20.
const MAX_DEPTH: usize = 40;

/// A body that cannot be read.
#[derive(Debug, thiserror::Error)]
enum Malformed {
    #[error("it does not begin with the magic number of Kubernetes' protobuf")]
    Magic,
    #[error("kind {0:?} has no protobuf form here")]
    UnknownKind(String),
    #[error("a field is not what its number says")]
    Field,
    #[error("messages are nested too deep")]
    TooDeep,
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
    #[error("JSON within the message does not parse")]
    Json(#[from] serde_json::Error),
}

/// The object of a body as JSON.
///
/// # Errors
/// 400 where it cannot be read.
pub(crate) fn to_json(body: &[u8]) -> Result<Bytes, ApiError> {
    debug_assert!(body.len() <= MAX_BODY_BYTES, "bodies are read up to this length");
    let value = decode(body)
        .map_err(|error| ApiError::bad_request(format!("the protobuf body cannot be read: {error}")))?;
    Ok(serde_json::to_vec(&value).map_err(ApiError::internal)?.into())
}

fn decode(body: &[u8]) -> Result<Map<String, Value>, Malformed> {
    let (kind, raw) = envelope(body.strip_prefix(MAGIC).ok_or(Malformed::Magic)?)?;
    let name = kind.type_name();
    let fields = fields::of(&name).ok_or_else(|| Malformed::UnknownKind(name.clone()))?;
    let mut object = Map::new();
    object.insert("apiVersion".into(), kind.api_version.into());
    object.insert("kind".into(), kind.kind.into());
    message(fields, raw, MAX_DEPTH, &mut object)?;
    Ok(object)
}

#[derive(Default)]
struct Kind {
    api_version: String,
    kind: String,
}

impl Kind {
    /// The table's name: `rbac.v1.Role` for `rbac.authorization.k8s.io/v1`.
    fn type_name(&self) -> String {
        if self.kind == "DeleteOptions" {
            // Sent in the version of whatever is deleted.
            return "meta.v1.DeleteOptions".to_owned();
        }
        let (group, version) = self
            .api_version
            .split_once('/')
            .unwrap_or(("core", &self.api_version));
        let group = group.split('.').next().unwrap_or_default();
        format!("{group}.{version}.{}", self.kind)
    }
}

/// The outer message: the kind, and the object's bytes.
fn envelope(mut bytes: &[u8]) -> Result<(Kind, &[u8]), Malformed> {
    let mut kind = Kind::default();
    let mut raw: &[u8] = &[];
    while bytes.has_remaining() {
        match next(&mut bytes)? {
            (1, Wire::Bytes(mut inner)) => {
                while inner.has_remaining() {
                    match next(&mut inner)? {
                        (1, Wire::Bytes(text)) => kind.api_version = values::text(text)?,
                        (2, Wire::Bytes(text)) => kind.kind = values::text(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(inner)) => raw = inner,
            _ => {}
        }
    }
    Ok((kind, raw))
}

/// One field as it stands on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Of a wire type that no field of the table has.
    Other,
}

fn next<'a>(bytes: &mut &'a [u8]) -> Result<(u32, Wire<'a>), Malformed> {
    let (number, wire_type) = decode_key(bytes)?;
    let wire = match wire_type {
        WireType::Varint => Wire::Varint(decode_varint(bytes)?),
        WireType::SixtyFourBit => Wire::Fixed64(bytes.try_get_u64_le().map_err(|_short| Malformed::Field)?),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(bytes)?).map_err(|_long| Malformed::Field)?;
            let (inner, rest) = bytes.split_at_checked(length).ok_or(Malformed::Field)?;
            *bytes = rest;
            Wire::Bytes(inner)
        }
        other => {
            skip_field(other, number, bytes, DecodeContext::default())?;
            Wire::Other
        }
    };
    Ok((number, wire))
}

/// Reads a message's fields into `object`. Unknown fields are left out, as upstream does.
fn message(
    fields: &Fields,
    mut bytes: &[u8],
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<(), Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed::TooDeep)?;
    while bytes.has_remaining() {
        let (number, wire) = next(&mut bytes)?;
        let Some(field) = fields.get(&number) else {
            continue;
        };
        if field.json == "-" {
            let (Of::Message(name), Wire::Bytes(inner)) = (&field.of, wire) else {
                return Err(Malformed::Field);
            };
            message(inside(name)?, inner, depth, object)?;
            continue;
        }
        match field.shape {
            Shape::One { keep_zero } => {
                let value = element(&field.of, wire, depth)?;
                if !value.is_null() && (keep_zero || !is_zero(&value)) {
                    object.insert(field.json.clone(), value);
                }
            }
            Shape::List => put_item(field, wire, depth, object)?,
            Shape::Map => put_entry(field, wire, depth, object)?,
        }
    }
    Ok(())
}

fn put_item(
    field: &Field,
    wire: Wire<'_>,
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<(), Malformed> {
    let value = element(&field.of, wire, depth)?;
    let list = object
        .entry(field.json.clone())
        .or_insert_with(|| Value::Array(Vec::new()));
    list.as_array_mut().ok_or(Malformed::Field)?.push(value);
    Ok(())
}

fn put_entry(
    field: &Field,
    wire: Wire<'_>,
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<(), Malformed> {
    let Wire::Bytes(mut entry) = wire else {
        return Err(Malformed::Field);
    };
    let mut key = String::new();
    // An absent value is an empty one.
    let mut value = element(&field.of, Wire::Bytes(&[]), depth)?;
    while entry.has_remaining() {
        match next(&mut entry)? {
            (1, Wire::Bytes(text)) => key = values::text(text)?,
            (2, wire) => value = element(&field.of, wire, depth)?,
            _ => {}
        }
    }
    let map = object
        .entry(field.json.clone())
        .or_insert_with(|| Value::Object(Map::new()));
    map.as_object_mut().ok_or(Malformed::Field)?.insert(key, value);
    Ok(())
}

fn element(of: &Of, wire: Wire<'_>, depth: usize) -> Result<Value, Malformed> {
    match (of, wire) {
        (Of::Message(name), Wire::Bytes(bytes)) => {
            let mut object = Map::new();
            message(inside(name)?, bytes, depth, &mut object)?;
            Ok(Value::Object(object))
        }
        (Of::Value(kind), wire) => values::value(*kind, wire),
        _ => Err(Malformed::Field),
    }
}

fn inside(name: &str) -> Result<&'static Fields, Malformed> {
    fields::of(name).ok_or_else(|| Malformed::UnknownKind(name.to_owned()))
}

/// What Go leaves out of JSON under `omitempty`.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [
            &[number << 3 | 2, u8::try_from(bytes.len()).expect("short")],
            bytes,
        ]
        .concat()
    }

    fn body(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
        let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC, &field(1, &type_meta), &field(2, object)].concat()
    }

    #[test]
    fn objects_read_as_their_json() {
        let entry = [field(1, b"k"), field(2, b"v")].concat();
        let object = [
            field(1, &[field(1, b"name"), field(3, b"")].concat()),
            field(2, &entry),
        ]
        .concat();
        let decoded = decode(&body("v1", "ConfigMap", &object)).expect("a ConfigMap");
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "name"}, "data": {"k": "v"}});
        assert_eq!(Value::Object(decoded), expected);
    }

    #[test]
    fn a_zero_behind_a_pointer_is_kept() {
        let decoded = decode(&body("apps/v1", "DeleteOptions", &[1 << 3, 0])).expect("options");
        assert_eq!(decoded.get("gracePeriodSeconds"), Some(&json!(0)));
    }

    #[test]
    fn broken_bodies_are_refused() {
        assert!(matches!(decode(b"{}"), Err(Malformed::Magic)));
        assert!(matches!(
            decode(&body("v1", "Nothing", b"")),
            Err(Malformed::UnknownKind(_))
        ));
        assert!(decode(&body("v1", "ConfigMap", &[0x0a, 0x7f, 1])).is_err());
        assert_eq!(to_json(b"").expect_err("empty").code, 400);
    }
}

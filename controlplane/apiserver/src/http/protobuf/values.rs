//! Values that are no plain messages: scalars, and types with a JSON form of their own.

use super::{Malformed, Wire, next};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Buf;
use jiff::Timestamp;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Int,
    Bool,
    Double,
    Bytes,
    /// A list of texts in a message of its own.
    Strings,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// JSON in field 1: `RawExtension`, `FieldsV1`.
    Json,
}

impl Kind {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "string" => Self::String,
            "int" => Self::Int,
            "bool" => Self::Bool,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "strings" => Self::Strings,
            "time" => Self::Time,
            "microtime" => Self::MicroTime,
            "quantity" => Self::Quantity,
            "intorstring" => Self::IntOrString,
            "fields" | "raw" => Self::Json,
            _ => return None,
        })
    }
}

pub(super) fn text(bytes: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_not_text| Malformed::Field)
}

/// The JSON of a value; null for times that are not set.
pub(super) fn value(kind: Kind, wire: Wire<'_>) -> Result<Value, Malformed> {
    match (kind, wire) {
        (Kind::String, Wire::Bytes(bytes)) => Ok(text(bytes)?.into()),
        (Kind::Int, Wire::Varint(number)) => Ok(signed(number).into()),
        (Kind::Bool, Wire::Varint(number)) => Ok((number != 0).into()),
        (Kind::Double, Wire::Fixed64(bits)) => Ok(f64::from_bits(bits).into()),
        (Kind::Bytes, Wire::Bytes(bytes)) => Ok(STANDARD.encode(bytes).into()),
        (Kind::Strings, Wire::Bytes(bytes)) => strings(bytes),
        (Kind::Time, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%SZ"),
        (Kind::MicroTime, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%S.%6fZ"),
        (Kind::Quantity, Wire::Bytes(bytes)) => Ok(match field(bytes, 1)? {
            Some(Wire::Bytes(inner)) => text(inner)?.into(),
            _ => "0".into(),
        }),
        (Kind::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes),
        (Kind::Json, Wire::Bytes(bytes)) => match field(bytes, 1)? {
            Some(Wire::Bytes(json)) if !json.is_empty() => Ok(serde_json::from_slice(json)?),
            _ => Ok(Value::Null),
        },
        // The value of a map's entry that has none.
        (Kind::Int, Wire::Bytes([])) => Ok(0.into()),
        (Kind::Bool, Wire::Bytes([])) => Ok(false.into()),
        _ => Err(Malformed::Field),
    }
}

/// Negative numbers are two's complement in ten bytes.
fn signed(number: u64) -> i64 {
    i64::from_ne_bytes(number.to_ne_bytes())
}

/// The last occurrence of a field.
fn field(mut bytes: &[u8], number: u32) -> Result<Option<Wire<'_>>, Malformed> {
    let mut found = None;
    while bytes.has_remaining() {
        let (at, wire) = next(&mut bytes)?;
        if at == number {
            found = Some(wire);
        }
    }
    Ok(found)
}

fn strings(mut bytes: &[u8]) -> Result<Value, Malformed> {
    let mut list = Vec::new();
    while bytes.has_remaining() {
        if let (1, Wire::Bytes(inner)) = next(&mut bytes)? {
            list.push(Value::String(text(inner)?));
        }
    }
    Ok(Value::Array(list))
}

fn time(bytes: &[u8], format: &str) -> Result<Value, Malformed> {
    let number = |wire| match wire {
        Some(Wire::Varint(number)) => signed(number),
        _ => 0,
    };
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(number(field(bytes, 2)?)).map_err(|_large| Malformed::Field)?;
    let time = Timestamp::new(number(field(bytes, 1)?), nanos).map_err(|_range| Malformed::Field)?;
    Ok(time.strftime(format).to_string().into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Malformed> {
    let is_text = matches!(field(bytes, 1)?, Some(Wire::Varint(1)));
    Ok(match (is_text, field(bytes, if is_text { 3 } else { 2 })?) {
        (true, Some(Wire::Bytes(inner))) => text(inner)?.into(),
        (true, _) => "".into(),
        (false, Some(Wire::Varint(number))) => signed(number).into(),
        (false, _) => 0.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_have_their_json_form() {
        let cases: [(Kind, &[u8], Value); 7] = [
            (Kind::Time, b"\x08\xc0\x84\x3d", json!("1970-01-12T13:46:40Z")),
            (
                Kind::MicroTime,
                b"\x08\x01\x10\xe8\x07",
                json!("1970-01-01T00:00:01.000001Z"),
            ),
            (Kind::Time, b"", Value::Null),
            (Kind::Quantity, b"\x0a\x04100m", json!("100m")),
            (Kind::IntOrString, b"\x08\x00\x10\x50", json!(80)),
            (Kind::IntOrString, b"\x08\x01\x1a\x04http", json!("http")),
            (Kind::Json, b"\x0a\x07{\"a\":1}", json!({"a": 1})),
        ];
        for (kind, bytes, expected) in cases {
            assert_eq!(value(kind, Wire::Bytes(bytes)).expect("a value"), expected);
        }
        assert_eq!(
            value(Kind::Int, Wire::Varint(u64::MAX)).expect("a value"),
            json!(-1)
        );
        assert!(value(Kind::Int, Wire::Other).is_err());
    }
}

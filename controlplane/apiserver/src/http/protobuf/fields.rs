//! The table of field numbers, `data/protobuf-fields.txt`, which `cargo xtask gen-protobuf` writes.

use super::values::Kind;
use std::collections::HashMap;
use std::sync::OnceLock;

/// A message's fields by number.
pub(super) type Fields = HashMap<u32, Field>;

pub(super) struct Field {
    /// `-`: the message's fields stand in its parent.
    pub(super) json: String,
    pub(super) shape: Shape,
    pub(super) of: Of,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One { keep_zero: bool },
    List,
    Map,
}

pub(super) enum Of {
    Value(Kind),
    Message(String),
}

/// The fields of a type: `core.v1.PodSpec`.
pub(super) fn of(name: &str) -> Option<&'static Fields> {
    static TABLE: OnceLock<HashMap<String, Fields>> = OnceLock::new();
    TABLE
        .get_or_init(|| parse(include_str!("../../../data/protobuf-fields.txt")))
        .get(name)
}

/// Lines that are not understood are left out; a test sees to it that there are none.
fn parse(text: &str) -> HashMap<String, Fields> {
    let mut table: HashMap<String, Fields> = HashMap::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            None => {
                current = line.to_owned();
                table.entry(current.clone()).or_default();
            }
            Some(row) => {
                let parsed = parse_row(row);
                table.entry(current.clone()).or_default().extend(parsed);
            }
        }
    }
    table
}

fn parse_row(row: &str) -> Option<(u32, Field)> {
    let mut words = row.split(' ');
    let number = words.next()?.parse().ok()?;
    let json = words.next()?.to_owned();
    let shape = match words.next()?.trim_end_matches('!') {
        "one" => Shape::One {
            keep_zero: row.contains("one!"),
        },
        "list" => Shape::List,
        "map" => Shape::Map,
        _ => return None,
    };
    let of = words.next()?;
    let of = match Kind::parse(of) {
        Some(kind) => Of::Value(kind),
        None if of.contains('.') => Of::Message(of.to_owned()),
        None => return None,
    };
    Some((number, Field { json, shape, of }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_understood_and_leads_somewhere() {
        let text = include_str!("../../../data/protobuf-fields.txt");
        let table = parse(text);
        let rows = text.lines().filter(|line| line.starts_with("  ")).count();
        assert_eq!(table.values().map(HashMap::len).sum::<usize>(), rows);
        for (name, fields) in &table {
            for field in fields.values() {
                if let Of::Message(inner) = &field.of {
                    assert!(table.contains_key(inner), "{name}.{} is a {inner}", field.json);
                }
            }
        }
    }
}

//! `skep maps`: the dataplane's maps, and what is in them.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use skep_loader::{Dataplane, Entry, MapStatus, Shown, dump};

use super::place::{Pinned, Place};
use crate::output::{Format, bold, bytes, print, print_json, table};

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    place: Place,
    /// How to print
    #[arg(short, long, value_enum, default_value_t, global = true)]
    output: Format,
}

#[derive(Subcommand)]
enum Command {
    /// Show every map with its shape, fill and memory, as without a subcommand
    List,
    /// Print what a map holds, entry by entry
    Dump {
        /// The map, as `skep maps` names it
        map: String,
    },
}

pub(super) fn run(options: &Options) -> Result<()> {
    match &options.command {
        None | Some(Command::List) => list(&options.place, options.output),
        Some(Command::Dump { map }) => dump_map(map, &options.place, options.output),
    }
}

fn list(place: &Place, format: Format) -> Result<()> {
    let mut all = Vec::new();
    for Pinned { node, pin_dir } in place.nodes()? {
        let status = Dataplane::inspect(&pin_dir).with_context(|| format!("read the dataplane of {node}"))?;
        match format {
            Format::Table => print(&format!(
                "{}\n{}\n",
                bold(&format!("Node {node}")),
                list_table(&status.maps)
            ))?,
            Format::Json => all.extend(status.maps.iter().map(|map| list_json(&node, map))),
        }
    }
    print_json(format, &all)
}

fn list_table(maps: &[MapStatus]) -> String {
    let header = [
        "MAP", "TYPE", "KEY", "VALUE", "ENTRIES", "CAPACITY", "FILL", "MEMORY",
    ];
    let mut rows = table(&header, &[2, 3, 4, 5, 6, 7]);
    for map in maps {
        let fill = f64::from(map.entries) * 100.0 / f64::from(map.capacity.max(1));
        rows.add_row([
            map.name.to_owned(),
            map.kind.name().to_owned(),
            map.key_size.to_string(),
            map.value_size.to_string(),
            map.entries.to_string(),
            map.capacity.to_string(),
            format!("{fill:.1} %"),
            bytes(map.memory_bytes),
        ]);
    }
    let total: u64 = maps.iter().map(|map| map.memory_bytes).sum();
    format!("{rows}\n  {} in all", bytes(total))
}

fn list_json(node: &str, map: &MapStatus) -> Value {
    json!({
        "node": node,
        "map": map.name,
        "type": map.kind.name(),
        "keyBytes": map.key_size,
        "valueBytes": map.value_size,
        "entries": map.entries,
        "capacity": map.capacity,
        "memoryBytes": map.memory_bytes,
    })
}

fn dump_map(name: &str, place: &Place, format: Format) -> Result<()> {
    let mut all = Vec::new();
    let nodes = place.nodes()?;
    for Pinned { node, pin_dir } in &nodes {
        let entries = dump(pin_dir, name).with_context(|| format!("read map {name} of {node}"))?;
        match format {
            Format::Table => {
                if nodes.len() > 1 {
                    print(&format!("{}\n", bold(&format!("Node {node}"))))?;
                }
                let lines: String = entries.iter().map(|entry| line(entry) + "\n").collect();
                print(&lines)?;
            }
            Format::Json => {
                all.extend(entries.iter().map(
                    |entry| json!({"node": node, "key": value(&entry.key), "value": value(&entry.value)}),
                ))
            }
        }
    }
    print_json(format, &all)
}

fn line(entry: &Entry) -> String {
    format!("{}  ->  {}", entry.key, entry.value)
}

fn value(shown: &Shown) -> Value {
    match shown {
        Shown::Number(number) => json!(number),
        Shown::Text(text) => json!(text),
        Shown::Set(names) => json!(names),
        Shown::Struct(parts) => {
            let parts = parts.iter().map(|(name, part)| ((*name).to_owned(), value(part)));
            Value::Object(parts.collect::<Map<_, _>>())
        }
        Shown::List(parts) => parts.iter().map(value).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_lines_for_people_and_objects_for_programs() {
        let entry = Entry {
            key: Shown::Number(7),
            value: Shown::Struct(vec![
                ("address", Shown::Text("10.0.0.1".to_owned())),
                (
                    "flags",
                    Shown::Set(vec!["PRESENT".to_owned(), "LOCAL".to_owned()]),
                ),
                ("zone", Shown::Number(0)),
            ]),
        };
        assert_eq!(line(&entry), "7  ->  address=10.0.0.1 flags=PRESENT|LOCAL");
        let expected = json!({"address": "10.0.0.1", "flags": ["PRESENT", "LOCAL"], "zone": 0});
        assert_eq!(value(&entry.value), expected);
    }
}

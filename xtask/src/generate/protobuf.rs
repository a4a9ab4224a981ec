//! The table by which the API server reads protobuf: field numbers of the built-in kinds.
//!
//! The source is the struct tags of the Go modules k8s.io/api and k8s.io/apimachinery, unpacked somewhere
//! (`go mod download`, or a checkout of their repositories). The table is written anew when the API level
//! rises; field numbers never change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::command::{root, say};

const OUTPUT: &str = "controlplane/apiserver/data/protobuf-fields.txt";
const HEADER: &str = "\
# Field numbers of the built-in kinds, written by `cargo xtask gen-protobuf` from the struct tags of k8s.io/api and
# k8s.io/apimachinery. A type, then its fields: number, JSON name (- where the message's fields stand in its parent),
# one|list|map, and what it is. `!` after it: a zero is kept, since JSON would show it.
";

/// Types with a JSON form of their own.
const SPECIAL: &[(&str, &str)] = &[
    ("meta.v1.Time", "time"),
    ("meta.v1.MicroTime", "microtime"),
    ("meta.v1.FieldsV1", "fields"),
    ("resource.Quantity", "quantity"),
    ("intstr.IntOrString", "intorstring"),
    ("runtime.RawExtension", "raw"),
];

/// What a package declares.
#[derive(Default)]
struct Types {
    structs: BTreeMap<String, Vec<Field>>,
    /// What a name stands for, resolved as far as its own file could.
    aliases: BTreeMap<String, String>,
}

struct Field {
    number: u32,
    json: String,
    omit_empty: bool,
    /// With packages resolved: `*core.v1.PodSpec`, `[]string`, `map[string]resource.Quantity`.
    of: String,
}

/// Writes the table from the two unpacked modules.
pub(crate) fn run(api: &Path, apimachinery: &Path) -> Result<()> {
    let mut types = Types::default();
    types.read_package(&apimachinery.join("pkg/apis/meta/v1"), "meta.v1")?;
    types.read_package(&apimachinery.join("pkg/types"), "types")?;
    for group in folders(api)? {
        for version in folders(&group)? {
            types.read_package(&version, &format!("{}.{}", name(&group), name(&version)))?;
        }
    }
    let table = types.table()?;
    let path = root().join(OUTPUT);
    std::fs::create_dir_all(path.parent().context("a folder for the output")?)?;
    std::fs::write(&path, table).with_context(|| format!("write {OUTPUT}"))?;
    say(&format!("wrote {OUTPUT}"));
    Ok(())
}

fn folders(of: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(of).with_context(|| format!("read {}", of.display()))?;
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    Ok(folders)
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// Whether a type is of a version such as `v1` or `v2`, no alpha or beta.
fn is_stable(name: &str) -> bool {
    let version = name
        .split('.')
        .nth(1)
        .and_then(|version| version.strip_prefix('v'));
    version.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

impl Types {
    fn read_package(&mut self, folder: &Path, package: &str) -> Result<()> {
        for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            let file = name(&path);
            if file.ends_with(".go")
                && !file.ends_with("_test.go")
                && !file.starts_with("zz_")
                && !file.contains("generated")
            {
                self.read_file(&std::fs::read_to_string(&path)?, package);
            }
        }
        Ok(())
    }

    fn read_file(&mut self, text: &str, package: &str) {
        let mut imports: BTreeMap<String, String> = BTreeMap::new();
        let mut current: Option<(String, Vec<Field>)> = None;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (&mut current, &words[..]) {
                (_, [comment, ..]) if comment.starts_with("//") => {}
                (Some(_), ["}"]) if line.starts_with('}') => self.structs.extend(current.take()),
                (Some((_, fields)), _) => fields.extend(field(line, package, &imports)),
                (None, ["type", name, "struct", "{"]) => {
                    current = Some((format!("{package}.{name}"), Vec::new()))
                }
                (None, ["type", name, of]) => {
                    self.aliases
                        .insert(format!("{package}.{name}"), resolve(of, package, &imports));
                }
                (None, ["import", path] | [path]) if path.starts_with('"') => {
                    import(&mut imports, None, path)
                }
                (None, ["import", alias, path] | [alias, path]) if path.starts_with('"') => {
                    import(&mut imports, Some(alias), path);
                }
                _ => {}
            }
        }
    }

    fn table(&self) -> Result<String> {
        let is_root = |(name, fields): &(&String, &Vec<Field>)| {
            let is_kind = fields
                .iter()
                .any(|field| field.json == "metadata" && field.of == "meta.v1.ObjectMeta");
            (is_stable(name) && is_kind) || *name == "meta.v1.DeleteOptions"
        };
        let mut wanted: Vec<String> = self
            .structs
            .iter()
            .filter(is_root)
            .map(|(name, _)| name.clone())
            .collect();
        let mut written: BTreeMap<String, String> = BTreeMap::new();
        let mut seen: BTreeSet<String> = wanted.iter().cloned().collect();
        while let Some(name) = wanted.pop() {
            let mut text = String::new();
            for field in self
                .structs
                .get(&name)
                .with_context(|| format!("{name} is not declared"))?
            {
                let (shape, of, pointer) = self.shape(&field.of);
                let keep = if pointer || !field.omit_empty { "!" } else { "" };
                writeln!(text, "  {} {} {shape}{keep} {of}", field.number, field.json)?;
                if of.contains('.') && seen.insert(of.clone()) {
                    wanted.push(of);
                }
            }
            written.insert(name, text);
        }
        ensure!(
            written.contains_key("core.v1.Pod"),
            "no core/v1 in the given folder"
        );
        let types = written.iter().map(|(name, fields)| format!("{name}\n{fields}"));
        Ok(format!("{HEADER}{}", types.collect::<String>()))
    }

    /// One, list or map; of what; and whether through a pointer.
    fn shape(&self, of: &str) -> (&'static str, String, bool) {
        if let Some(inner) = of.strip_prefix('*') {
            let (shape, of, _) = self.shape(inner);
            return (shape, of, true);
        }
        if of == "[]byte" {
            return ("one", "bytes".to_owned(), false);
        }
        if let Some(item) = of.strip_prefix("[]") {
            return ("list", self.element(item), false);
        }
        if let Some((_, value)) = of.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            return ("map", self.element(value), false);
        }
        match self.aliases.get(of) {
            Some(alias) if !is_special(of) && (alias.starts_with("map[") || alias == "[]byte") => {
                self.shape(alias)
            }
            _ => ("one", self.element(of), false),
        }
    }

    fn element(&self, of: &str) -> String {
        if let Some((_, special)) = SPECIAL.iter().find(|(name, _)| *name == of) {
            return (*special).to_owned();
        }
        if let Some(alias) = self.aliases.get(of) {
            // A named list (only lists of texts have names) is a message that holds it.
            return if alias.starts_with("[]") {
                "strings".to_owned()
            } else {
                self.element(alias)
            };
        }
        match of.trim_start_matches('*') {
            "int" | "int8" | "int16" | "int32" | "int64" | "uint8" | "uint32" | "uint64" => "int",
            "float64" => "double",
            "[]byte" => "bytes",
            other => other,
        }
        .to_owned()
    }
}

fn is_special(name: &str) -> bool {
    SPECIAL.iter().any(|(special, _)| *special == name)
}

fn import(imports: &mut BTreeMap<String, String>, alias: Option<&str>, path: &str) {
    let path = path.trim_matches('"');
    let last = path.rsplit('/').next().unwrap_or(path);
    let package = if let Some(rest) = path.strip_prefix("k8s.io/api/") {
        rest.replace('/', ".")
    } else if path == "k8s.io/apimachinery/pkg/apis/meta/v1" {
        "meta.v1".to_owned()
    } else {
        last.to_owned()
    };
    imports.insert(alias.unwrap_or(last).to_owned(), package);
}

/// A field with a protobuf tag: `Name *Type `json:"name,omitempty" protobuf:"bytes,1,opt,name=name"``.
fn field(line: &str, package: &str, imports: &BTreeMap<String, String>) -> Option<Field> {
    let (declared, tags) = line.split_once('`')?;
    let tag = |name: &str| tags.split_once(&format!("{name}:\""))?.1.split('"').next();
    let number = tag("protobuf")?.split(',').nth(1)?.parse().ok()?;
    let mut json = tag("json")?.split(',');
    let name = json.next().filter(|name| !name.is_empty()).unwrap_or("-");
    let mut words = declared.split_whitespace();
    let first = words.next()?;
    let of: String = words.collect();
    let of = if of.is_empty() { first } else { &of };
    Some(Field {
        number,
        json: name.to_owned(),
        omit_empty: json.any(|option| option == "omitempty"),
        of: resolve(of, package, imports),
    })
}

/// Puts the package before every type name that is not of the language.
fn resolve(of: &str, package: &str, imports: &BTreeMap<String, String>) -> String {
    if let Some(rest) = of.strip_prefix('*') {
        return format!("*{}", resolve(rest, package, imports));
    }
    if let Some(rest) = of.strip_prefix("[]") {
        return format!("[]{}", resolve(rest, package, imports));
    }
    if let Some((key, value)) = of.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
        return format!("map[{key}]{}", resolve(value, package, imports));
    }
    match of.split_once('.') {
        Some((alias, name)) => {
            let package = imports.get(alias).map_or(alias, String::as_str);
            format!("{package}.{name}")
        }
        None if of.starts_with(|c: char| c.is_ascii_lowercase()) => of.to_owned(),
        None => format!("{package}.{of}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn struct_tags_become_rows() {
        let source = r#"
import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type Phase string
type Extra []string

type Thing struct {
	// a comment with `protobuf:"bytes,9"`
	metav1.ObjectMeta `json:"metadata,omitempty" protobuf:"bytes,1,opt,name=metadata"`
	Inner `json:",inline" protobuf:"bytes,2,opt,name=inner"`
	Phase Phase `json:"phase,omitempty" protobuf:"bytes,3,opt,name=phase,casttype=Phase"`
	Count *int32 `json:"count,omitempty" protobuf:"varint,4,opt,name=count"`
	Extra map[string]Extra `json:"extra,omitempty" protobuf:"bytes,5,rep,name=extra"`
	Data map[string][]byte `json:"data" protobuf:"bytes,6,rep,name=data"`
}
"#;
        let mut types = Types::default();
        types.read_file(source, "core.v1");
        let rows: Vec<String> = types.structs["core.v1.Thing"]
            .iter()
            .map(|field| {
                let (shape, of, pointer) = types.shape(&field.of);
                format!("{} {} {shape} {of} {pointer}", field.number, field.json)
            })
            .collect();
        assert_eq!(
            rows,
            [
                "1 metadata one meta.v1.ObjectMeta false",
                "2 - one core.v1.Inner false",
                "3 phase one string false",
                "4 count one int true",
                "5 extra map strings false",
                "6 data map bytes false",
            ]
        );
    }
}

//! Generated files: facts about the Kubernetes API that its types do not carry.
//!
//! One file is written from a package: how strategic merge patch and server-side apply treat each list and map of the built-in kinds.
//! The source is the OpenAPI definitions that the PyPI package kubernetes-validate packs.

pub(crate) mod protobuf;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use crate::command::{root, run as execute, say, target};

const PACKAGE: &str = "kubernetes-validate";
const VERSION: &str = "1.37.0";
const OUTPUT: &str = "controlplane/api/data/patch-facts.json";

/// Writes the generated files, or with `check` fails when they differ from what would be written.
pub(crate) fn run(check: bool) -> Result<()> {
    let generated = generate(&wheel()?)?;
    let path = root().join(OUTPUT);
    if !check {
        std::fs::create_dir_all(path.parent().context("a folder for the output")?)?;
        return std::fs::write(&path, generated).with_context(|| format!("write {OUTPUT}"));
    }
    let present = std::fs::read_to_string(&path).with_context(|| format!("read {OUTPUT}"))?;
    if present != generated {
        bail!("{OUTPUT} is not what its source says: run `cargo xtask gen`");
    }
    say("generated files are current");
    Ok(())
}

/// The package's file, downloaded once.
fn wheel() -> Result<PathBuf> {
    let folder = target().join("gen");
    let name = format!("{}-{VERSION}-py3-none-any.whl", PACKAGE.replace('-', "_"));
    let path = folder.join(name);
    if !path.is_file() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"]);
        execute(pip.arg(&folder).arg(format!("{PACKAGE}=={VERSION}")))?;
    }
    Ok(path)
}

/// The text of the facts file.
pub(crate) fn generate(wheel: &Path) -> Result<String> {
    let definitions = definitions(wheel)?;
    let mut types: BTreeMap<&str, Map<String, Value>> = definitions
        .iter()
        .map(|(name, definition)| (short(name), fields(definition)))
        .collect();
    keep_telling(&mut types);
    let mut kinds = BTreeMap::new();
    for (name, definition) in &definitions {
        for kind in definition["x-kubernetes-group-version-kind"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let text = |field: &str| kind[field].as_str().unwrap_or_default().to_owned();
            let metadata = definition["properties"]["metadata"]["$ref"]
                .as_str()
                .unwrap_or_default();
            if metadata.ends_with(".ObjectMeta") && types.contains_key(short(name)) {
                kinds.insert(
                    format!("{}/{}/{}", text("group"), text("version"), text("kind")),
                    short(name),
                );
            }
        }
    }
    Ok(render(&kinds, &types))
}

fn definitions(wheel: &Path) -> Result<Map<String, Value>> {
    let member = format!("kubernetes_validate/kubernetes-json-schema/v{VERSION}-local/_definitions.json");
    let script =
        "import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))";
    let mut python = Command::new("python3");
    let output = python
        .args(["-c", script])
        .arg(wheel)
        .arg(&member)
        .output()
        .context("start python3")?;
    if !output.status.success() {
        bail!(
            "{}: cannot read {member}: {}",
            wheel.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mut document: Value = serde_json::from_slice(&output.stdout).context("the definitions are JSON")?;
    match document["$defs"].take() {
        Value::Object(definitions) => Ok(definitions),
        _ => bail!("{member} has no $defs"),
    }
}

/// `core.v1.Pod` of `io.k8s.api.core.v1.Pod`.
fn short(name: &str) -> &str {
    ["io.k8s.api.", "io.k8s.apimachinery.pkg.apis.", "io.k8s."]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name)
}

/// What is to be told of a type's fields.
fn fields(definition: &Value) -> Map<String, Value> {
    let properties = definition["properties"].as_object();
    properties
        .into_iter()
        .flatten()
        .map(|(name, field)| (name.clone(), fact(field)))
        .filter(|(_, fact)| fact.as_object().is_some_and(|fact| !fact.is_empty()))
        .collect()
}

fn fact(field: &Value) -> Value {
    let mut fact = Map::new();
    let reference = [
        &field["$ref"],
        &field["items"]["$ref"],
        &field["additionalProperties"]["$ref"],
    ];
    if let Some(name) = reference.iter().find_map(|value| value.as_str()) {
        fact.insert(
            "type".to_owned(),
            json!(short(name.trim_start_matches("#/$defs/"))),
        );
    }
    for (source, name) in [
        ("x-kubernetes-patch-merge-key", "mergeKey"),
        ("x-kubernetes-patch-strategy", "strategy"),
        ("x-kubernetes-list-type", "list"),
        ("x-kubernetes-list-map-keys", "keys"),
        ("x-kubernetes-map-type", "map"),
    ] {
        match &field[source] {
            Value::Null => {}
            // Atomic is what lists are without a word.
            Value::String(text) if name == "list" && text == "atomic" => {}
            value => {
                fact.insert(name.to_owned(), value.clone());
            }
        }
    }
    Value::Object(fact)
}

/// Drops references to types of which nothing is to be told, and those types.
fn keep_telling(types: &mut BTreeMap<&str, Map<String, Value>>) {
    loop {
        let known: BTreeSet<String> = types
            .iter()
            .filter(|(_, fields)| !fields.is_empty())
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let before: usize = types.values().map(Map::len).sum();
        for fields in types.values_mut() {
            for fact in fields.values_mut().filter_map(Value::as_object_mut) {
                if fact
                    .get("type")
                    .and_then(Value::as_str)
                    .is_some_and(|name| !known.contains(name))
                {
                    fact.remove("type");
                }
            }
            fields.retain(|_, fact| fact.as_object().is_some_and(|fact| !fact.is_empty()));
        }
        types.retain(|_, fields| !fields.is_empty());
        if types.values().map(Map::len).sum::<usize>() == before {
            return;
        }
    }
}

/// One line per kind and per field, so that a new version shows as a small difference.
fn render(kinds: &BTreeMap<String, &str>, types: &BTreeMap<&str, Map<String, Value>>) -> String {
    let lines = |entries: Vec<String>| entries.join(",\n");
    let kinds = kinds
        .iter()
        .map(|(name, definition)| format!("    {}: {}", json!(name), json!(definition)));
    let types = types.iter().map(|(name, fields)| {
        let fields = fields
            .iter()
            .map(|(field, fact)| format!("      {}: {fact}", json!(field)));
        format!("    {}: {{\n{}\n    }}", json!(name), lines(fields.collect()))
    });
    format!(
        "{{\n  \"source\": \"Written by `cargo xtask gen` from the OpenAPI definitions in {PACKAGE} {VERSION} (PyPI).\",\n  \"kinds\": {{\n{}\n  }},\n  \"types\": {{\n{}\n  }}\n}}\n",
        lines(kinds.collect()),
        lines(types.collect()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tells_something_is_kept() {
        let definition = |properties: Value| json!({ "properties": properties });
        let dull = definition(json!({"x": {"type": "string"}}));
        let list = json!({"items": {"$ref": "#/$defs/io.k8s.api.core.v1.Item"}, "x-kubernetes-patch-merge-key": "name", "x-kubernetes-list-type": "atomic"});
        let telling = definition(json!({"items": list, "dull": {"$ref": "#/$defs/io.k8s.api.core.v1.Item"}}));
        let outer = definition(json!({"spec": {"$ref": "#/$defs/io.k8s.api.core.v1.Telling"}}));
        let mut types = BTreeMap::from([
            ("core.v1.Item", fields(&dull)),
            ("core.v1.Outer", fields(&outer)),
            ("core.v1.Telling", fields(&telling)),
        ]);
        keep_telling(&mut types);
        assert_eq!(
            json!(types),
            json!({
                "core.v1.Outer": {"spec": {"type": "core.v1.Telling"}},
                "core.v1.Telling": {"items": {"mergeKey": "name"}},
            })
        );
    }
}

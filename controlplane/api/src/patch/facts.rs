//! How the lists and maps of the built-in kinds merge: the generated table `data/patch-facts.json`.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Deserialize;

/// The whole table.
#[derive(Debug, Deserialize)]
pub(super) struct Facts {
    /// The type of a `group/version/kind`.
    kinds: HashMap<String, String>,
    types: HashMap<String, Fields>,
}

type Fields = HashMap<String, Field>;

/// What is known of one field.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Field {
    /// The type of the field's value, of its items or of its values.
    #[serde(rename = "type")]
    of: Option<String>,
    #[serde(rename = "mergeKey")]
    pub(super) merge_key: Option<String>,
    pub(super) strategy: Option<String>,
    /// `map` (by `keys`) or `set`; else the list is one value.
    pub(super) list: Option<String>,
    #[serde(default)]
    pub(super) keys: Vec<String>,
    /// `atomic` or `granular`.
    pub(super) map: Option<String>,
}

impl Field {
    /// Whether one of the field's strategies is this one.
    pub(super) fn has(&self, strategy: &str) -> bool {
        self.strategy
            .as_deref()
            .is_some_and(|all| all.split(',').any(|one| one == strategy))
    }
}

/// A type of the table; or nothing, for types of which nothing is to be told.
#[derive(Clone, Copy)]
pub(super) struct Schema(Option<&'static Fields>);

impl Schema {
    pub(super) fn field(self, name: &str) -> Option<&'static Field> {
        self.0?.get(name)
    }

    /// The type inside a field.
    pub(super) fn inside(self, name: &str) -> Self {
        let of = self.field(name).and_then(|field| field.of.as_deref());
        Self(of.and_then(|of| facts().types.get(of)))
    }
}

impl Facts {
    pub(super) fn kind(&'static self, group: &str, version: &str, kind: &str) -> Schema {
        let name = self.kinds.get(&format!("{group}/{version}/{kind}"));
        Schema(name.and_then(|name| self.types.get(name)))
    }

    /// By the table's own name of a type: `core.v1.PodSpec`.
    pub(super) fn of_type(&'static self, name: &str) -> Schema {
        Schema(self.types.get(name))
    }
}

pub(super) fn facts() -> &'static Facts {
    static FACTS: OnceLock<Facts> = OnceLock::new();
    FACTS.get_or_init(|| {
        serde_json::from_str(include_str!("../../data/patch-facts.json"))
            .expect("the generated file is checked by this crate's tests")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_through_types() {
        let spec = facts()
            .kind("apps", "v1", "Deployment")
            .inside("spec")
            .inside("template")
            .inside("spec");
        let containers = spec.field("containers").unwrap();
        assert_eq!(containers.merge_key.as_deref(), Some("name"));
        assert!(containers.has("merge") && !containers.has("retainKeys"));
        assert!(spec.field("volumes").unwrap().has("retainKeys"));
        let ports = spec.inside("containers").field("ports").unwrap();
        assert_eq!(ports.merge_key.as_deref(), Some("containerPort"));
        assert!(spec.field("tolerations").is_none_or(|field| !field.has("merge")));
    }
}

//! The facts about fields as OpenAPI states them, for clients that make patches.

use serde_json::{Value, json};

use super::facts::facts;

/// The `x-kubernetes-…` extensions of one field of an OpenAPI definition (`io.k8s.api.core.v1.PodSpec`).
pub fn field_extensions(definition: &str, field: &str) -> Vec<(&'static str, Value)> {
    let name = ["io.k8s.api.", "io.k8s.apimachinery.pkg.apis."]
        .iter()
        .find_map(|prefix| definition.strip_prefix(prefix));
    let Some(field) = name.and_then(|name| facts().of_type(name).field(field)) else {
        return Vec::new();
    };
    let texts = [
        ("x-kubernetes-patch-merge-key", &field.merge_key),
        ("x-kubernetes-patch-strategy", &field.strategy),
        ("x-kubernetes-list-type", &field.list),
        ("x-kubernetes-map-type", &field.map),
    ];
    let mut extensions: Vec<(&'static str, Value)> = texts
        .into_iter()
        .filter_map(|(name, value)| Some((name, json!(value.as_ref()?))))
        .collect();
    if !field.keys.is_empty() {
        extensions.push(("x-kubernetes-list-map-keys", json!(field.keys)));
    }
    extensions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_found_by_their_openapi_names() {
        let containers = field_extensions("io.k8s.api.core.v1.PodSpec", "containers");
        assert!(containers.contains(&("x-kubernetes-patch-merge-key", json!("name"))));
        assert!(containers.contains(&("x-kubernetes-patch-strategy", json!("merge"))));
        let owners = field_extensions(
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
            "ownerReferences",
        );
        assert!(owners.contains(&("x-kubernetes-patch-merge-key", json!("uid"))));
        assert_eq!(field_extensions("io.k8s.api.core.v1.PodSpec", "nodeName"), []);
        assert_eq!(field_extensions("other", "containers"), []);
    }
}

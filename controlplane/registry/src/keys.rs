//! How objects are named in the store: `/registry/<group or core>/<resource>/[<namespace>/]<name>`.
//!
//! The version is not part of the name: an object is stored once, whatever versions serve it.

use skep_api::{GroupVersionResource, ObjectKey, ResourceInfo};

use crate::Scope;

/// Everything of the registry lies under this prefix.
pub(crate) const ROOT: &str = "/registry/";

/// The prefix of all objects of a resource.
pub(crate) fn prefix(resource: &GroupVersionResource) -> String {
    let group = if resource.group.is_empty() {
        "core"
    } else {
        &resource.group
    };
    format!("{ROOT}{group}/{}/", resource.resource)
}

/// An object's name below its resource's prefix: `namespace/name` or `name`.
pub(crate) fn path(key: &ObjectKey) -> String {
    key.to_string()
}

/// The whole key of an object.
pub(crate) fn key(info: &ResourceInfo, key: &ObjectKey) -> String {
    prefix(&info.gvr) + &path(key)
}

/// What the paths of a scope begin with.
pub(crate) fn scope_prefix(scope: &Scope) -> String {
    match scope {
        Scope::All => String::new(),
        Scope::Namespace(namespace) => format!("{namespace}/"),
    }
}

/// Splits a key into its resource's prefix and the object's path.
pub(crate) fn split(key: &str) -> Option<(&str, &str)> {
    let below = key.strip_prefix(ROOT)?;
    let group = below.find('/')?;
    let resource = below[group + 1..].find('/')?;
    let at = ROOT.len() + group + 1 + resource + 1;
    Some(key.split_at(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_split_into_prefix_and_path() {
        let deployments = GroupVersionResource::new("apps", "v1", "deployments");
        let whole = prefix(&deployments) + &path(&ObjectKey::new("a", "b"));
        assert_eq!(whole, "/registry/apps/deployments/a/b");
        assert_eq!(split(&whole), Some(("/registry/apps/deployments/", "a/b")));
        assert_eq!(
            split("/registry/core/nodes/n"),
            Some(("/registry/core/nodes/", "n"))
        );
        assert_eq!(split("/registry/core"), None);
        assert_eq!(split("/other/core/nodes/n"), None);
    }
}

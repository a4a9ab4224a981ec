//! [`GroupVersionResource`]: how a resource is named in URLs.

use std::any::TypeId;
use std::borrow::Cow;
use std::fmt;

use k8s_openapi::{ClusterResourceScope, Resource};

use crate::Object;

/// Group, version and plural name of a resource: `apps`, `v1`, `deployments`. The core group is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersionResource {
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub resource: Cow<'static, str>,
}

impl GroupVersionResource {
    /// From names that are known at compile time.
    pub const fn new(group: &'static str, version: &'static str, resource: &'static str) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            resource: Cow::Borrowed(resource),
        }
    }

    /// From names that came with a request.
    pub fn owned(group: impl Into<String>, version: impl Into<String>, resource: impl Into<String>) -> Self {
        Self {
            group: Cow::Owned(group.into()),
            version: Cow::Owned(version.into()),
            resource: Cow::Owned(resource.into()),
        }
    }

    /// `v1` or `apps/v1`, as in an object's `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods` or `deployments.apps`, as in error messages and RBAC.
    pub fn group_resource(&self) -> String {
        qualified(&self.resource, &self.group)
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.resource)
    }
}

/// `name.group`, or `name` alone in the core group.
pub(crate) fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// The resource of a compiled-in type.
pub fn gvr_of<K: Resource>() -> GroupVersionResource {
    GroupVersionResource::new(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
}

/// Whether objects of a compiled-in type live in namespaces.
pub fn is_namespaced<K: Object>() -> bool {
    TypeId::of::<K::Scope>() != TypeId::of::<ClusterResourceScope>()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Node;

    use super::*;

    #[test]
    fn names_of_compiled_in_types() {
        let deployments = gvr_of::<Deployment>();
        assert_eq!(deployments.api_version(), "apps/v1");
        assert_eq!(deployments.group_resource(), "deployments.apps");
        assert_eq!(gvr_of::<Node>().group_resource(), "nodes");
        assert!(is_namespaced::<Deployment>());
        assert!(!is_namespaced::<Node>());
    }
}

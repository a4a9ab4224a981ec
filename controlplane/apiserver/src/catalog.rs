//! Everything that is served under `/api` and `/apis`, for discovery and OpenAPI: the registry's table
//! and the resources that exist only as questions (access reviews), with all their subresources.

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use k8s_openapi::{NamespaceResourceScope, Resource};
use schemars::{JsonSchema, SchemaGenerator};
use skep_api::{GroupVersionResource, ResourceTable, Subresource};
use std::any::TypeId;

/// Registers a type's schema and those it refers to.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator);

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gvk {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
}

impl Gvk {
    fn new(group: &str, version: &str, kind: &str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
        }
    }
}

/// One resource.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) resource: GroupVersionResource,
    pub(crate) kind: Gvk,
    /// `None` where nothing is listed.
    pub(crate) list_kind: Option<String>,
    pub(crate) singular: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<&'static str>,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) subresources: Vec<SubEntry>,
    pub(crate) schema: SchemaOf,
}

/// One subresource.
#[derive(Clone)]
pub(crate) struct SubEntry {
    pub(crate) name: &'static str,
    pub(crate) kind: Gvk,
    pub(crate) verbs: Vec<&'static str>,
}

/// A group with its versions, the preferred one first.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) versions: Vec<Version>,
}

pub(crate) struct Version {
    pub(crate) version: String,
    pub(crate) entries: Vec<Entry>,
}

impl Version {
    /// `v1` or `apps/v1`.
    pub(crate) fn api_version(&self, group: &str) -> String {
        if group.is_empty() {
            self.version.clone()
        } else {
            format!("{group}/{}", self.version)
        }
    }
}

/// Everything, by group in the table's order; the core group is the first one.
pub(crate) fn groups(table: &ResourceTable) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for entry in table.iter().map(|row| registered(row)).chain(questions()) {
        let (group, version) = (&entry.kind.group, &entry.kind.version);
        let at = groups
            .iter()
            .position(|known| known.name == *group)
            .unwrap_or_else(|| {
                groups.push(Group {
                    name: group.clone(),
                    versions: Vec::new(),
                });
                groups.len() - 1
            });
        let versions = &mut groups[at].versions;
        let at = versions
            .iter()
            .position(|known| known.version == *version)
            .unwrap_or_else(|| {
                versions.push(Version {
                    version: version.clone(),
                    entries: Vec::new(),
                });
                versions.len() - 1
            });
        versions[at].entries.push(entry);
    }
    for entries in groups
        .iter_mut()
        .flat_map(|group| &mut group.versions)
        .map(|version| &mut version.entries)
    {
        entries.sort_by(|a, b| a.resource.resource.cmp(&b.resource.resource));
    }
    groups
}

fn registered(row: &skep_api::ResourceInfo) -> Entry {
    let (group, version) = (row.gvr.group.as_ref(), row.gvr.version.as_ref());
    let kind = Gvk::new(group, version, &row.kind);
    let mut subresources: Vec<SubEntry> = row
        .subresources
        .iter()
        .map(|subresource| SubEntry {
            name: subresource.as_str(),
            kind: match subresource {
                Subresource::Scale => Gvk::new("autoscaling", "v1", "Scale"),
                Subresource::Binding => Gvk::new("", "v1", "Binding"),
                _ => kind.clone(),
            },
            verbs: subresource.verbs().iter().map(|verb| verb.as_str()).collect(),
        })
        .collect();
    if group.is_empty() && row.gvr.resource == "pods" {
        subresources.extend(pod_connections());
    }
    if group.is_empty() && row.gvr.resource == "serviceaccounts" {
        subresources.push(SubEntry {
            name: "token",
            kind: Gvk::new(TokenRequest::GROUP, TokenRequest::VERSION, TokenRequest::KIND),
            verbs: vec!["create"],
        });
    }
    subresources.sort_by_key(|subresource| subresource.name);
    Entry {
        resource: row.gvr.clone(),
        list_kind: Some(row.list_kind.clone()),
        singular: row.singular.clone(),
        namespaced: row.namespaced,
        verbs: row.verbs.iter().map(|verb| verb.as_str()).collect(),
        short_names: row.short_names.clone(),
        categories: row.categories.clone(),
        subresources,
        schema: row.schema,
        kind,
    }
}

/// The subresources of pods that are answered by the node's kubelet.
fn pod_connections() -> Vec<SubEntry> {
    let connect = |name, kind| SubEntry {
        name,
        kind: Gvk::new("", "v1", kind),
        verbs: vec!["create", "get"],
    };
    vec![
        SubEntry {
            name: "log",
            kind: Gvk::new("", "v1", "Pod"),
            verbs: vec!["get"],
        },
        connect("exec", "PodExecOptions"),
        connect("attach", "PodAttachOptions"),
        connect("portforward", "PodPortForwardOptions"),
    ]
}

/// Resources that are created only to read the answer.
fn questions() -> [Entry; 5] {
    [
        question::<SelfSubjectReview>("selfsubjectreview"),
        question::<LocalSubjectAccessReview>("localsubjectaccessreview"),
        question::<SelfSubjectAccessReview>("selfsubjectaccessreview"),
        question::<SelfSubjectRulesReview>("selfsubjectrulesreview"),
        question::<SubjectAccessReview>("subjectaccessreview"),
    ]
}

fn question<K: Resource<Scope: 'static> + JsonSchema>(singular: &str) -> Entry {
    Entry {
        resource: skep_api::gvr_of::<K>(),
        kind: Gvk::new(K::GROUP, K::VERSION, K::KIND),
        list_kind: None,
        singular: singular.to_owned(),
        namespaced: TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>(),
        verbs: vec!["create"],
        short_names: Vec::new(),
        categories: Vec::new(),
        subresources: Vec::new(),
        schema: |generator| drop(generator.subschema_for::<K>()),
    }
}

//! Discovery: `/api`, `/apis` and what hangs below, plain and aggregated.
//!
//! Built once from the catalog; answers carry an ETag, which kubectl's cache asks by.

use crate::catalog::{Entry, Group, SubEntry, Version};
use crate::http::Response;
use crate::http::negotiate;
use crate::http::reply;
use bytes::Bytes;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

const AGGREGATED_KIND: &str = "APIGroupDiscoveryList";
const AGGREGATED_GROUP: &str = "apidiscovery.k8s.io";

/// A document that is the same for everyone, with its ETag.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    content_type: String,
    body: Bytes,
    etag: String,
}

impl Document {
    pub(crate) fn json(content_type: impl Into<String>, value: &Value) -> Self {
        Self::new(content_type, Bytes::from(value.to_string()))
    }

    pub(crate) fn new(content_type: impl Into<String>, body: Bytes) -> Self {
        let etag = format!("\"{}\"", fingerprint(&body));
        Self {
            content_type: content_type.into(),
            body,
            etag,
        }
    }

    /// A short hash of the content, for URLs.
    pub(crate) fn hash(&self) -> &str {
        self.etag.trim_matches('"')
    }

    /// The document, or 304 for who has it.
    pub(crate) fn answer(&self, request: &HeaderMap) -> Response {
        let known = request
            .get(IF_NONE_MATCH)
            .is_some_and(|value| value.as_bytes() == self.etag.as_bytes());
        let mut response = if known {
            reply::answer(StatusCode::NOT_MODIFIED, &self.content_type, Bytes::new())
        } else {
            reply::compressible(StatusCode::OK, &self.content_type, request, self.body.clone())
        };
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            response.headers_mut().insert(ETAG, etag);
        }
        response
            .headers_mut()
            .insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        response
    }
}

/// Equal for equal content, in this process and the next one of the same build.
fn fingerprint(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    let first = hasher.finish();
    first.hash(&mut hasher);
    format!("{first:016X}{:016X}", hasher.finish())
}

/// All documents, by path.
pub(crate) struct Discovery {
    plain: HashMap<String, Document>,
    /// By path (`/api`, `/apis`) and version of the aggregated form.
    aggregated: HashMap<(&'static str, &'static str), Document>,
}

impl Discovery {
    pub(crate) fn new(groups: &[Group], server_address: &str) -> Self {
        let mut plain = HashMap::new();
        let mut put =
            |path: String, value: Value| plain.insert(path, Document::json("application/json", &value));
        let (core, named): (Vec<&Group>, Vec<&Group>) =
            groups.iter().partition(|group| group.name.is_empty());
        let versions: Vec<&String> = core
            .iter()
            .flat_map(|group| &group.versions)
            .map(|v| &v.version)
            .collect();
        put(
            "/api".into(),
            json!({
                "kind": "APIVersions", "versions": versions,
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
            }),
        );
        let list: Vec<Value> = named.iter().map(|group| api_group(group)).collect();
        put(
            "/apis".into(),
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}),
        );
        for group in &named {
            let mut value = api_group(group);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            put(format!("/apis/{}", group.name), value);
        }
        for group in groups {
            for version in &group.versions {
                let api_version = version.api_version(&group.name);
                let root = if group.name.is_empty() { "/api" } else { "/apis" };
                put(
                    format!("{root}/{api_version}"),
                    resource_list(&api_version, version),
                );
            }
        }
        let mut aggregated = HashMap::new();
        for form in ["v2", "v2beta1"] {
            aggregated.insert(("/api", form), aggregate(&core, form));
            aggregated.insert(("/apis", form), aggregate(&named, form));
        }
        Self { plain, aggregated }
    }

    /// The answer, if the path is one of discovery's.
    pub(crate) fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Response> {
        let path = path.trim_end_matches('/');
        let document = self
            .aggregated_form(path, headers)
            .or_else(|| self.plain.get(path))?;
        Some(document.answer(headers))
    }

    /// The aggregated document, where the client asks for it before plain JSON.
    fn aggregated_form(&self, path: &str, headers: &HeaderMap) -> Option<&Document> {
        let accept = headers.get(ACCEPT)?.to_str().ok()?;
        for clause in negotiate::clauses(accept) {
            if clause.media_type != "application/json" {
                continue;
            }
            let kind = clause.parameter("as")?;
            if kind != AGGREGATED_KIND || clause.parameter("g") != Some(AGGREGATED_GROUP) {
                continue;
            }
            let found = self
                .aggregated
                .iter()
                .find(|((of, form), _)| *of == path && clause.parameter("v") == Some(*form));
            if let Some((_, document)) = found {
                return Some(document);
            }
        }
        None
    }
}

fn api_group(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|v| json!({"groupVersion": v.api_version(&group.name), "version": v.version}))
        .collect();
    json!({"name": group.name, "preferredVersion": versions.first(), "versions": versions})
}

fn resource_list(api_version: &str, version: &Version) -> Value {
    let mut resources = Vec::new();
    for entry in &version.entries {
        let mut resource = json!({
            "name": entry.resource.resource, "singularName": entry.singular, "namespaced": entry.namespaced,
            "kind": entry.kind.kind, "verbs": entry.verbs,
        });
        put_names(&mut resource, entry);
        resources.push(resource);
        resources.extend(entry.subresources.iter().map(|subresource| {
            let mut value = json!({
                "name": format!("{}/{}", entry.resource.resource, subresource.name), "singularName": "",
                "namespaced": entry.namespaced, "kind": subresource.kind.kind, "verbs": subresource.verbs,
            });
            if subresource.kind.group != entry.kind.group {
                value["group"] = subresource.kind.group.clone().into();
                value["version"] = subresource.kind.version.clone().into();
            }
            value
        }));
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources})
}

fn put_names(value: &mut Value, entry: &Entry) {
    if !entry.short_names.is_empty() {
        value["shortNames"] = json!(entry.short_names);
    }
    if !entry.categories.is_empty() {
        value["categories"] = json!(entry.categories);
    }
}

fn aggregate(groups: &[&Group], form: &str) -> Document {
    let items: Vec<Value> = groups
        .iter()
        .map(|group| {
            let versions: Vec<Value> = group.versions.iter().map(aggregate_version).collect();
            let metadata = if group.name.is_empty() {
                json!({})
            } else {
                json!({"name": group.name})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let value = json!({
        "kind": AGGREGATED_KIND, "apiVersion": format!("{AGGREGATED_GROUP}/{form}"), "metadata": {}, "items": items,
    });
    Document::json(
        format!("application/json;g={AGGREGATED_GROUP};v={form};as={AGGREGATED_KIND}"),
        &value,
    )
}

fn aggregate_version(version: &Version) -> Value {
    let scope = |entry: &Entry| if entry.namespaced { "Namespaced" } else { "Cluster" };
    let resources: Vec<Value> = version
        .entries
        .iter()
        .map(|entry| {
            let mut value = json!({
                "resource": entry.resource.resource, "responseKind": kind_of(&entry.kind), "scope": scope(entry),
                "singularResource": entry.singular, "verbs": entry.verbs,
            });
            put_names(&mut value, entry);
            if !entry.subresources.is_empty() {
                value["subresources"] = entry.subresources.iter().map(aggregate_subresource).collect();
            }
            value
        })
        .collect();
    json!({"version": version.version, "freshness": "Current", "resources": resources})
}

fn aggregate_subresource(subresource: &SubEntry) -> Value {
    json!({
        "subresource": subresource.name, "responseKind": kind_of(&subresource.kind), "verbs": subresource.verbs,
    })
}

fn kind_of(kind: &crate::catalog::Gvk) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

//! What a request asks for, read from its method, path and query: upstream's `RequestInfo`.
//!
//! Authorization goes by this and nothing else.

use crate::http::query::Query;
use http::Method;
use percent_encoding::percent_decode_str;
use skep_api::{FieldSelector, GroupVersionResource};

/// A request in the terms of authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, …; the lower-case method for paths that are no resources.
    pub(crate) verb: &'static str,
    pub(crate) path: String,
    pub(crate) resource: Option<ResourcePath>,
    /// What a list or watch is narrowed to.
    pub(crate) fields: FieldSelector,
}

/// The resource that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) resource: GroupVersionResource,
    /// Empty: cluster-scoped, or all namespaces.
    pub(crate) namespace: String,
    /// Empty: the collection.
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// What follows the subresource, for proxies.
    pub(crate) rest: Vec<String>,
}

impl RequestInfo {
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let resource = ResourcePath::parse(path);
        let (resource, watched) = match resource {
            Some((resource, watched)) => (Some(resource), watched),
            None => (None, false),
        };
        let verb = match &resource {
            Some(resource) => resource_verb(method, resource, watched || query.flag("watch")),
            None => method_verb(method),
        };
        let fields = fields(query);
        Self {
            verb,
            path: path.to_owned(),
            resource: resource.map(|resource| resource.named_by_selector(verb, &fields)),
            fields,
        }
    }
}

impl ResourcePath {
    /// The resource, and whether the path itself asks for a watch (`/api/v1/watch/…`).
    fn parse(path: &str) -> Option<(Self, bool)> {
        let parts: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let (group, version, mut rest) = match parts.first()?.as_str() {
            "api" => ("", parts.get(1)?, parts.get(2..)?),
            "apis" => (parts.get(1)?.as_str(), parts.get(2)?, parts.get(3..)?),
            _ => return None,
        };
        let watched = rest.first()? == "watch";
        if watched {
            rest = rest.get(1..)?;
        }
        let mut namespace = String::new();
        if rest.first()? == "namespaces"
            && let Some(name) = rest.get(1)
        {
            namespace.clone_from(name);
            // `namespaces/x` and its own subresources are about the namespace; all else is inside of it.
            if let Some(inner) = rest.get(2)
                && inner != "status"
                && inner != "finalize"
            {
                rest = rest.get(2..)?;
            }
        }
        let part = |index: usize| rest.get(index).cloned().unwrap_or_default();
        let parsed = Self {
            resource: GroupVersionResource::owned(group, version.as_str(), part(0)),
            namespace,
            name: part(1),
            subresource: part(2),
            rest: rest.get(3..).unwrap_or_default().to_vec(),
        };
        Some((parsed, watched))
    }

    /// A collection request narrowed to one name by its field selector counts as one for that name,
    /// so that rules with `resourceNames` can allow it.
    pub(crate) fn named_by_selector(mut self, verb: &str, fields: &FieldSelector) -> Self {
        if self.name.is_empty() && matches!(verb, "list" | "watch" | "deletecollection") {
            self.name = fields.value_of("metadata.name").unwrap_or_default().to_owned();
        }
        self
    }
}

/// The query's field selector. One that cannot be read narrows nothing; whoever serves the request refuses it.
pub(crate) fn fields(query: &Query) -> FieldSelector {
    FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).unwrap_or_default()
}

fn resource_verb(method: &Method, resource: &ResourcePath, watched: bool) -> &'static str {
    let collection = resource.name.is_empty();
    match *method {
        Method::GET | Method::HEAD if watched => "watch",
        Method::GET | Method::HEAD if collection => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(method: &Method, uri: &str) -> String {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let info = RequestInfo::parse(method, path, &Query::parse(query));
        match info.resource {
            Some(r) => format!(
                "{} {} ns={} name={} sub={}",
                info.verb, r.resource, r.namespace, r.name, r.subresource
            ),
            None => format!("{} {}", info.verb, info.path),
        }
    }

    #[test]
    fn paths_read_as_upstream() {
        let get = [
            ("/api/v1/pods", "list v1/pods ns= name= sub="),
            ("/api/v1/namespaces", "list v1/namespaces ns= name= sub="),
            ("/api/v1/namespaces/a", "get v1/namespaces ns=a name=a sub="),
            (
                "/api/v1/namespaces/a/status",
                "get v1/namespaces ns=a name=a sub=status",
            ),
            ("/api/v1/namespaces/a/pods", "list v1/pods ns=a name= sub="),
            (
                "/api/v1/namespaces/a/pods?watch=1",
                "watch v1/pods ns=a name= sub=",
            ),
            (
                "/api/v1/watch/namespaces/a/pods/b",
                "watch v1/pods ns=a name=b sub=",
            ),
            (
                "/api/v1/namespaces/a/pods/b/log",
                "get v1/pods ns=a name=b sub=log",
            ),
            (
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "get apps/v1/deployments ns=a name=b sub=scale",
            ),
            (
                "/api/v1/pods?fieldSelector=metadata.name%3Dx",
                "list v1/pods ns= name=x sub=",
            ),
            (
                "/api/v1/pods?fieldSelector=spec.nodeName!=n,metadata.name==x",
                "list v1/pods ns= name=x sub=",
            ),
            (
                "/api/v1/pods?fieldSelector=metadata.name!=x",
                "list v1/pods ns= name= sub=",
            ),
            ("/api/v1", "get /api/v1"),
            ("/apis/apps/v1", "get /apis/apps/v1"),
            ("/healthz", "get /healthz"),
        ];
        for (uri, expected) in get {
            assert_eq!(shape(&Method::GET, uri), expected, "{uri}");
        }
        assert_eq!(
            shape(&Method::DELETE, "/api/v1/nodes"),
            "deletecollection v1/nodes ns= name= sub="
        );
        assert_eq!(shape(&Method::POST, "/openapi"), "post /openapi");
    }
}

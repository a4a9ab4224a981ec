//! A request to the API in the terms of the API: verb, resource, name; not of HTTP.

use std::fmt;

use bytes::Bytes;
use skep_api::{ApiError, GroupVersionResource, Object, gvr_of};

/// What to do with the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch(PatchKind),
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The verb's name in authorization rules and error texts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch(_) => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a patch's body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' strategic merge: lists merge by their keys.
    Strategic,
    /// Server-side apply.
    Apply,
}

impl PatchKind {
    /// The patch's `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

pub(crate) fn decode_json<K: Object>(json: &[u8]) -> Result<K, ApiError> {
    serde_json::from_slice(json).map_err(|error| {
        ApiError::internal(format!("decoding {} from the server's answer: {error}", K::KIND))
    })
}

/// One request. `namespace` is `None` for cluster-scoped kinds and for lists and watches over all namespaces.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    pub verb: Verb,
    pub resource: GroupVersionResource,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
    /// Decoded query parameters, in the API's spelling (`labelSelector`, `resourceVersion`, …).
    pub query: Vec<(String, String)>,
    /// JSON.
    pub body: Option<Bytes>,
}

impl ApiRequest {
    /// A request without name, namespace, query and body.
    #[must_use]
    pub fn new(verb: Verb, resource: GroupVersionResource) -> Self {
        Self {
            verb,
            resource,
            namespace: None,
            name: None,
            subresource: None,
            query: Vec::new(),
            body: None,
        }
    }

    /// A request for kind `K`.
    #[must_use]
    pub fn of<K: Object>(verb: Verb) -> Self {
        Self::new(verb, gvr_of::<K>())
    }

    /// An empty namespace is none.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        self
    }

    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    #[must_use]
    pub fn subresource(mut self, subresource: &str) -> Self {
        self.subresource = Some(subresource.to_owned());
        self
    }

    #[must_use]
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub fn body(mut self, json: Bytes) -> Self {
        self.body = Some(json);
        self
    }
}

/// `get pods/status default/web-0`: for errors and logs.
impl fmt::Display for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource.resource)?;
        if !self.resource.group.is_empty() {
            write!(f, ".{}", self.resource.group)?;
        }
        if let Some(subresource) = &self.subresource {
            write!(f, "/{subresource}")?;
        }
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}"),
            (None, Some(name)) => write!(f, " {name}"),
            (Some(namespace), None) => write!(f, " in {namespace}"),
            (None, None) => Ok(()),
        }
    }
}

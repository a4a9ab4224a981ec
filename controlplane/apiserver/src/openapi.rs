//! OpenAPI documents, built from the catalog: what `kubectl explain`, client-side patches and code
//! generators read. v3 has one document per group and version, v2 one for all.

mod operations;
mod proto;
mod render;
mod schemas;

use crate::catalog::Group;
use crate::discovery::Document;
use crate::http::negotiate;
use crate::http::query::Query;
use crate::http::{Response, reply};
use crate::version;
use http::header::{ACCEPT, CACHE_CONTROL, EXPIRES, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use skep_api::ApiError;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The two dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// Where definitions stand in the document.
    fn definitions_path(self) -> &'static str {
        match self {
            Self::V2 => "/definitions",
            Self::V3 => "/components/schemas",
        }
    }

    fn reference(self, definition: &str) -> Value {
        json!({"$ref": format!("#{}/{definition}", self.definitions_path())})
    }
}

/// The documents; made on first use, since most processes never ask.
pub(crate) struct OpenApi {
    groups: Vec<Group>,
    v2: OnceLock<V2>,
    v3: OnceLock<V3>,
}

struct V2 {
    json: Document,
    protobuf: Document,
}

struct V3 {
    index: Document,
    /// By `api/v1`, `apis/apps/v1`, ….
    documents: BTreeMap<String, Document>,
}

impl OpenApi {
    pub(crate) fn new(groups: Vec<Group>) -> Self {
        Self {
            groups,
            v2: OnceLock::new(),
            v3: OnceLock::new(),
        }
    }

    /// The answer, if the path is one of OpenAPI's.
    pub(crate) fn answer(&self, path: &str, query: &Query, headers: &HeaderMap) -> Option<Response> {
        let path = path.trim_end_matches('/');
        if path == "/openapi/v2" {
            let v2 = self.v2.get_or_init(|| v2(&self.groups));
            return Some(match v2_media_type(headers) {
                Some(proto::MEDIA_TYPE) => v2.protobuf.answer(headers),
                Some(_) => v2.json.answer(headers),
                None => reply::status_of(&ApiError::not_acceptable(&[
                    "application/json",
                    proto::MEDIA_TYPE,
                ])),
            });
        }
        let v3_path = path.strip_prefix("/openapi/v3")?;
        let v3 = self.v3.get_or_init(|| v3(&self.groups));
        if v3_path.is_empty() {
            return Some(v3.index.answer(headers));
        }
        let name = v3_path.trim_start_matches('/');
        let document = v3.documents.get(name)?;
        Some(match query.get("hash") {
            Some(hash) if hash != document.hash() => moved(&server_relative_url(name, document)),
            asked => {
                let mut response = document.answer(headers);
                if asked.is_some() {
                    keep_for_long(&mut response);
                }
                response
            }
        })
    }
}

/// The most wanted of the two forms of v2.
fn v2_media_type(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or("*/*");
    negotiate::clauses(accept)
        .iter()
        .find_map(|clause| match clause.media_type {
            "application/json" | "application/*" | "*/*" => Some("application/json"),
            proto::MEDIA_TYPE | proto::CONTENT_TYPE => Some(proto::MEDIA_TYPE),
            _ => None,
        })
}

/// An outdated hash leads to the current document.
fn moved(to: &str) -> Response {
    let mut response = reply::answer(StatusCode::MOVED_PERMANENTLY, "text/plain", "");
    if let Ok(location) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// A URL with a hash never changes its content.
fn keep_for_long(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, immutable, max-age=31536000"),
    );
    headers.remove(EXPIRES);
}

fn server_relative_url(name: &str, document: &Document) -> String {
    format!("/openapi/v3/{name}?hash={}", document.hash())
}

fn v2(groups: &[Group]) -> V2 {
    let value = v2_value(groups);
    V2 {
        json: Document::json("application/json", &value),
        protobuf: Document::new(proto::CONTENT_TYPE, proto::document(&value).into()),
    }
}

fn v2_value(groups: &[Group]) -> Value {
    let entries = || {
        groups
            .iter()
            .flat_map(|group| &group.versions)
            .flat_map(|version| &version.entries)
    };
    json!({
        "swagger": "2.0", "info": info(),
        "paths": render::paths(Dialect::V2, entries()),
        "definitions": schemas::definitions(Dialect::V2, entries()),
    })
}

fn v3(groups: &[Group]) -> V3 {
    let mut documents = BTreeMap::new();
    for group in groups {
        for version in &group.versions {
            let root = if group.name.is_empty() { "api" } else { "apis" };
            let name = format!("{root}/{}", version.api_version(&group.name));
            let value = json!({
                "openapi": "3.0.0", "info": info(),
                "paths": render::paths(Dialect::V3, version.entries.iter()),
                "components": {"schemas": schemas::definitions(Dialect::V3, version.entries.iter())},
            });
            documents.insert(name, Document::json("application/json", &value));
        }
    }
    let paths: BTreeMap<&String, Value> = documents
        .iter()
        .map(|(name, document)| {
            (
                name,
                json!({"serverRelativeURL": server_relative_url(name, document)}),
            )
        })
        .collect();
    let index = Document::json("application/json", &json!({"paths": paths}));
    V3 { index, documents }
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": version::GIT_VERSION})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;
    use http_body_util::BodyExt;
    use skep_api::ResourceTable;

    async fn get(path: &str) -> Value {
        let openapi = OpenApi::new(catalog::groups(&ResourceTable::builtin()));
        let response = openapi
            .answer(path, &Query::default(), &HeaderMap::new())
            .expect("a document");
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.expect("body").to_bytes();
        serde_json::from_slice(&body).expect("JSON")
    }

    /// Every `$ref` in the document leads somewhere in it.
    fn assert_closed(document: &Value, value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                    let pointer = reference.trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                map.values().for_each(|value| assert_closed(document, value));
            }
            Value::Array(values) => values.iter().for_each(|value| assert_closed(document, value)),
            _ => {}
        }
    }

    #[tokio::test]
    async fn references_lead_somewhere() {
        for path in ["/openapi/v2", "/openapi/v3/api/v1", "/openapi/v3/apis/apps/v1"] {
            let document = get(path).await;
            assert_closed(&document, &document);
        }
    }

    #[tokio::test]
    async fn kubectl_finds_what_it_looks_for() {
        let core = get("/openapi/v3/api/v1").await;
        let pod = &core["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
        assert_eq!(
            pod["x-kubernetes-group-version-kind"],
            json!([{"group": "", "kind": "Pod", "version": "v1"}])
        );
        assert!(
            pod["properties"]["spec"]["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        let patch = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Pod");
        let parameters: Vec<&str> = patch["parameters"]
            .as_array()
            .expect("list")
            .iter()
            .filter_map(|p| p["name"].as_str())
            .collect();
        for name in ["dryRun", "fieldManager", "fieldValidation", "force"] {
            assert!(parameters.contains(&name), "{name} in {parameters:?}");
        }
        let containers =
            &core["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    }

    #[tokio::test]
    async fn the_index_names_each_group_version() {
        let index = get("/openapi/v3").await;
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
            .as_str()
            .expect("URL");
        assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="));
    }
}

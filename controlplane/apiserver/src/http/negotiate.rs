//! Which form an answer takes, from the request's `Accept` header.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING};
use skep_api::ApiError;

/// The encoding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
}

impl Encoding {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

/// What of the object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Object,
    /// Rows of `meta.k8s.io` in this version.
    Table {
        version: &'static str,
    },
    /// Metadata alone; `list` says that the client accepts only lists of it.
    Partial {
        version: &'static str,
    },
}

/// The negotiated form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) encoding: Encoding,
    pub(crate) view: View,
}

impl Form {
    pub(crate) const JSON: Self = Self {
        encoding: Encoding::Json,
        view: View::Object,
    };
}

const OFFERED: &[&str] = &["application/json", "application/yaml"];

/// One clause of an `Accept` header.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Clause<'a> {
    pub(crate) media_type: &'a str,
    pub(crate) parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl Clause<'_> {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }
}

/// The clauses, most wanted first.
pub(crate) fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept.split(',').filter_map(clause).collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses
}

fn clause(text: &str) -> Option<Clause<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next().filter(|media_type| !media_type.is_empty())?;
    let parameters: Vec<(&str, &str)> = parts
        .filter_map(|part| part.split_once('='))
        .map(|(k, v)| (k.trim(), v.trim()))
        .collect();
    let quality = parameters
        .iter()
        .find(|(key, _)| *key == "q")
        .and_then(|(_, q)| q.parse().ok());
    Some(Clause {
        media_type,
        parameters,
        quality: quality.unwrap_or(1.0),
    })
}

/// The form of an object or list.
///
/// # Errors
/// 406 where the client accepts nothing that is offered.
pub(crate) fn form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let Some(accept) = headers.get(ACCEPT) else {
        return Ok(Form::JSON);
    };
    let accept = accept.to_str().unwrap_or_default();
    let clauses = clauses(accept);
    if clauses.is_empty() {
        return Ok(Form::JSON);
    }
    clauses
        .iter()
        .find_map(accepted)
        .ok_or_else(|| ApiError::not_acceptable(OFFERED))
}

fn accepted(clause: &Clause<'_>) -> Option<Form> {
    let encoding = match clause.media_type {
        "application/json" | "*/*" | "application/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        _ => return None,
    };
    let Some(kind) = clause.parameter("as") else {
        return Some(Form {
            encoding,
            view: View::Object,
        });
    };
    if clause.parameter("g") != Some("meta.k8s.io") {
        return None;
    }
    let version = match clause.parameter("v")? {
        "v1" => "v1",
        "v1beta1" => "v1beta1",
        _ => return None,
    };
    let view = match kind {
        "Table" => View::Table { version },
        "PartialObjectMetadata" | "PartialObjectMetadataList" => View::Partial { version },
        _ => return None,
    };
    Some(Form { encoding, view })
}

/// Whether the client takes gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let Some(accept) = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    clauses(accept)
        .iter()
        .any(|clause| clause.media_type == "gzip" && clause.quality > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("header"));
        form(&headers).ok()
    }

    #[test]
    fn the_most_wanted_form_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let json = |view| {
            Some(Form {
                encoding: Encoding::Json,
                view,
            })
        };
        assert_eq!(negotiate(table), json(View::Table { version: "v1" }));
        assert_eq!(
            negotiate("application/vnd.kubernetes.protobuf, */*"),
            json(View::Object)
        );
        assert_eq!(
            negotiate("application/json;as=Unknown;v=v1;g=meta.k8s.io,application/json"),
            json(View::Object)
        );
        assert_eq!(
            negotiate("application/json;q=0.5, application/yaml"),
            Some(Form {
                encoding: Encoding::Yaml,
                view: View::Object
            })
        );
        assert_eq!(
            negotiate("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            json(View::Partial { version: "v1" })
        );
        assert_eq!(negotiate("application/vnd.kubernetes.protobuf"), None);
    }
}

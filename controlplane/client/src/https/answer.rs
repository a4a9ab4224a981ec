//! Reads the server's answers. Objects stay encoded: a list's items are slices of its one buffer.

use bytes::Bytes;
use http::response::Parts;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use serde_json::value::RawValue;
use skep_api::{ApiError, Reason, Revision};

use crate::{ApiResponse, RawObject};

/// How much of an answer that is no Status goes into the error.
const MAX_EXCERPT_BYTES: usize = 256;

#[derive(Deserialize)]
struct TypeMeta {
    kind: Option<String>,
    status: Option<serde::de::IgnoredAny>,
    metadata: Option<StatusMeta>,
}

#[derive(Deserialize)]
struct StatusMeta {
    name: Option<String>,
}

/// A success that carries an object, or a Status where nothing is left to show.
pub(super) fn object_or_status(body: Bytes) -> Result<ApiResponse, serde_json::Error> {
    let meta: TypeMeta = serde_json::from_slice(&body)?;
    let named = meta.metadata.is_some_and(|metadata| metadata.name.is_some());
    if meta.kind.as_deref() == Some("Status") && meta.status.is_some() && !named {
        return serde_json::from_slice(&body).map(|status| ApiResponse::Status(Box::new(status)));
    }
    Ok(ApiResponse::Object(RawObject::from_json(body)))
}

#[derive(Deserialize)]
struct RawList<'a> {
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    continue_token: String,
}

pub(super) fn list(body: &Bytes) -> Result<ApiResponse, serde_json::Error> {
    let list: RawList<'_> = serde_json::from_slice(body)?;
    let items = list.items.unwrap_or_default();
    Ok(ApiResponse::List {
        revision: revision(&list.metadata.resource_version)?,
        continue_token: Some(list.metadata.continue_token).filter(|token| !token.is_empty()),
        items: items
            .into_iter()
            .map(|item| RawObject::from_json(body.slice_ref(item.get().as_bytes())))
            .collect(),
    })
}

pub(super) fn revision(text: &str) -> Result<Revision, serde_json::Error> {
    text.parse()
        .map_err(|_error| serde::de::Error::custom(format!("the resourceVersion {text:?} is no number")))
}

/// The server's refusal: its Status, or, from something that speaks no Kubernetes, code and an excerpt.
pub(super) fn refusal(head: &Parts, body: &[u8]) -> ApiError {
    let code = head.status.as_u16();
    let retry_after = head
        .headers
        .get(http::header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let status = serde_json::from_slice::<Status>(body)
        .ok()
        .filter(|status| status.reason.is_some());
    let mut error = match status {
        Some(mut status) => {
            status.code.get_or_insert(i32::from(code));
            ApiError::from_status(status)
        }
        None => ApiError::new(
            code,
            reason_of(code),
            format!("the server answered {}: {}", head.status, excerpt(body)),
        ),
    };
    error.retry_after = error.retry_after.or(retry_after);
    error
}

fn excerpt(body: &[u8]) -> String {
    let end = body.len().min(MAX_EXCERPT_BYTES);
    String::from_utf8_lossy(&body[..end]).trim().to_owned()
}

fn reason_of(code: u16) -> Reason {
    match code {
        400 => Reason::BadRequest,
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        405 => Reason::MethodNotAllowed,
        409 => Reason::Conflict,
        410 => Reason::Gone,
        429 => Reason::TooManyRequests,
        503 => Reason::ServiceUnavailable,
        504 => Reason::Timeout,
        _ => Reason::InternalError,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn head(status: u16) -> Parts {
        let response = http::Response::builder().status(status).body(());
        response.unwrap().into_parts().0
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), code in 400u16..600) {
            let body = Bytes::from(bytes);
            drop(list(&body));
            drop(object_or_status(body.clone()));
            prop_assert_eq!(refusal(&head(code), &body).code, code);
        }

        #[test]
        fn a_list_s_items_are_its_parts(names in proptest::collection::vec(".{0,20}", 0..8), revision: u64) {
            let items: Vec<Value> = names.iter().map(|name| json!({ "metadata": { "name": name } })).collect();
            let meta = json!({ "resourceVersion": revision.to_string() });
            let body = Bytes::from(json!({ "items": items, "kind": "List", "metadata": meta }).to_string());
            let Ok(ApiResponse::List { revision: read, continue_token: None, items: raw }) = list(&body) else {
                panic!("a list is read as a list");
            };
            prop_assert_eq!(read, Revision(revision));
            let decoded = raw.iter().map(|item| serde_json::from_slice(item.json.as_deref().unwrap()).unwrap());
            prop_assert_eq!(decoded.collect::<Vec<Value>>(), items);
        }
    }

    #[test]
    fn a_pod_called_status_is_no_status() {
        let body = Bytes::from_static(br#"{"kind":"Status","metadata":{"name":"x"},"status":{}}"#);
        assert!(matches!(object_or_status(body), Ok(ApiResponse::Object(_))));
    }
}

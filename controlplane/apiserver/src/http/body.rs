//! Reading a request's body.

use crate::http::protobuf;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use skep_api::ApiError;
use skep_registry::PatchKind;

/// The longest body that is read, upstream's limit.
pub(crate) const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;

const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const ACCEPTED: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];

/// So much of a body that is too long is read and thrown away, so that the client gets to the answer:
/// most write their request to its end before they read.
const MAX_DISCARDED_BYTES: usize = 32 * 1024 * 1024;

/// Reads a whole body.
///
/// # Errors
/// 413 past [`MAX_BODY_BYTES`]; 400 where the client breaks off.
pub(crate) async fn read<B>(body: B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::error::Error,
{
    let mut body = std::pin::pin!(body);
    let mut kept = BytesMut::new();
    let mut length: usize = 0;
    while let Some(frame) = body.as_mut().frame().await {
        let frame = frame.map_err(|error| {
            ApiError::bad_request(format!("the request's body could not be read: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= MAX_BODY_BYTES {
            kept.extend_from_slice(&data);
        } else if length > MAX_DISCARDED_BYTES {
            break;
        }
    }
    if length > MAX_BODY_BYTES {
        Err(ApiError::too_large_body(MAX_BODY_BYTES))
    } else {
        Ok(kept.freeze())
    }
}

/// The media type without parameters; `None` where there is no header.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim())
}

/// An object's body as JSON.
///
/// # Errors
/// 415 for media types that are not spoken, 400 for text that does not parse.
pub(crate) fn object_json(headers: &HeaderMap, body: Bytes) -> Result<Bytes, ApiError> {
    match media_type(headers) {
        None | Some("" | "application/json" | "*/*") => Ok(body),
        Some("application/yaml" | "application/x-yaml" | "text/yaml") => yaml_to_json(&body),
        Some(protobuf::MEDIA_TYPE) => protobuf::to_json(&body),
        Some(_) => Err(ApiError::unsupported_media_type(ACCEPTED)),
    }
}

/// How a patch is to be read, by its media type.
///
/// # Errors
/// 415 for media types that are no patch, or a patch that is not served.
pub(crate) fn patch_kind(headers: &HeaderMap) -> Result<PatchKind, ApiError> {
    match media_type(headers) {
        Some("application/json-patch+json") => Ok(PatchKind::Json),
        Some("application/merge-patch+json") => Ok(PatchKind::Merge),
        Some("application/strategic-merge-patch+json") => Ok(PatchKind::Strategic),
        Some("application/apply-patch+yaml") => Err(apply_refused()),
        _ => Err(ApiError::unsupported_media_type(PATCHES)),
    }
}

/// Server-side apply is not served.
pub(crate) fn apply_refused() -> ApiError {
    let mut error = ApiError::unsupported_media_type(PATCHES);
    error.message = format!(
        "server-side apply is not supported by this server: {}",
        error.message
    );
    error
}

/// Nesting and aliases of YAML are bounded by the parser's own budget.
fn yaml_to_json(body: &[u8]) -> Result<Bytes, ApiError> {
    let text = std::str::from_utf8(body)
        .map_err(|error| ApiError::bad_request(format!("the YAML body is not UTF-8: {error}")))?;
    let value: serde_json::Value = serde_saphyr::from_str(text)
        .map_err(|error| ApiError::bad_request(format!("error converting YAML to JSON: {error}")))?;
    let json = serde_json::to_vec(&value).map_err(ApiError::internal)?;
    Ok(json.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    fn with_type(content_type: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().expect("header"));
        headers
    }

    #[tokio::test]
    async fn long_bodies_are_refused() {
        let long = Full::new(Bytes::from(vec![b' '; MAX_BODY_BYTES + 1]));
        let error = read(long).await.expect_err("too long");
        assert_eq!(error.code, 413);
    }

    #[test]
    fn yaml_becomes_json_and_other_types_are_refused() {
        let json = object_json(&with_type("application/yaml"), Bytes::from("a: [1, x]\n")).expect("yaml");
        assert_eq!(&json[..], br#"{"a":[1,"x"]}"#);
        let plain = object_json(&with_type("application/json; charset=utf-8"), Bytes::from("{}"));
        assert_eq!(plain.expect("json"), Bytes::from("{}"));
        let error = object_json(&with_type("text/plain"), Bytes::new()).expect_err("text");
        assert_eq!(error.code, 415);
        let error = object_json(&with_type("application/yaml"), Bytes::from("a: [")).expect_err("broken");
        assert_eq!(error.code, 400);
    }
}

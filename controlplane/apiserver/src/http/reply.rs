//! Building answers.

use crate::http::negotiate::{Encoding, Form, accepts_gzip};
use crate::http::{Body, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY, WARNING};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Full};
use serde::Serialize;
use skep_api::ApiError;
use std::io::Write;

/// Answers longer than this are compressed for clients that take it; upstream's threshold.
const GZIP_FROM_BYTES: usize = 128 * 1024;

pub(crate) fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// An answer of any content type.
pub(crate) fn answer(status: StatusCode, content_type: &str, bytes: impl Into<Bytes>) -> Response {
    let mut response = Response::new(body(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    response
}

pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    answer(status, "text/plain; charset=utf-8", text.into())
}

/// A value as JSON.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => answer(status, Encoding::Json.content_type(), bytes),
        Err(error) => status_of(&ApiError::internal(error)),
    }
}

/// JSON that is already encoded, in the form that was asked for.
pub(crate) fn encoded(
    status: StatusCode,
    form: Form,
    request: &HeaderMap,
    pretty: bool,
    json: Bytes,
) -> Response {
    match reencode(form.encoding, pretty, json) {
        Ok(bytes) => compressible(status, form.encoding.content_type(), request, bytes),
        Err(error) => status_of(&error),
    }
}

/// An answer that is compressed where it is long and the client takes that.
pub(crate) fn compressible(
    status: StatusCode,
    content_type: &str,
    request: &HeaderMap,
    bytes: Bytes,
) -> Response {
    if bytes.len() <= GZIP_FROM_BYTES || !accepts_gzip(request) {
        return answer(status, content_type, bytes);
    }
    match compress(&bytes) {
        Ok(compressed) => {
            let mut response = answer(status, content_type, compressed);
            response
                .headers_mut()
                .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
                .headers_mut()
                .insert(VARY, HeaderValue::from_static("Accept-Encoding"));
            response
        }
        Err(error) => status_of(&ApiError::internal(error)),
    }
}

fn reencode(encoding: Encoding, pretty: bool, json: Bytes) -> Result<Bytes, ApiError> {
    match encoding {
        Encoding::Json if !pretty => Ok(json),
        Encoding::Json => {
            let value: serde_json::Value = serde_json::from_slice(&json).map_err(ApiError::internal)?;
            Ok(serde_json::to_vec_pretty(&value)
                .map_err(ApiError::internal)?
                .into())
        }
        Encoding::Yaml => {
            let value: serde_json::Value = serde_json::from_slice(&json).map_err(ApiError::internal)?;
            Ok(serde_saphyr::to_string(&value)
                .map_err(ApiError::internal)?
                .into())
        }
    }
}

fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// An error as its `Status`.
pub(crate) fn status_of(error: &ApiError) -> Response {
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let bytes = serde_json::to_vec(&error.to_status()).unwrap_or_default();
    let mut response = answer(code, Encoding::Json.content_type(), bytes);
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// Adds `Warning` headers, as kubectl prints them.
pub(crate) fn warn<'a>(response: &mut Response, warnings: impl IntoIterator<Item = &'a String>) {
    for warning in warnings {
        let escaped = warning.replace('\\', "\\\\").replace('"', "\\\"");
        let printable: String = escaped
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{printable}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

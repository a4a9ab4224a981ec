//! A container's log, streamed from its kubelet.

use super::Nodes;
use super::target::Target;
use crate::http::Response;
use crate::http::query::Query;
use crate::http::stream::streamed;
use crate::metrics::Open;
use futures::TryStreamExt;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, BodyStream, Limited};
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use skep_api::{ApiError, Reason};
use std::io;

/// The parameters of a log that mean the same to the kubelet.
const PARAMETERS: &[&str] = &[
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
];
/// An error's text is read up to here.
const MAX_ERROR_BYTES: usize = 16 * 1024;

pub(super) async fn answer(
    nodes: &Nodes,
    target: &Target,
    query: &Query,
    open: Open,
) -> Result<Response, ApiError> {
    check_numbers(query)?;
    let uri = format!(
        "/containerLogs/{}/{}/{}{}",
        target.namespace,
        target.pod,
        target.container,
        parameters(query, PARAMETERS.iter().map(|name| (*name, *name)))
    );
    let request = Request::get(uri).body(()).map_err(ApiError::internal)?;
    let answer = nodes.send(target, request).await?;
    if answer.status() != StatusCode::OK {
        return Err(refusal(answer).await);
    }
    let content_type = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or("text/plain").to_owned();
    let pieces = TryStreamExt::map_err(BodyStream::new(answer.into_body()), io::Error::other)
        .try_filter_map(|frame| async move { Ok(frame.into_data().ok()) })
        .inspect_ok(move |_piece| open.touch());
    Ok(streamed(&content_type, pieces))
}

fn check_numbers(query: &Query) -> Result<(), ApiError> {
    for name in ["tailLines", "sinceSeconds", "limitBytes"] {
        query.integer(name)?;
    }
    Ok(())
}

/// The named parameters under their names at the kubelet, as a query string with its `?`.
pub(super) fn parameters<'a>(query: &'a Query, names: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = names
        .flat_map(|(name, there)| query.all(name).map(move |value| (there, value)))
        .filter(|(_, value)| !value.is_empty())
        .map(|(there, value)| format!("{there}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    if pairs.is_empty() {
        String::new()
    } else {
        format!("?{}", pairs.join("&"))
    }
}

/// What the kubelet has to say, as an error.
pub(super) async fn refusal(answer: http::Response<Incoming>) -> ApiError {
    let status = answer.status();
    let text = match Limited::new(answer.into_body(), MAX_ERROR_BYTES).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let reason = match status {
        StatusCode::BAD_REQUEST => Reason::BadRequest,
        StatusCode::NOT_FOUND => Reason::NotFound,
        // The kubelet not taking this server's certificate is no fault of the user.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return ApiError::internal(format!("the kubelet refuses this server: {text}"));
        }
        _ => Reason::InternalError,
    };
    ApiError::new(
        status.as_u16(),
        reason,
        if text.is_empty() { status.to_string() } else { text },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_renamed_and_escaped() {
        let query = Query::parse("command=sh&command=a%26b&stdin=true&tty=false&x=1");
        let names = [("command", "command"), ("stdin", "input"), ("absent", "absent")];
        assert_eq!(
            parameters(&query, names.into_iter()),
            "?command=sh&command=a%26b&input=true"
        );
        assert_eq!(parameters(&Query::default(), names.into_iter()), "");
    }
}

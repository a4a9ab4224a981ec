//! exec, attach and port-forward: an upgraded connection to the client joined to one to the kubelet,
//! byte for byte. What flows inside (SPDY/3.1, or WebSocket with `v4.channel.k8s.io`) is between the
//! client and the container runtime.

use super::logs::{parameters, refusal};
use super::target::Target;
use super::{Connect, Nodes};
use crate::http::query::Query;
use crate::http::{Response, reply};
use crate::metrics::Open;
use http::header::{CONNECTION, HOST, HeaderName, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use skep_api::ApiError;

/// What the runtime speaks inside of a WebSocket. Clients that offer only newer protocols are refused
/// and fall back to SPDY.
const WEBSOCKET_PROTOCOLS: &[&str] = &[
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "portforward.k8s.io",
];
/// Headers that are about this hop.
const OWN_HEADERS: &[HeaderName] = &[HOST, http::header::AUTHORIZATION];

pub(super) async fn open(
    nodes: &Nodes,
    what: Connect,
    target: &Target,
    query: &Query,
    mut request: Request<Incoming>,
    open: Open,
) -> Result<Response, ApiError> {
    let headers = headers(request.headers())?;
    let mut onward = Request::builder()
        .method(request.method().clone())
        .uri(uri(what, target, query))
        .body(())
        .map_err(ApiError::internal)?;
    *onward.headers_mut() = headers;
    let mut answer = nodes.send(target, onward).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(answer).await);
    }
    let (client, kubelet) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut answer));
    let shutdown = nodes.shutdown.clone();
    nodes.tasks.spawn(async move {
        let _open = open;
        let join = async {
            let (client, kubelet) = tokio::try_join!(client, kubelet).map_err(std::io::Error::other)?;
            tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(kubelet)).await
        };
        if let Some(Err(error)) = shutdown.run_until_cancelled(join).await {
            tracing::debug!(%error, "tunnel ended");
        }
    });
    let mut response = http::Response::new(reply::body(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    Ok(response)
}

fn uri(what: Connect, target: &Target, query: &Query) -> String {
    let Target {
        namespace,
        pod,
        container,
        ..
    } = target;
    let streams = [
        ("command", "command"),
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ];
    match what {
        Connect::Exec => format!("/exec/{namespace}/{pod}/{container}{}", flags(query, &streams)),
        Connect::Attach => format!(
            "/attach/{namespace}/{pod}/{container}{}",
            flags(query, &streams[1..])
        ),
        _ => format!(
            "/portForward/{namespace}/{pod}{}",
            parameters(query, [("ports", "port")].into_iter())
        ),
    }
}

/// Streams are asked of the kubelet by `1`, or not at all.
fn flags(query: &Query, names: &[(&str, &str)]) -> String {
    let pairs: Vec<(String, String)> = names
        .iter()
        .flat_map(|(name, there)| match *name {
            "command" => query
                .all(name)
                .map(|value| ((*there).to_owned(), value.to_owned()))
                .collect(),
            _ if wanted(query, name) => vec![((*there).to_owned(), "1".to_owned())],
            _ => Vec::new(),
        })
        .collect();
    let there = Query::from(pairs);
    parameters(
        &there,
        ["command", "input", "output", "error", "tty"]
            .into_iter()
            .map(|name| (name, name)),
    )
}

/// Upstream's defaults: output streams are wanted unless they are declined.
fn wanted(query: &Query, stream: &str) -> bool {
    query
        .optional_flag(stream)
        .unwrap_or(matches!(stream, "stdout" | "stderr"))
}

/// The headers for the kubelet.
///
/// # Errors
/// 400 where no upgrade is asked for, or only to a protocol that is not spoken.
fn headers(from: &HeaderMap) -> Result<HeaderMap, ApiError> {
    let upgrade = from
        .get(UPGRADE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let asks = from
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    if upgrade.is_empty()
        || !asks
            .flat_map(|value| value.split(','))
            .any(|v| v.trim().eq_ignore_ascii_case("upgrade"))
    {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let mut headers: HeaderMap = from
        .iter()
        .filter(|(name, _)| !OWN_HEADERS.contains(name) && !name.as_str().starts_with("impersonate-"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if upgrade.eq_ignore_ascii_case("websocket") {
        let offered: Vec<&str> = from
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let spoken: Vec<&str> = offered
            .iter()
            .copied()
            .filter(|p| WEBSOCKET_PROTOCOLS.contains(p))
            .collect();
        if spoken.is_empty() && !offered.is_empty() {
            return Err(ApiError::bad_request(format!(
                "none of the offered WebSocket protocols [{}] is spoken here: use SPDY/3.1, or one of [{}]",
                offered.join(" "),
                WEBSOCKET_PROTOCOLS.join(" ")
            )));
        }
        headers.remove(SEC_WEBSOCKET_PROTOCOL);
        if !spoken.is_empty() {
            let value = HeaderValue::from_str(&spoken.join(", ")).map_err(ApiError::internal)?;
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(protocols: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocols));
        headers.insert(HOST, HeaderValue::from_static("api"));
        headers
    }

    #[test]
    fn only_spoken_protocols_go_on_and_others_alone_are_refused() {
        let onward = headers(&offer("v5.channel.k8s.io, v4.channel.k8s.io")).expect("v4 is spoken");
        assert_eq!(
            onward.get(SEC_WEBSOCKET_PROTOCOL).expect("header"),
            "v4.channel.k8s.io"
        );
        assert!(!onward.contains_key(HOST));
        for only in ["v5.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"] {
            assert_eq!(headers(&offer(only)).expect_err("not spoken").code, 400);
        }
        assert_eq!(
            headers(&HeaderMap::new()).expect_err("no upgrade").message,
            "Upgrade request required"
        );
    }

    #[test]
    fn streams_are_named_as_the_kubelet_does() {
        let target = Target {
            node: "n".into(),
            address: [10, 0, 0, 7].into(),
            port: 10250,
            namespace: "default".into(),
            pod: "p".into(),
            container: "c".into(),
        };
        let query = Query::parse("command=ls&command=-l&stdin=false&stdout=true&container=c&ports=80");
        assert_eq!(
            uri(Connect::Exec, &target, &query),
            "/exec/default/p/c?command=ls&command=%2Dl&output=1&error=1"
        );
        assert_eq!(
            uri(Connect::Attach, &target, &query),
            "/attach/default/p/c?output=1&error=1"
        );
        assert_eq!(
            uri(Connect::PortForward, &target, &query),
            "/portForward/default/p?port=80"
        );
    }
}

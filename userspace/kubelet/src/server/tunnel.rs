//! Exec, attach and port-forward: the runtime prepares a stream and names the URL that serves it; the caller's upgrade
//! request is passed on to it, and then bytes both ways, whatever the protocol (SPDY or WebSocket).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use skep_cri::{RuntimeError, v1};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::route::{Streams, Target};
use super::{Answer, Context, not_found, text};

/// The runtime's streaming server is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What of the caller's request the streaming server must see, and of its answer the caller.
const PASSED: [&str; 7] = [
    "x-stream-protocol-version",
    "sec-websocket-accept",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "origin",
];

/// Runs a command in a container.
pub(super) async fn exec(
    request: Request<Incoming>,
    context: &Context,
    target: &Target,
    streams: Streams,
) -> Answer {
    let found = context
        .pods
        .container(&target.namespace, &target.pod, target.container.as_deref(), false);
    let container = match found {
        Ok(container) => container,
        Err(error) => return not_found(&error),
    };
    let prepared = context.runtime.exec(v1::ExecRequest {
        container_id: container.id,
        cmd: streams.command,
        tty: streams.tty,
        stdin: streams.input,
        stdout: streams.output,
        // A terminal has one output.
        stderr: streams.error && !streams.tty,
    });
    pass_on(request, context, prepared.await).await
}

/// Attaches to a container's own process.
pub(super) async fn attach(
    request: Request<Incoming>,
    context: &Context,
    target: &Target,
    streams: Streams,
) -> Answer {
    let found = context
        .pods
        .container(&target.namespace, &target.pod, target.container.as_deref(), false);
    let container = match found {
        Ok(container) => container,
        Err(error) => return not_found(&error),
    };
    let prepared = context.runtime.attach(v1::AttachRequest {
        container_id: container.id,
        stdin: streams.input,
        tty: streams.tty,
        stdout: streams.output,
        stderr: streams.error && !streams.tty,
    });
    pass_on(request, context, prepared.await).await
}

/// Forwards connections into a pod's network.
pub(super) async fn port_forward(
    request: Request<Incoming>,
    context: &Context,
    target: &Target,
    ports: Vec<u16>,
) -> Answer {
    let sandbox = match context.pods.sandbox(&target.namespace, &target.pod) {
        Ok(sandbox) => sandbox,
        Err(error) => return not_found(&error),
    };
    let prepared = context.runtime.port_forward(v1::PortForwardRequest {
        pod_sandbox_id: sandbox,
        port: ports.into_iter().map(i32::from).collect(),
    });
    pass_on(request, context, prepared.await).await
}

async fn pass_on(
    mut request: Request<Incoming>,
    context: &Context,
    prepared: Result<String, RuntimeError>,
) -> Answer {
    let url = match prepared {
        Ok(url) => url,
        Err(error) => {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the runtime refuses: {error}\n"),
            );
        }
    };
    if !request.headers().contains_key(UPGRADE) {
        return text(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: missing upgrade headers in request\n".to_owned(),
        );
    }
    let caller = hyper::upgrade::on(&mut request);
    match ask_runtime(&request, &url, context).await {
        Ok((answer, None)) => answer,
        Ok((answer, Some(runtime))) => {
            join(context, caller, runtime);
            answer
        }
        Err(error) => text(
            StatusCode::BAD_GATEWAY,
            format!("the runtime's streaming server: {error}\n"),
        ),
    }
}

/// Why the runtime's streaming server could not be asked.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("{url} is no URL")]
    Url { url: String },
    #[error("{address} does not answer")]
    TimedOut { address: String },
    #[error("connect to {address}: {source}")]
    Connect { address: String, source: std::io::Error },
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

async fn ask_runtime(
    request: &Request<Incoming>,
    url: &str,
    context: &Context,
) -> Result<(Answer, Option<OnUpgrade>), StreamError> {
    let bad_url = || StreamError::Url { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_invalid| bad_url())?;
    let address = uri.authority().ok_or_else(bad_url)?.to_string();
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(&address));
    let stream = connecting
        .await
        .map_err(|_elapsed| StreamError::TimedOut {
            address: address.clone(),
        })?
        .map_err(|source| StreamError::Connect {
            address: address.clone(),
            source,
        })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    context.tunnels.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to the runtime's streaming server ended");
        }
    });
    let mut forwarded = Request::new(Empty::<Bytes>::new());
    *forwarded.method_mut() = request.method().clone();
    *forwarded.uri_mut() = uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .parse()
        .map_err(|_invalid| bad_url())?;
    *forwarded.headers_mut() = upgrade_headers(request.headers());
    let host = HeaderValue::from_str(&address).map_err(|_invalid| bad_url())?;
    forwarded.headers_mut().insert(HOST, host);
    let mut response = sender.send_request(forwarded).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = response.into_parts();
        return Ok((
            Response::from_parts(parts, body.map_err(std::io::Error::other).boxed_unsync()),
            None,
        ));
    }
    let upgraded = hyper::upgrade::on(&mut response);
    let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, String::new());
    *answer.headers_mut() = upgrade_headers(response.headers());
    Ok((answer, Some(upgraded)))
}

fn upgrade_headers(from: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Some(protocol) = from.get(UPGRADE) {
        headers.insert(UPGRADE, protocol.clone());
    }
    for name in PASSED.map(HeaderName::from_static) {
        for value in from.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// Copies both ways until either side ends.
fn join(context: &Context, caller: OnUpgrade, runtime: OnUpgrade) {
    let shutdown = context.shutdown.clone();
    context.tunnels.spawn(async move {
        let copying = async {
            let (caller, runtime) = tokio::try_join!(caller, runtime).map_err(std::io::Error::other)?;
            tokio::io::copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(runtime)).await
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            result = copying => match result {
                Ok((sent, received)) => tracing::debug!(sent, received, "stream ended"),
                Err(error) => tracing::debug!(%error, "stream broke"),
            },
        }
    });
}

//! The HTTP side: `/`, `/delay/<ms>`, `/status/<code>`, `/hold/<s>`, `/ready`, `/unready`, `/readyz`, `/healthz`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use crate::behaviour::State;

/// Longest time that one request may ask to be kept waiting.
const MAX_WAIT: Duration = Duration::from_secs(3600);
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

const HELP: &str = "\
/              one line: pod, node, your address
/delay/<ms>    the same after a delay
/status/<code> an answer with this status
/hold/<s>      hold the connection open, then answer
/unready       report unready from now on;  /ready undoes it
/readyz        200 or 503;  /healthz  200;  /requests  how many lines were given out
";

/// Accepts connections until the process ends.
pub(crate) async fn serve(listener: TcpListener, state: Arc<State>) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                tokio::spawn(connection(stream, client, Arc::clone(&state)));
            }
            // Out of descriptors, or the client went away: go on with the next.
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}

async fn connection(stream: TcpStream, client: SocketAddr, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(&request, client, &state).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // A client that hangs up in the middle is its own affair.
    drop(served);
}

async fn answer(request: &Request<Incoming>, client: SocketAddr, state: &State) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let (verb, argument) = (parts.next().unwrap_or_default(), parts.next());
    match (verb, argument) {
        ("", None) => text(StatusCode::OK, state.greeting(client)),
        ("delay", Some(ms)) => wait(ms, Duration::from_millis, client, state).await,
        ("hold", Some(seconds)) => wait(seconds, Duration::from_secs, client, state).await,
        ("status", Some(code)) => match code
            .parse::<u16>()
            .ok()
            .and_then(|code| StatusCode::from_u16(code).ok())
        {
            Some(status) => text(status, state.greeting(client)),
            None => text(StatusCode::BAD_REQUEST, format!("{code} is not an HTTP status\n")),
        },
        ("ready" | "unready", None) => {
            state.set_ready(verb == "ready");
            text(StatusCode::OK, format!("{verb}\n"))
        }
        ("readyz", None) if !state.ready() => text(StatusCode::SERVICE_UNAVAILABLE, "unready\n".to_owned()),
        ("readyz" | "healthz", None) => text(StatusCode::OK, "ok\n".to_owned()),
        ("requests", None) => text(StatusCode::OK, format!("{}\n", state.requests())),
        _ => text(StatusCode::NOT_FOUND, HELP.to_owned()),
    }
}

async fn wait(
    amount: &str,
    unit: fn(u64) -> Duration,
    client: SocketAddr,
    state: &State,
) -> Response<Full<Bytes>> {
    match amount.parse::<u64>().map(unit) {
        Ok(time) if time <= MAX_WAIT => {
            tokio::time::sleep(time).await;
            text(StatusCode::OK, state.greeting(client))
        }
        _ => text(
            StatusCode::BAD_REQUEST,
            format!("{amount} is not a time of at most one hour\n"),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

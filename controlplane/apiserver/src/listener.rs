//! The accept loop: TLS, then HTTP/1.1 or HTTP/2 on each connection, until shutdown.

use crate::ServeError;
use crate::auth::certificate::{self, Peer};
use crate::http::{Body, Response};
use crate::tls::Tls;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at one time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 16 * 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// From the handshake to the first request: until then a client has not said who it is, nor what it wants.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// HTTP/2 pings find clients that went away without a word.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Upstream's `--http2-max-streams-per-connection`.
const MAX_STREAMS: u32 = 250;
/// How long requests may take to end after shutdown was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// After an accept error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests; one for all connections.
pub(crate) trait Serve: Send + Sync + 'static {
    fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Arc<Peer>,
    ) -> impl Future<Output = Response> + Send;
}

/// Binds the listening socket.
///
/// # Errors
/// Says which address, and what to do.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::AddressInUse { address },
            _ => ServeError::Listen { address, source },
        })
}

/// Serves until `shutdown`, then lets open requests end within [`DRAIN_TIMEOUT`]. Watches end by
/// themselves on the same token; `close` ends tunnels.
pub(crate) async fn run<S: Serve>(
    listener: TcpListener,
    tls: &Tls,
    service: Arc<S>,
    shutdown: CancellationToken,
    close: impl Future<Output = ()>,
) {
    let acceptor = TlsAcceptor::from(tls.config.clone());
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    while let Some((stream, slot)) = next(&listener, &slots, &shutdown).await {
        let (acceptor, verifier) = (acceptor.clone(), tls.verifier.clone());
        let (service, shutdown, abort) = (service.clone(), shutdown.clone(), abort.clone());
        connections.spawn(async move {
            let _slot = slot;
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
            let Ok(Ok(stream)) = handshake.await else { return };
            let peer = Arc::new(certificate::identify(
                &*verifier,
                stream.get_ref().1.peer_certificates(),
            ));
            abort
                .run_until_cancelled(connection(stream, peer, service, shutdown, FIRST_REQUEST_TIMEOUT))
                .await;
        });
    }
    drop(listener);
    close.await;
    connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "closing connections that did not end in time"
        );
        abort.cancel();
        connections.wait().await;
    }
}

/// The next connection, once there is room for it; `None` on shutdown.
async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let accept = async {
        let slot = slots.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _from)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY");
                    }
                    return Some((stream, slot));
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(accept).await.flatten()
}

async fn connection<S: Serve>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Arc<Peer>,
    service: Arc<S>,
    shutdown: CancellationToken,
    patience: Duration,
) {
    let spoken = Arc::new(AtomicBool::new(false));
    let silence = {
        let spoken = spoken.clone();
        async move {
            tokio::time::sleep(patience).await;
            if spoken.load(Ordering::Relaxed) {
                std::future::pending().await
            }
        }
    };
    let answer = service_fn(move |request| {
        spoken.store(true, Ordering::Relaxed);
        let (service, peer) = (service.clone(), peer.clone());
        async move { Ok::<http::Response<Body>, Infallible>(service.serve(request, peer).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .max_concurrent_streams(MAX_STREAMS);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = silence => {
            tracing::debug!("closing a connection that asked for nothing");
            return;
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    const PATIENCE: Duration = Duration::from_millis(50);

    /// Takes longer to answer than a first request is waited for.
    struct Slow;

    impl Serve for Slow {
        async fn serve(self: Arc<Self>, _request: Request<Incoming>, _peer: Arc<Peer>) -> Response {
            tokio::time::sleep(4 * PATIENCE).await;
            crate::http::reply::text(http::StatusCode::OK, "done")
        }
    }

    fn connect() -> DuplexStream {
        let (client, server) = tokio::io::duplex(1024);
        let (peer, shutdown) = (Arc::new(Peer::Anonymous), CancellationToken::new());
        tokio::spawn(connection(server, peer, Arc::new(Slow), shutdown, PATIENCE));
        client
    }

    #[tokio::test]
    async fn connections_that_ask_for_nothing_are_closed() {
        let preface_without_settings = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for said in ["", "P", "GET / HTT", preface_without_settings] {
            let mut client = connect();
            client.write_all(said.as_bytes()).await.expect("written");
            // The server may say something before, as its HTTP/2 settings.
            let mut heard = Vec::new();
            let closed = tokio::time::timeout(HEADER_TIMEOUT / 2, client.read_to_end(&mut heard));
            assert!(closed.await.is_ok(), "{said:?}");
        }
    }

    #[tokio::test]
    async fn a_slow_answer_is_waited_for() {
        let mut client = connect();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        client.write_all(request).await.expect("written");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("answer");
        assert!(answer.ends_with("done"), "{answer}");
    }
}

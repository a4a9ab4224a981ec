//! A listener for each port that [`Health`] names: opened, closed, tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::Service;
use skep_runtime::{EventRecorder, EventType, Store};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{Answer, answer, status};
use super::state::{Health, Subject};
use crate::ProxyMetrics;

/// The most connections at a time, over all listeners; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// Anyone may connect: nobody is waited for.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const LISTEN_RETRY: Duration = Duration::from_secs(5);

/// Where listeners get what they need.
pub(crate) struct Context {
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: ProxyMetrics,
    pub(crate) recorder: EventRecorder,
    pub(crate) services: Store<Service>,
    pub(crate) node_name: String,
}

type Place = (SocketAddr, Subject);

/// Keeps the listeners equal to [`Health::listeners`] until cancelled.
pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let context = Arc::new(context);
    let tasks = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut open: BTreeMap<Place, CancellationToken> = BTreeMap::new();
    let mut failed: BTreeSet<Place> = BTreeSet::new();
    while !stop.is_cancelled() {
        let wanted = context.health.listeners();
        open.retain(|place, listener| {
            let keep = wanted.contains(place);
            if !keep {
                listener.cancel();
            }
            keep
        });
        failed.retain(|place| wanted.contains(place));
        for place in wanted {
            if open.contains_key(&place) {
                continue;
            }
            match TcpListener::bind(place.0).await {
                Ok(listener) => {
                    failed.remove(&place);
                    let (stopped, subject) = (stop.child_token(), place.1.clone());
                    let serving = serve(
                        listener,
                        subject,
                        Arc::clone(&context),
                        Arc::clone(&slots),
                        stopped.clone(),
                    );
                    tasks.spawn(serving);
                    open.insert(place, stopped);
                }
                // Not all that the Node object lists need be on this machine's devices.
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                    tracing::debug!(address = %place.0, "not an address of this machine");
                }
                Err(error) => {
                    if failed.insert(place.clone()) {
                        context.report(&place, &error);
                    }
                }
            }
        }
        context.metrics.health_listeners_failed(failed.len());
        tokio::select! {
            () = stop.cancelled() => {}
            () = context.health.changed.notified() => {}
            () = sleep(LISTEN_RETRY) => {}
        }
    }
    tasks.close();
    tasks.wait().await;
}

impl Context {
    fn report(&self, (address, subject): &Place, error: &io::Error) {
        let Subject::Service(key) = subject else {
            return tracing::warn!(%address, %error, "the node's health cannot be asked");
        };
        let (namespace, name) = (&key.namespace, &key.name);
        tracing::warn!(namespace, name, %address, %error, "the Service's health cannot be asked");
        if let Some(service) = self.services.get(key) {
            let message = format!(
                "node {} failed to start healthcheck \"{namespace}/{name}\" on {address}: {error}; it is retried",
                self.node_name
            );
            self.recorder.event(
                &*service,
                EventType::Warning,
                "FailedToStartServiceHealthcheck",
                message,
            );
        }
    }
}

async fn serve(
    listener: TcpListener,
    subject: Subject,
    context: Arc<Context>,
    slots: Arc<Semaphore>,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (context, subject, stop) = (Arc::clone(&context), subject.clone(), stop.clone());
                    connections.spawn(async move {
                        stop.run_until_cancelled(connection(stream, &context, &subject))
                            .await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, context: &Context, subject: &Subject) {
    let Ok(local) = stream.local_addr() else { return };
    let service = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(respond(&request, context, subject, local.ip().to_canonical()))
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "connection ended");
    }
}

fn respond(request: &Request<Incoming>, context: &Context, subject: &Subject, local: IpAddr) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    answer(
        &context.health,
        &context.metrics,
        subject,
        local,
        request.uri().path(),
    )
}

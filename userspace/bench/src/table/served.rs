//! One endpoint changes, told to a real server: the change is validated, committed to the store on disk, sent to the
//! proxy as JSON over HTTPS, compiled and written.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use skep_client::Client;
use skep_server::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::Part;
use super::bed::{ENDPOINTS, flip, id, services, slot_count};
use super::latency::{STRIDE, TARGET_P99_MS, wait_for};
use crate::BenchError;
use crate::engine::fill::{RunningProxy, runtime};
use crate::engine::interrupt::Interrupt;
use crate::engine::machine::Netns;
use crate::engine::node::{Node, NodeShape};
use crate::engine::report::{Row, Target};
use crate::engine::services::{Objects, POD_CIDR, SERVICE_CIDR, Service, counted};
use crate::engine::statistics::{Estimate, percentile};
use crate::options::Context;

/// Writes under way while the Services are made.
const WRITERS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
const REST: Duration = Duration::from_millis(2);

pub(super) fn run(context: &Context) -> Result<Part, BenchError> {
    let folder = tempfile::tempdir().map_err(BenchError::io("make a folder for the server"))?;
    // Who installed one before has as good a provider.
    drop(rustls::crypto::ring::default_provider().install_default());
    let cidr = |text: &str| text.parse().expect("a constant that is a prefix");
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = ServerConfig::new(folder.path().to_owned(), bind, cidr(SERVICE_CIDR), cidr(POD_CIDR));
    let shutdown = CancellationToken::new();
    runtime()?.block_on(async {
        let server = tokio::spawn(skep_server::run(config, shutdown.clone()));
        let kubeconfig = folder.path().join("admin.kubeconfig");
        let result = async {
            let client = connect(&kubeconfig, &context.interrupt).await?;
            measure(client, context).await
        }
        .await;
        shutdown.cancel();
        let ended = server
            .await
            .map_err(|error| BenchError::io("run the server")(std::io::Error::other(error)))?;
        ended?;
        result
    })
}

/// A client of the server, once it answers.
async fn connect(kubeconfig: &std::path::Path, interrupt: &Interrupt) -> Result<Client, BenchError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        interrupt.check()?;
        if let Ok(client) = Client::from_kubeconfig(kubeconfig)
            && client.get_raw("/readyz").await.is_ok()
        {
            return Ok(client);
        }
        if Instant::now() > deadline {
            return Err(BenchError::Never("the server was ready".to_owned()));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn measure(client: Client, context: &Context) -> Result<Part, BenchError> {
    let services = services(context);
    create(&client, &services, &context.interrupt).await?;
    let netns = Netns::new()?;
    let node = Node::open(&netns, NodeShape::default())?;
    let proxy = RunningProxy::start(client.clone(), node.maps(), &[]);
    let result = async {
        proxy.in_step(&context.interrupt).await?;
        change(&client, &node, &services, context).await
    }
    .await;
    proxy.stop().await?;
    let (asked_ms, acknowledged_ms) = result?;
    let title = format!(
        "one endpoint changes, {} of {ENDPOINTS}, real server",
        counted(services.len())
    );
    let mut found = Vec::new();
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let of = |samples: &[f64]| percentile(samples, share).unwrap_or_default();
        let (request, answer) = (of(&asked_ms), of(&acknowledged_ms));
        for (from, value) in [("request", request), ("answer", answer)] {
            let name = format!("{title}: from the {from} to the map, {name}");
            found.push(Row::figure(name, Estimate::exact(value), "ms"));
        }
        let commit = Row::figure(
            format!("{title}: from the commit, which is between, to the map, {name}"),
            Estimate::between(answer, request),
            "ms",
        );
        found.push(match name {
            "p99" => commit.against(Target::AtMost(TARGET_P99_MS)),
            _ => commit,
        });
    }
    Ok((
        found,
        json!({"fromRequestMs": asked_ms, "fromAnswerMs": acknowledged_ms}),
    ))
}

async fn create(client: &Client, services: &[Service], interrupt: &Interrupt) -> Result<(), BenchError> {
    let Objects { services, slices } = Objects::of(services)?;
    let writes = services
        .into_iter()
        .zip(slices)
        .map(|(service, slice)| async move {
            interrupt.check()?;
            client.create(&*service).await?;
            client.create(&*slice).await?;
            Ok(())
        });
    stream::iter(writes).buffer_unordered(WRITERS).try_collect().await
}

/// Latencies from the request and from its answer, in milliseconds. The map may be written before the answer is here:
/// that counts as none.
async fn change(
    client: &Client,
    node: &Node,
    services: &[Service],
    context: &Context,
) -> Result<(Vec<f64>, Vec<f64>), BenchError> {
    let (mut asked_ms, mut acknowledged_ms) = (Vec::new(), Vec::new());
    for change in 0..context.effort.pick(20, 500, 2_000) {
        context.interrupt.check()?;
        let service = &services[change * STRIDE % services.len()];
        let maps = node.maps();
        let id = id(&*maps, service)?;
        let ready = slot_count(&*maps, id)? < ENDPOINTS;
        let (slice, expected) = flip(service, ready)?;
        let seen = tokio::task::spawn_blocking(move || wait_for(&*maps, id, expected));
        let started = Instant::now();
        client.update(&slice).await?;
        let answered = Instant::now();
        let seen = seen
            .await
            .map_err(|error| BenchError::io("watch a map")(std::io::Error::other(error)))??;
        asked_ms.push((seen - started).as_secs_f64() * 1e3);
        acknowledged_ms.push(seen.saturating_duration_since(answered).as_secs_f64() * 1e3);
        tokio::time::sleep(REST).await;
    }
    Ok((asked_ms, acknowledged_ms))
}

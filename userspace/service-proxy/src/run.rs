//! The loop: changes in, batches out.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use skep_bpf_maps::ServiceMaps;
use skep_client::Client;
use skep_runtime::{EventRecorder, EventSource, InformerOptions, InformerSet, Subscription};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::health;
use crate::proxy::Proxy;
use crate::{ProxyConfig, ProxyError, ProxyMetrics};

/// After a batch there is a rest as long as the batch took, but no longer than this, so that changes that come
/// together are written together. A change that comes alone does not wait.
const MAX_REST: Duration = Duration::from_millis(5);

/// Between two looks at a stripe of each map.
const VERIFY_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the maps equal to what the API says until cancelled. While the API is away the maps keep the last state.
///
/// # Errors
/// [`ProxyError`] when the writing task panics; nothing that the API or the maps refuse.
pub async fn run(
    client: Client,
    maps: Arc<dyn ServiceMaps>,
    config: ProxyConfig,
    metrics: ProxyMetrics,
    shutdown: CancellationToken,
) -> Result<(), ProxyError> {
    let source = EventSource {
        component: "skep-proxy".to_owned(),
        host: Some(config.node_name.clone()),
    };
    let recorder = EventRecorder::new(client.clone(), source);
    let informers = InformerSet::new(client);
    let inputs = Inputs::new(&informers, &config.node_name);
    let services = informers.all::<Service>().store();
    let node_name = config.node_name.clone();
    let proxy = Proxy::new(maps, config, metrics.clone(), recorder.clone(), services.clone());
    let listeners = health::Context {
        health: Arc::clone(&proxy.health),
        metrics,
        recorder: recorder.clone(),
        services,
        node_name,
    };
    // Whatever ends the loop ends the other parts.
    let stop = shutdown.child_token();
    let following = async {
        let result = follow(&informers, inputs, proxy, &stop).await;
        stop.cancel();
        result
    };
    let ((), (), (), result) = tokio::join!(
        informers.run(stop.clone()),
        recorder.run(stop.clone()),
        health::run(listeners, stop.clone()),
        following
    );
    result
}

struct Inputs {
    services: Subscription<Service>,
    slices: Subscription<EndpointSlice>,
    nodes: Subscription<Node>,
}

impl Inputs {
    fn new(informers: &InformerSet, node: &str) -> Inputs {
        let own_node = InformerOptions {
            field_selector: Some(format!("metadata.name={node}")),
            ..InformerOptions::default()
        };
        Inputs {
            services: informers.all::<Service>().subscribe(),
            slices: informers.all::<EndpointSlice>().subscribe(),
            nodes: informers.informer::<Node>(own_node).subscribe(),
        }
    }

    /// Waits for a change and hands it over.
    async fn next(&mut self, proxy: &mut Proxy) {
        tokio::select! {
            Some(change) = self.nodes.next() => proxy.on_node(&change),
            Some(change) = self.services.next() => proxy.on_service(&change),
            Some(change) = self.slices.next() => proxy.on_slice(&change),
            // The informers have ended: the caller is being cancelled.
            else => std::future::pending().await,
        }
    }

    /// Hands over every change that is there already.
    fn drain(&mut self, proxy: &mut Proxy) {
        while let Some(change) = self.nodes.try_next() {
            proxy.on_node(&change);
        }
        while let Some(change) = self.services.try_next() {
            proxy.on_service(&change);
        }
        while let Some(change) = self.slices.try_next() {
            proxy.on_slice(&change);
        }
    }
}

async fn follow(
    informers: &InformerSet,
    mut inputs: Inputs,
    mut proxy: Proxy,
    stop: &CancellationToken,
) -> Result<(), ProxyError> {
    if !informers.synced(stop).await {
        return Ok(());
    }
    inputs.drain(&mut proxy);
    proxy.forget_receipts();
    proxy.flush().await?;
    tracing::info!("the service maps are in step with the API");
    let mut last_flush = Instant::now();
    let mut rest = MAX_REST;
    let mut verification = interval_at(last_flush + VERIFY_INTERVAL, VERIFY_INTERVAL);
    verification.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let wakes_at = proxy.wakes_at(last_flush);
        let timer = async {
            match wakes_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = inputs.next(&mut proxy) => {}
            () = timer => {}
            _ = verification.tick() => {
                proxy.verify().await?;
                continue;
            }
        }
        if proxy.rests() {
            continue;
        }
        if stop
            .run_until_cancelled(sleep_until(last_flush + rest))
            .await
            .is_none()
        {
            return Ok(());
        }
        inputs.drain(&mut proxy);
        let started = Instant::now();
        proxy.flush().await?;
        last_flush = Instant::now();
        rest = (last_flush - started).min(MAX_REST);
    }
}

//! The state between two batches: the table, what was received, what went wrong.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skep_api::ObjectKey;
use skep_bpf_maps::{MapError, ServiceMaps};
use skep_runtime::{Backoff, Change, EventRecorder, EventType, Store};
use skep_service_table::{IdState, NodeLocal, NodeView, Problem, SERVICE_NAME_LABEL, ServiceTable};
use tokio::time::Instant;

use crate::health::{Health, health_check_port};
use crate::node_ports::{self, NodePort};
use crate::verify::{Expected, Walk};
use crate::write::{self, Written};
use crate::{ProxyConfig, ProxyError, ProxyMetrics};

/// Set by the EndpointSlice controller: when what the slice shows changed (RFC 3339).
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Lookups under way are over by then.
const REMOVAL_DELAY: Duration = Duration::from_millis(50);
const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Proxy {
    pub(crate) maps: Arc<dyn ServiceMaps>,
    pub(crate) config: ProxyConfig,
    pub(crate) metrics: ProxyMetrics,
    pub(crate) recorder: EventRecorder,
    pub(crate) services: Store<Service>,
    pub(crate) health: Arc<Health>,
    table: ServiceTable,
    /// Changes that are not in the maps yet.
    received: Vec<Receipt>,
    /// The maps may hold something else than the table believes.
    adrift: bool,
    backoff: Backoff,
    retry_at: Option<Instant>,
    problems: BTreeSet<Problem>,
    walk: Walk,
    /// Services whose health is to be told once the maps are written.
    touched: BTreeSet<ObjectKey>,
}

/// A change of endpoints: when it was seen, and when it came about.
struct Receipt {
    at: Instant,
    trigger: Option<Timestamp>,
}

impl Proxy {
    pub(crate) fn new(
        maps: Arc<dyn ServiceMaps>,
        config: ProxyConfig,
        metrics: ProxyMetrics,
        recorder: EventRecorder,
        services: Store<Service>,
    ) -> Proxy {
        let view = node_view(&config, None);
        let health = Arc::new(Health::new(config.health));
        health.set_addresses(&view.addresses);
        metrics.has_maps(write::capacities(&*maps));
        let table = ServiceTable::new(view, write::limits(&*maps), &IdState::default());
        Proxy {
            maps,
            config,
            metrics,
            recorder,
            services,
            health,
            table,
            received: Vec::new(),
            adrift: true,
            backoff: Backoff::new(RETRY_BASE, RETRY_MAX),
            retry_at: None,
            problems: BTreeSet::new(),
            walk: Walk::default(),
            touched: BTreeSet::new(),
        }
    }

    pub(crate) fn on_service(&mut self, change: &Change<Service>) {
        self.metrics.service_changed();
        self.receive(None);
        if [change.before(), change.after()]
            .into_iter()
            .flatten()
            .any(|service| health_check_port(service).is_some())
        {
            self.touched.insert(ObjectKey::of(&change.object().metadata));
        }
        match change.after() {
            Some(service) => self.table.apply_service(service),
            None => {
                let (namespace, name) = names(&change.object().metadata);
                self.table.remove_service(namespace, name);
            }
        }
    }

    pub(crate) fn on_slice(&mut self, change: &Change<EndpointSlice>) {
        self.metrics.endpoints_changed();
        let metadata = &change.object().metadata;
        self.receive(trigger_time(metadata));
        for slice in [change.before(), change.after()].into_iter().flatten() {
            self.touch_owner(slice);
        }
        match change.after() {
            Some(slice) => self.table.apply_slice(slice),
            None => {
                let (namespace, name) = names(metadata);
                self.table.remove_slice(namespace, name);
            }
        }
    }

    pub(crate) fn on_node(&mut self, change: &Change<Node>) {
        self.health.set_node(change.after().map(|node| &**node));
        // A Node that is removed leaves its addresses: they are still this machine's.
        if let Some(node) = change.after() {
            let view = node_view(&self.config, Some(node));
            self.health.set_addresses(&view.addresses);
            self.table.set_node(view);
        }
    }

    fn receive(&mut self, trigger: Option<Timestamp>) {
        self.health.queued();
        self.received.push(Receipt {
            at: Instant::now(),
            trigger,
        });
    }

    fn touch_owner(&mut self, slice: &EndpointSlice) {
        let labels = slice.metadata.labels.as_ref();
        let owner = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL));
        let (namespace, _) = names(&slice.metadata);
        let key = owner.map(|name| ObjectKey::new(namespace, name));
        // Nearly no Service wants its health known: only those are looked at again.
        let wanted = |key: &ObjectKey| {
            self.services
                .get(key)
                .is_some_and(|service| health_check_port(&service).is_some())
        };
        self.touched.extend(key.filter(wanted));
    }

    /// What load balancers may know now.
    fn tell_health(&mut self) {
        self.health.synced();
        for key in std::mem::take(&mut self.touched) {
            let port = self
                .services
                .get(&key)
                .and_then(|service| health_check_port(&service));
            let check = port.map(|port| (port, self.table.local_ready(&key.namespace, &key.name)));
            self.health.set_service(key, check);
        }
    }

    /// What was received so far was there before this process: its latency says nothing.
    pub(crate) fn forget_receipts(&mut self) {
        self.received.clear();
    }

    /// When to flush without further changes.
    pub(crate) fn wakes_at(&self, last_flush: Instant) -> Option<Instant> {
        let deferred = || self.table.has_deferred().then(|| last_flush + REMOVAL_DELAY);
        self.retry_at.or_else(deferred)
    }

    /// Whether a failure is to be waited out.
    pub(crate) fn rests(&self) -> bool {
        self.retry_at.is_some_and(|retry_at| Instant::now() < retry_at)
    }

    /// Writes everything that changed. What the maps refuse is tried again later.
    pub(crate) async fn flush(&mut self) -> Result<(), ProxyError> {
        self.retry_at = None;
        let (started, whole) = (Instant::now(), self.adrift);
        match self.write().await? {
            Ok(operations) => {
                self.backoff.reset();
                self.tell_health();
                self.arrived(operations, started, whole);
            }
            Err(error) => self.refused(&error),
        }
        self.report_problems();
        Ok(())
    }

    /// The maps are read whole before the next write.
    fn refused(&mut self, error: &MapError) {
        self.metrics.failed();
        self.adrift = true;
        let delay = self.backoff.next_delay();
        self.retry_at = Some(Instant::now() + delay);
        let error = error as &dyn std::error::Error;
        tracing::warn!(
            error,
            retry_in_ms = delay.as_millis(),
            "the maps refused a change"
        );
    }

    /// Looks at the next stripe of each map and sets right what somebody else has changed. Nothing is written
    /// meanwhile, so that whatever differs from what was written is no change of ours under way.
    pub(crate) async fn verify(&mut self) -> Result<(), ProxyError> {
        if self.adrift {
            return Ok(());
        }
        let (mut walk, expected) = (self.walk.clone(), Expected::next(&self.walk, &self.table));
        let read = self.on_maps(move |maps| walk.read(maps, &expected).map(|seen| (seen, walk)));
        let seen = match read.await? {
            Ok((seen, walk)) => {
                self.walk = walk;
                seen
            }
            Err(error) => {
                self.refused(&error);
                return Ok(());
            }
        };
        for (map, entries) in seen.fills {
            self.metrics.counted_map(map, entries);
        }
        for found in seen.found {
            let ops = self.table.repairs(&found);
            if ops.is_empty() {
                continue;
            }
            let (map, entries) = (found.map(), ops.len());
            tracing::warn!(map, entries, "somebody else changed the map; setting it right");
            let Written { failure, .. } = self.on_maps(move |maps| write::write(maps, &ops)).await?;
            match failure {
                None => self.metrics.repaired(map, entries),
                Some(error) => self.refused(&error),
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<Result<usize, MapError>, ProxyError> {
        if self.adrift {
            match self.on_maps(|maps| write::read(maps)).await? {
                Ok(state) => self.table.resync(&state),
                Err(error) => return Ok(Err(error)),
            }
            self.adrift = false;
        }
        let ops = self.table.take_ops();
        if ops.is_empty() {
            return Ok(Ok(0));
        }
        let write = move |maps: &dyn ServiceMaps| {
            let taken = node_ports::taken_from_others(maps, &ops)?;
            Ok((write::write(maps, &ops), taken))
        };
        let (Written { done, failure }, taken) = match self.on_maps(write).await? {
            Ok(written) => written,
            Err(error) => return Ok(Err(error)),
        };
        self.metrics.wrote(done);
        self.report_taken(&taken);
        Ok(failure.map_or(Ok(done), Err))
    }

    /// Map operations are system calls, many of them at first: not for the runtime's threads.
    async fn on_maps<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn ServiceMaps) -> T + Send + 'static,
    ) -> Result<T, ProxyError> {
        let maps = Arc::clone(&self.maps);
        tokio::task::spawn_blocking(move || work(&*maps))
            .await
            .map_err(ProxyError::Writer)
    }

    fn arrived(&mut self, operations: usize, started: Instant, whole: bool) {
        let (now, wall) = (Instant::now(), Timestamp::now());
        for receipt in self.received.drain(..) {
            // Clocks of two machines may differ: no latency is negative.
            let trigger = receipt.trigger.map(|trigger| wall.duration_since(trigger));
            let trigger = trigger.map(|since| Duration::try_from(since).unwrap_or_default());
            self.metrics.reached_maps(now - receipt.at, trigger);
        }
        let took = now - started;
        self.metrics.synced(took, whole);
        self.metrics
            .served(self.table.port_count(), self.table.problems().len());
        if operations > 0 {
            tracing::debug!(operations, took_us = took.as_micros(), "wrote the maps");
        }
    }

    /// An Event for every Service whose node port another program has, which gets nothing by it any more.
    fn report_taken(&self, taken: &[NodePort]) {
        for (protocol, port) in taken {
            tracing::warn!(%protocol, port, "a program of this node has the node port");
            let services = self.services.list();
            if let Some(service) = services.iter().find(|s| node_ports::has(s, (*protocol, *port))) {
                let node = &self.config.node_name;
                let message = format!(
                    "Another program of node {node} has port {port}/{protocol}; the Service takes its packets from it"
                );
                self.recorder
                    .event(&**service, EventType::Warning, "NodePortInUse", message);
            }
        }
    }

    /// An Event for every Service that newly lacks room.
    fn report_problems(&mut self) {
        let problems: BTreeSet<Problem> = self.table.problems().into_iter().collect();
        for problem in problems.difference(&self.problems) {
            let Problem { namespace, name, map } = problem;
            tracing::warn!(namespace, name, map, "no room for the Service");
            let key = ObjectKey {
                namespace: namespace.clone(),
                name: name.clone(),
            };
            if let Some(service) = self.services.get(&key) {
                let node = &self.config.node_name;
                let message =
                    format!("Map {map} of node {node} has no room for all of this Service; it is retried");
                self.recorder
                    .event(&*service, EventType::Warning, "ServiceMapFull", message);
            }
        }
        self.problems = problems;
    }
}

fn names(metadata: &ObjectMeta) -> (&str, &str) {
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

fn trigger_time(metadata: &ObjectMeta) -> Option<Timestamp> {
    metadata.annotations.as_ref()?.get(TRIGGER_TIME)?.parse().ok()
}

/// The configuration's addresses and those of the Node object, and its zone.
fn node_view(config: &ProxyConfig, node: Option<&Node>) -> NodeView {
    let status = node.and_then(|node| node.status.as_ref());
    let listed = status.iter().flat_map(|status| status.addresses.iter().flatten());
    let listed = listed.filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"));
    let mut addresses = config.node_addresses.clone();
    addresses.extend(listed.filter_map(|address| address.address.parse::<IpAddr>().ok()));
    addresses.sort_unstable();
    addresses.dedup();
    let local = config
        .node_local
        .iter()
        .map(|(namespace, name, address)| NodeLocal {
            namespace: namespace.clone(),
            name: name.clone(),
            address: *address,
        });
    let labels = node.and_then(|node| node.metadata.labels.as_ref());
    let zone = labels.and_then(|labels| labels.get(ZONE_LABEL));
    NodeView {
        name: config.node_name.clone(),
        addresses,
        zone: zone.cloned().unwrap_or_default(),
        restrict_node_ports: config.restrict_node_ports,
        node_local: local.collect(),
    }
}

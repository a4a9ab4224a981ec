//! What the proxy measures of itself; kube-proxy's names where they mean the same.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// From a fraction of a millisecond (a change seen to a change written) to half a minute.
const LATENCY_BUCKETS_S: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 30.0,
];

/// What a latency is measured from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Since {
    since: &'static str,
}

/// A map, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Map {
    map: &'static str,
}

/// An HTTP status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u16,
}

/// The proxy's metrics; register them once per process.
#[derive(Clone, Debug)]
pub struct ProxyMetrics {
    latency: Family<Since, Histogram, fn() -> Histogram>,
    programming: Histogram,
    sync_duration: Histogram,
    full_sync_duration: Histogram,
    partial_sync_duration: Histogram,
    last_sync: Gauge<f64, AtomicU64>,
    last_queued: Gauge<f64, AtomicU64>,
    service_changes: Counter,
    endpoint_changes: Counter,
    service_changes_pending: Gauge<i64, AtomicI64>,
    endpoint_changes_pending: Gauge<i64, AtomicI64>,
    operations: Counter,
    failures: Counter,
    without_room: Gauge<i64, AtomicI64>,
    ports: Gauge<i64, AtomicI64>,
    healthz: Family<Code, Counter>,
    livez: Family<Code, Counter>,
    health_listeners_failed: Gauge<i64, AtomicI64>,
    drift_repaired: Family<Map, Counter>,
    map_entries: Family<Map, Gauge<i64, AtomicI64>>,
    map_capacity: Family<Map, Gauge<i64, AtomicI64>>,
}

impl ProxyMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            latency: Family::new_with_constructor(histogram),
            programming: histogram(),
            sync_duration: histogram(),
            full_sync_duration: histogram(),
            partial_sync_duration: histogram(),
            last_sync: Gauge::default(),
            last_queued: Gauge::default(),
            service_changes: Counter::default(),
            endpoint_changes: Counter::default(),
            service_changes_pending: Gauge::default(),
            endpoint_changes_pending: Gauge::default(),
            operations: Counter::default(),
            failures: Counter::default(),
            without_room: Gauge::default(),
            ports: Gauge::default(),
            healthz: Family::default(),
            livez: Family::default(),
            health_listeners_failed: Gauge::default(),
            drift_repaired: Family::default(),
            map_entries: Family::default(),
            map_capacity: Family::default(),
        };
        let upstream = registry.sub_registry_with_prefix("kubeproxy");
        metrics.register_syncs(upstream);
        metrics.register_changes(upstream);
        let own = registry.sub_registry_with_prefix("skep_proxy");
        metrics.register_services(own);
        metrics.register_maps(own);
        metrics
    }

    fn register_syncs(&self, registry: &mut Registry) {
        for (name, help, histogram) in [
            (
                "network_programming_duration",
                "From an endpoint's change, as its EndpointSlice tells, to the maps",
                &self.programming,
            ),
            (
                "sync_proxy_rules_duration",
                "Compiling and writing one batch of changes",
                &self.sync_duration,
            ),
            (
                "sync_full_proxy_rules_duration",
                "Those batches for which the maps were read whole: the first, and after a failure",
                &self.full_sync_duration,
            ),
            (
                "sync_partial_proxy_rules_duration",
                "All other batches",
                &self.partial_sync_duration,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        for (name, help, gauge) in [
            (
                "sync_proxy_rules_last_timestamp",
                "When changes were last written whole, since the epoch",
                &self.last_sync,
            ),
            (
                "sync_proxy_rules_last_queued_timestamp",
                "When a change was last seen, since the epoch",
                &self.last_queued,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, gauge.clone());
        }
    }

    fn register_changes(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "sync_proxy_rules_service_changes",
                "Changes of Services seen",
                &self.service_changes,
            ),
            (
                "sync_proxy_rules_endpoint_changes",
                "Changes of EndpointSlices seen",
                &self.endpoint_changes,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        for (name, help, gauge) in [
            (
                "sync_proxy_rules_service_changes_pending",
                "Changes of Services that are not in the maps yet",
                &self.service_changes_pending,
            ),
            (
                "sync_proxy_rules_endpoint_changes_pending",
                "Changes of EndpointSlices that are not in the maps yet",
                &self.endpoint_changes_pending,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "proxy_healthz",
            "Answers of /healthz, by status",
            self.healthz.clone(),
        );
        registry.register("proxy_livez", "Answers of /livez, by status", self.livez.clone());
    }

    fn register_services(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "sync_latency",
            "From the change (since=trigger, where the EndpointSlice tells it) or from its receipt (since=receipt) to the maps",
            Unit::Seconds,
            self.latency.clone(),
        );
        for (name, help, gauge) in [
            (
                "services_without_room",
                "Services that the maps have no room for, wholly or in part",
                &self.without_room,
            ),
            (
                "service_ports",
                "Service ports in the table, per family",
                &self.ports,
            ),
            (
                "health_listeners_failed",
                "Health check ports that could not be opened; they are tried again",
                &self.health_listeners_failed,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }

    fn register_maps(&self, registry: &mut Registry) {
        registry.register("map_operations", "Writes to the maps", self.operations.clone());
        registry.register(
            "map_failures",
            "Writes and reads that the maps refused",
            self.failures.clone(),
        );
        registry.register(
            "drift_repaired",
            "Entries of maps that somebody else had changed, and that were set right",
            self.drift_repaired.clone(),
        );
        registry.register(
            "map_entries",
            "Entries that the last walk through the map has met in the kernel",
            self.map_entries.clone(),
        );
        registry.register(
            "map_capacity",
            "Most entries the map can hold",
            self.map_capacity.clone(),
        );
    }

    /// The maps that there are, and their capacities.
    pub(crate) fn has_maps(&self, capacities: impl IntoIterator<Item = (&'static str, u32)>) {
        for (map, capacity) in capacities {
            self.map_capacity.get_or_create(&Map { map }).set(capacity.into());
        }
    }

    pub(crate) fn counted_map(&self, map: &'static str, entries: u32) {
        self.map_entries.get_or_create(&Map { map }).set(entries.into());
    }

    pub(crate) fn service_changed(&self) {
        self.service_changes.inc();
        self.service_changes_pending.inc();
        self.last_queued.set(now_s());
    }

    pub(crate) fn endpoints_changed(&self) {
        self.endpoint_changes.inc();
        self.endpoint_changes_pending.inc();
        self.last_queued.set(now_s());
    }

    pub(crate) fn wrote(&self, operations: usize) {
        self.operations.inc_by(operations as u64);
    }

    pub(crate) fn repaired(&self, map: &'static str, entries: usize) {
        self.drift_repaired
            .get_or_create(&Map { map })
            .inc_by(entries as u64);
    }

    pub(crate) fn failed(&self) {
        self.failures.inc();
    }

    /// A batch is in the maps; `whole` if they were read whole for it.
    pub(crate) fn synced(&self, took: Duration, whole: bool) {
        let kind = if whole {
            &self.full_sync_duration
        } else {
            &self.partial_sync_duration
        };
        for histogram in [&self.sync_duration, kind] {
            histogram.observe(took.as_secs_f64());
        }
        for pending in [&self.service_changes_pending, &self.endpoint_changes_pending] {
            pending.set(0);
        }
        self.last_sync.set(now_s());
    }

    pub(crate) fn served(&self, ports: usize, without_room: usize) {
        self.ports.set(i64::try_from(ports).unwrap_or(i64::MAX));
        self.without_room
            .set(i64::try_from(without_room).unwrap_or(i64::MAX));
    }

    pub(crate) fn answered_healthz(&self, status: StatusCode) {
        let code = status.as_u16();
        self.healthz.get_or_create(&Code { code }).inc();
    }

    pub(crate) fn answered_livez(&self, status: StatusCode) {
        let code = status.as_u16();
        self.livez.get_or_create(&Code { code }).inc();
    }

    pub(crate) fn health_listeners_failed(&self, count: usize) {
        self.health_listeners_failed
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn reached_maps(&self, since_receipt: Duration, since_trigger: Option<Duration>) {
        let observe = |since, latency: Duration| {
            self.latency
                .get_or_create(&Since { since })
                .observe(latency.as_secs_f64());
        };
        observe("receipt", since_receipt);
        if let Some(latency) = since_trigger {
            observe("trigger", latency);
            self.programming.observe(latency.as_secs_f64());
        }
    }
}

fn histogram() -> Histogram {
    Histogram::new(LATENCY_BUCKETS_S)
}

fn now_s() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

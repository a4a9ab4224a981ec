//! What the kubelet counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The kubelet's metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Pods that have a worker.
    pub(crate) pods: Gauge,
    /// From the first sight of a pod to all its containers running.
    pub(crate) pod_start: Histogram,
    /// Containers started.
    pub(crate) started_containers: Counter,
    /// Steps of a pod that failed and are tried again.
    pub(crate) sync_errors: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            pods: Gauge::default(),
            pod_start: Histogram::new(exponential_buckets(0.05, 2.0, 12)),
            started_containers: Counter::default(),
            sync_errors: Counter::default(),
        };
        registry.register("kubelet_pods", "Pods with a worker", metrics.pods.clone());
        registry.register(
            "kubelet_pod_start_seconds",
            "From the first sight of a pod to all its containers running",
            metrics.pod_start.clone(),
        );
        registry.register(
            "kubelet_started_containers",
            "Containers started",
            metrics.started_containers.clone(),
        );
        registry.register(
            "kubelet_sync_errors",
            "Steps of a pod that failed and are tried again",
            metrics.sync_errors.clone(),
        );
        metrics
    }
}

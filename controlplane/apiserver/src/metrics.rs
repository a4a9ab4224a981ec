//! What is counted of requests; `/metrics`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Labels of one answered request. Their values are bounded: verbs, served resources, status codes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct VerbLabels {
    pub(crate) verb: &'static str,
}

#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    duration: Family<VerbLabels, Histogram>,
    /// Watches, logs and tunnels that are open.
    long_running: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_5, 2.0, 16))),
            long_running: Gauge::default(),
        };
        registry.register(
            "apiserver_request",
            "Requests by verb, resource and status code",
            metrics.requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Time to the answer's head, long-running requests aside",
            metrics.duration.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Watches, logs and tunnels that are open",
            metrics.long_running.clone(),
        );
        metrics
    }

    pub(crate) fn observe(&self, labels: RequestLabels, took: Duration) {
        self.duration
            .get_or_create(&VerbLabels { verb: labels.verb })
            .observe(took.as_secs_f64());
        self.requests.get_or_create(&labels).inc();
    }
}

/// One open long-running request; counted until it is dropped.
pub(crate) struct Open(Gauge);

impl Metrics {
    pub(crate) fn open(&self) -> Open {
        self.long_running.inc();
        Open(self.long_running.clone())
    }
}

impl Open {
    /// Keeps the guard within the closure of a stream, as long as the stream lasts.
    pub(crate) fn touch(&self) {}
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

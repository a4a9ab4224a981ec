//! Metrics of work queues, with upstream's names (client-go `workqueue_*`).

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    name: String,
}

type Durations = Family<QueueLabel, Histogram, fn() -> Histogram>;

/// The metrics of all work queues of one process, by the queue's name.
#[derive(Clone, Debug)]
pub struct WorkQueueMetrics {
    depth: Family<QueueLabel, Gauge>,
    adds: Family<QueueLabel, Counter>,
    retries: Family<QueueLabel, Counter>,
    waits: Durations,
    works: Durations,
}

fn durations() -> Durations {
    Durations::new_with_constructor(|| Histogram::new(exponential_buckets(1e-5, 10.0, 8)))
}

impl WorkQueueMetrics {
    /// Makes and registers them. Once per registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            waits: durations(),
            works: durations(),
        };
        registry.register(
            "workqueue_depth",
            "Current depth of workqueue",
            metrics.depth.clone(),
        );
        registry.register(
            "workqueue_adds",
            "Total number of adds handled by workqueue",
            metrics.adds.clone(),
        );
        registry.register(
            "workqueue_retries",
            "Total number of retries handled by workqueue",
            metrics.retries.clone(),
        );
        registry.register(
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested",
            metrics.waits.clone(),
        );
        registry.register(
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes",
            metrics.works.clone(),
        );
        metrics
    }

    pub(crate) fn queue(&self, name: &str) -> QueueMeters {
        let label = QueueLabel {
            name: name.to_owned(),
        };
        QueueMeters {
            depth: self.depth.get_or_create(&label).clone(),
            adds: self.adds.get_or_create(&label).clone(),
            retries: self.retries.get_or_create(&label).clone(),
            waits: self.waits.get_or_create(&label).clone(),
            works: self.works.get_or_create(&label).clone(),
        }
    }
}

/// One queue's metrics.
pub(crate) struct QueueMeters {
    depth: Gauge,
    adds: Counter,
    retries: Counter,
    waits: Histogram,
    works: Histogram,
}

impl QueueMeters {
    pub(crate) fn depth(&self, depth: usize) {
        self.depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    pub(crate) fn added(&self) {
        self.adds.inc();
    }

    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.waits.observe(time.as_secs_f64());
    }

    pub(crate) fn worked(&self, time: Duration) {
        self.works.observe(time.as_secs_f64());
    }
}

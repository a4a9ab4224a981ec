//! Metrics, with upstream's names and labels.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::queue::{Cause, Place, Queue};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    profile: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Incoming {
    queue: &'static str,
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempts {
    attempts: String,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptResult {
    Scheduled,
    Unschedulable,
    Error,
}

/// The metrics of one scheduler.
#[derive(Clone, Debug)]
pub struct SchedulerMetrics {
    profile: String,
    attempts: Family<Attempt, Counter>,
    attempt_durations: Family<Attempt, Histogram, fn() -> Histogram>,
    algorithm_duration: Histogram,
    pod_durations: Family<Attempts, Histogram, fn() -> Histogram>,
    pod_attempts: Histogram,
    pending: Family<QueueLabel, Gauge>,
    incoming: Family<Incoming, Counter>,
}

/// Attempts that the label tells apart; more are "15+".
const MAX_ATTEMPTS_LABEL: u32 = 15;

impl SchedulerMetrics {
    /// Makes and registers them for the scheduler of this name.
    pub fn register(registry: &mut Registry, profile: &str) -> Self {
        let metrics = Self {
            profile: profile.to_owned(),
            attempts: Family::default(),
            attempt_durations: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 15))
            }),
            algorithm_duration: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            pod_durations: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.01, 2.0, 20))
            }),
            pod_attempts: Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            pending: Family::default(),
            incoming: Family::default(),
        };
        registry.register(
            "scheduler_schedule_attempts",
            "Number of attempts to schedule pods, by the result",
            metrics.attempts.clone(),
        );
        registry.register(
            "scheduler_scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm and binding)",
            metrics.attempt_durations.clone(),
        );
        registry.register(
            "scheduler_scheduling_algorithm_duration_seconds",
            "Scheduling algorithm latency in seconds",
            metrics.algorithm_duration.clone(),
        );
        registry.register(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "Latency for a pod being scheduled, from its entry into the queue, over all attempts",
            metrics.pod_durations.clone(),
        );
        registry.register(
            "scheduler_pod_scheduling_attempts",
            "Number of attempts to successfully schedule a pod",
            metrics.pod_attempts.clone(),
        );
        registry.register(
            "scheduler_pending_pods",
            "Number of pending pods, by the queue",
            metrics.pending.clone(),
        );
        registry.register(
            "scheduler_queue_incoming_pods",
            "Number of pods added to scheduling queues by event and queue",
            metrics.incoming.clone(),
        );
        metrics
    }

    pub(crate) fn algorithm(&self, took: Duration) {
        self.algorithm_duration.observe(took.as_secs_f64());
    }

    pub(crate) fn attempt(&self, result: AttemptResult, took: Duration) {
        let result = match result {
            AttemptResult::Scheduled => "scheduled",
            AttemptResult::Unschedulable => "unschedulable",
            AttemptResult::Error => "error",
        };
        let label = Attempt {
            profile: self.profile.clone(),
            result,
        };
        self.attempts.get_or_create(&label).inc();
        self.attempt_durations
            .get_or_create(&label)
            .observe(took.as_secs_f64());
    }

    pub(crate) fn scheduled(&self, attempts: u32, took: Duration) {
        let label = if attempts >= MAX_ATTEMPTS_LABEL {
            "15+".to_owned()
        } else {
            attempts.to_string()
        };
        self.pod_durations
            .get_or_create(&Attempts { attempts: label })
            .observe(took.as_secs_f64());
        self.pod_attempts.observe(f64::from(attempts));
    }

    pub(crate) fn queue(&self, queue: &mut Queue) {
        for (place, count) in queue.counts() {
            let gauge = self.pending.get_or_create(&QueueLabel {
                queue: place_label(place),
            });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for ((place, cause), count) in queue.drain_incoming() {
            let label = Incoming {
                queue: place_label(place),
                event: cause_label(cause),
            };
            self.incoming.get_or_create(&label).inc_by(count);
        }
    }
}

fn place_label(place: Place) -> &'static str {
    match place {
        Place::Active => "active",
        Place::Backoff => "backoff",
        Place::Unschedulable => "unschedulable",
        Place::Gated => "gated",
    }
}

fn cause_label(cause: Cause) -> &'static str {
    match cause {
        Cause::PodAdd => "UnscheduledPodAdd",
        Cause::PodUpdate => "UnscheduledPodUpdate",
        Cause::ScheduleAttemptFailure => "ScheduleAttemptFailure",
        Cause::BackoffComplete => "BackoffComplete",
        Cause::UnschedulableTimeout => "UnschedulableTimeout",
        Cause::NodeChange => "NodeUpdate",
        Cause::AssignedPodDelete => "AssignedPodDelete",
    }
}

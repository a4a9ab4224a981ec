//! The loop: one task that owns cache and queue, and carries out what the cycles decide.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use prometheus_client::registry::Registry;
use rand::SeedableRng;
use rand::rngs::StdRng;
use skep_api::{ApiError, LabelSelector, ObjectExt};
use skep_client::Client;
use skep_runtime::{
    Change, EventRecorder, EventSource, EventType, Informer, InformerSet, LeaderElector, Store, Subscription,
};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::AttemptResult;
use crate::pod_info::{assigned_node, is_over};
use crate::queue::{Cause, Queue, QueuedPod};
use crate::{
    Cache, Cycle, FitError, Framework, PodInfo, SchedulerConfig, SchedulerMetrics, Siblings, binding,
};

/// Bindings and conditions that may be on their way at once.
const MAX_IN_FLIGHT: usize = 256;
/// Longest wait of the loop without anything to do.
const IDLE: Duration = Duration::from_secs(60);

/// A scheduler, ready to run.
pub struct Scheduler {
    client: Client,
    config: SchedulerConfig,
    framework: Arc<Framework>,
    metrics: SchedulerMetrics,
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("config", &self.config)
            .field("framework", &self.framework)
            .finish()
    }
}

impl Scheduler {
    /// With the usual plugins. The client is to be the scheduler's own identity.
    pub fn new(client: Client, config: SchedulerConfig, registry: &mut Registry) -> Self {
        let metrics = SchedulerMetrics::register(registry, &config.name);
        Self {
            client,
            config,
            framework: Arc::default(),
            metrics,
        }
    }

    /// With other plugins.
    #[must_use]
    pub fn with_framework(mut self, framework: Framework) -> Self {
        self.framework = Arc::new(framework);
        self
    }

    /// Schedules (while leading, if there is an election) until cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let informers = InformerSet::new(self.client.clone());
        let source = EventSource {
            component: self.config.name.clone(),
            host: None,
        };
        let recorder = EventRecorder::new(self.client.clone(), source);
        let (nodes, pods, services) = (informers.all(), informers.all(), informers.all::<Service>());
        let lead = |leading: CancellationToken| {
            let term = Term::new(&self, &nodes, &pods, &services, recorder.clone());
            let informers = informers.clone();
            async move {
                if informers.synced(&leading).await {
                    term.run(leading).await;
                }
            }
        };
        let work = async {
            match &self.config.leader_election {
                Some(options) => {
                    let elector = LeaderElector::new(self.client.clone(), options.clone());
                    elector.run(lead, shutdown.clone()).await;
                }
                None => lead(shutdown.clone()).await,
            }
        };
        tokio::join!(
            informers.run(shutdown.clone()),
            recorder.run(shutdown.clone()),
            work
        );
    }
}

/// What a task in flight comes back with.
enum Ended {
    Bound {
        pod: QueuedPod,
        node: String,
        began: Instant,
        result: Result<(), ApiError>,
    },
    Reported {
        pod: Arc<PodInfo>,
        result: Result<(), ApiError>,
    },
}

/// One uninterrupted time of scheduling.
struct Term {
    client: Client,
    name: String,
    framework: Arc<Framework>,
    metrics: SchedulerMetrics,
    recorder: EventRecorder,
    nodes: Subscription<Node>,
    pods: Subscription<Pod>,
    pod_store: Store<Pod>,
    services: Store<Service>,
    cache: Cache,
    queue: Queue,
    rng: StdRng,
    in_flight: JoinSet<Ended>,
}

impl Term {
    fn new(
        scheduler: &Scheduler,
        nodes: &Informer<Node>,
        pods: &Informer<Pod>,
        services: &Informer<Service>,
        recorder: EventRecorder,
    ) -> Self {
        Self {
            client: scheduler.client.clone(),
            name: scheduler.config.name.clone(),
            framework: Arc::clone(&scheduler.framework),
            metrics: scheduler.metrics.clone(),
            recorder,
            nodes: nodes.subscribe(),
            pods: pods.subscribe(),
            pod_store: pods.store(),
            services: services.store(),
            cache: Cache::new(),
            queue: Queue::default(),
            rng: StdRng::seed_from_u64(scheduler.config.seed),
            in_flight: JoinSet::new(),
        }
    }

    async fn run(mut self, leading: CancellationToken) {
        while !leading.is_cancelled() {
            self.catch_up();
            if self.in_flight.len() < MAX_IN_FLIGHT
                && let Some(pod) = self.queue.pop(Instant::now())
            {
                self.schedule(pod);
                // Informers and bindings want the core, too.
                tokio::task::yield_now().await;
                continue;
            }
            self.metrics.queue(&mut self.queue);
            if leading.run_until_cancelled(self.wait()).await == Some(false) {
                break;
            }
        }
        self.in_flight.shutdown().await;
    }

    /// Applies everything that has been reported.
    fn catch_up(&mut self) {
        while let Some(change) = self.nodes.try_next() {
            self.node_changed(&change);
        }
        while let Some(change) = self.pods.try_next() {
            self.pod_changed(&change);
        }
        while let Some(ended) = self.in_flight.try_join_next() {
            self.task_ended(ended);
        }
    }

    /// Waits for one report, or for a pod's time. False when the informers have ended.
    async fn wait(&mut self) -> bool {
        let wake = self.queue.next_change().unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            change = self.nodes.next() => match change {
                Some(change) => self.node_changed(&change),
                None => return false,
            },
            change = self.pods.next() => match change {
                Some(change) => self.pod_changed(&change),
                None => return false,
            },
            Some(ended) = self.in_flight.join_next() => self.task_ended(ended),
            () = tokio::time::sleep_until(wake), if !self.queue.has_active() => {}
        }
        true
    }

    fn node_changed(&mut self, change: &Change<Node>) {
        match change.after() {
            None => self.cache.remove_node(change.object().name()),
            Some(node) => {
                self.cache.set_node(Arc::clone(node));
                if change.before().is_none_or(|old| matters(old, node)) {
                    self.wake_for(node.name(), Cause::NodeChange);
                }
            }
        }
    }

    fn pod_changed(&mut self, change: &Change<Pod>) {
        let pod = change.object();
        let exists = change.after().is_some() && !is_over(pod);
        if exists && assigned_node(pod).is_some() {
            self.queue.remove(&pod.key());
            self.cache.set_pod(Arc::new(PodInfo::new(Arc::clone(pod))));
            return;
        }
        if exists && self.cache.is_assumed(&pod.key(), pod.uid()) {
            // Its binding is on the way.
            return;
        }
        if let Some(node) = self.cache.remove_pod(&pod.key()) {
            self.wake_for(&node, Cause::AssignedPodDelete);
        }
        if exists && self.is_ours(pod) && !pod.is_terminating() {
            self.queue
                .put(Arc::new(PodInfo::new(Arc::clone(pod))), Instant::now());
        } else {
            self.queue.remove(&pod.key());
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        name.unwrap_or("default-scheduler") == self.name
    }

    fn wake_for(&mut self, node: &str, cause: Cause) {
        let Some(node) = self.cache.node(node) else { return };
        self.queue.wake_if(cause, Instant::now(), |pod| {
            self.framework.may_accept_after(pod, node)
        });
    }

    fn schedule(&mut self, pod: QueuedPod) {
        let began = Instant::now();
        let cycle = Cycle {
            pod: &pod.info,
            siblings: self.siblings(&pod.info),
        };
        let chosen = self
            .framework
            .schedule(&cycle, &self.cache, &mut self.rng)
            .map(|node| node.name().to_owned());
        self.metrics.algorithm(began.elapsed());
        match chosen {
            Ok(node) => self.bind(pod, node, began),
            Err(error) => self.unschedulable(pod, &error, began),
        }
    }

    fn siblings(&self, pod: &PodInfo) -> Siblings {
        if let Some(owner) = &pod.owner {
            return Siblings::OfOwner(owner.clone());
        }
        let services = self.services.in_namespace(&pod.key.namespace);
        let selectors = services.iter().filter_map(|service| {
            let selector = service
                .spec
                .as_ref()?
                .selector
                .as_ref()
                .filter(|selector| !selector.is_empty())?;
            Some(LabelSelector::from_map(selector)).filter(|selector| selector.matches(pod.pod.labels()))
        });
        let selectors: Vec<_> = selectors.collect();
        if selectors.is_empty() {
            Siblings::None
        } else {
            Siblings::OfServices(selectors)
        }
    }

    fn bind(&mut self, pod: QueuedPod, node: String, began: Instant) {
        self.cache.assume(Arc::clone(&pod.info), &node);
        let client = self.client.clone();
        self.in_flight.spawn(async move {
            let result = binding::bind(&client, &pod.info, &node).await;
            Ended::Bound {
                pod,
                node,
                began,
                result,
            }
        });
    }

    fn unschedulable(&mut self, pod: QueuedPod, error: &FitError, began: Instant) {
        let message = error.to_string();
        tracing::debug!(pod = %pod.info.key, attempts = pod.attempts, message, "unschedulable");
        self.metrics
            .attempt(AttemptResult::Unschedulable, began.elapsed());
        self.explain(&pod.info, "Unschedulable", message);
        self.queue.put_unschedulable(pod, Instant::now());
    }

    fn explain(&mut self, pod: &Arc<PodInfo>, reason: &'static str, message: String) {
        self.recorder
            .event(&*pod.pod, EventType::Warning, "FailedScheduling", message.clone());
        let (client, pod) = (self.client.clone(), Arc::clone(pod));
        self.in_flight.spawn(async move {
            let result = binding::report(&client, &pod, reason, &message).await;
            Ended::Reported { pod, result }
        });
    }

    fn task_ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        match ended {
            Ok(Ended::Bound {
                pod,
                node,
                began,
                result: Ok(()),
            }) => self.bound(&pod, &node, began),
            Ok(Ended::Bound {
                pod,
                node,
                began,
                result: Err(error),
            }) => self.not_bound(pod, &node, began, &error),
            Ok(Ended::Reported { pod, result }) => match result {
                Err(error) if !error.is_not_found() => {
                    tracing::warn!(pod = %pod.key, %error, "condition not written");
                }
                _ => {}
            },
            Err(error) => tracing::error!(%error, "a task died"),
        }
    }

    fn bound(&self, pod: &QueuedPod, node: &str, began: Instant) {
        tracing::debug!(pod = %pod.info.key, node, attempts = pod.attempts, "bound");
        self.metrics.attempt(AttemptResult::Scheduled, began.elapsed());
        let waited = pod.first_active.map(|since| since.elapsed()).unwrap_or_default();
        self.metrics.scheduled(pod.attempts, waited);
        let message = format!("Successfully assigned {} to {node}", pod.info.key);
        self.recorder
            .event(&*pod.info.pod, EventType::Normal, "Scheduled", message);
    }

    fn not_bound(&mut self, mut pod: QueuedPod, node: &str, began: Instant, error: &ApiError) {
        self.metrics.attempt(AttemptResult::Error, began.elapsed());
        if !self.cache.forget(&pod.info) {
            // It was seen on a node after all, or is gone.
            return;
        }
        self.wake_for(node, Cause::AssignedPodDelete);
        let current = self.pod_store.get(&pod.info.key).filter(|current| {
            current.uid() == pod.info.uid() && assigned_node(current).is_none() && !current.is_terminating()
        });
        let Some(current) = current else { return };
        pod.info = Arc::new(PodInfo::new(current));
        tracing::warn!(pod = %pod.info.key, node, %error, "binding failed");
        self.explain(&pod.info, "SchedulerError", format!("binding rejected: {error}"));
        self.queue.put_backoff(pod, Instant::now());
    }
}

/// Whether anything differs that filters look at; heartbeats do not.
fn matters(old: &Node, new: &Node) -> bool {
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    old.spec != new.spec || old.metadata.labels != new.metadata.labels || allocatable(old) != allocatable(new)
}

#[cfg(test)]
mod tests;

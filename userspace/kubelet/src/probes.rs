//! Probes: one task for each probe of a running container.
//!
//! Owns the results. Semantics are upstream's: readiness and liveness wait for the startup probe; readiness begins as
//! failed, unless the container was ready before this kubelet started; a failed liveness or startup probe is told once,
//! and the container is probed no more, for it is about to be restarted. The pod workers read results with
//! [`Prober::state`] and are woken by the listener that is told of [`ProbeEvent`]s.

mod check;
mod http;
mod threshold;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use parking_lot::Mutex;
use skep_api::ObjectExt as _;
use skep_cri::Runtime;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use check::{Target, Verdict};
use threshold::Threshold;

const DEFAULT_PERIOD_SECONDS: i32 = 10;
const DEFAULT_TIMEOUT_SECONDS: i32 = 1;

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    /// Its name in events: `Readiness probe failed: …`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// A container to probe.
#[derive(Debug, Clone)]
pub(crate) struct RunningContainer {
    pub(crate) name: String,
    /// The runtime's id: another one means another attempt, which is probed anew.
    pub(crate) id: String,
    pub(crate) started_at: Timestamp,
    /// Whether it was ready in the status that was last reported: a restarted kubelet goes on from there.
    pub(crate) was_ready: bool,
}

/// What the probes of a container say; a container without a probe passes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProbeState {
    pub(crate) started: bool,
    pub(crate) ready: bool,
    /// False once a startup or liveness probe has failed for good: the container is to be restarted.
    pub(crate) live: bool,
}

/// A result changed, or a probe failed.
#[derive(Debug, Clone)]
pub(crate) struct ProbeEvent {
    pub(crate) uid: String,
    pub(crate) container: String,
    pub(crate) container_id: String,
    pub(crate) kind: ProbeKind,
    pub(crate) passed: bool,
    /// Whether the result, as [`Prober::state`] tells it, is another than before: the pod is to be looked at again.
    pub(crate) changed: bool,
    /// Why it failed.
    pub(crate) message: String,
}

type Key = (String, ProbeKind);

/// Who is told of results. Must not block.
pub(crate) type Listener = Arc<dyn Fn(ProbeEvent) + Send + Sync>;

/// Probes the containers of this node.
pub(crate) struct Prober {
    runtime: Arc<dyn Runtime>,
    events: Listener,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    workers: Mutex<HashMap<Key, Worker>>,
}

/// One probe's task, as seen from outside.
struct Worker {
    uid: String,
    result: watch::Receiver<bool>,
    stop: CancellationToken,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Prober {
    /// A prober without containers; its tasks end with the token.
    pub(crate) fn new(runtime: Arc<dyn Runtime>, events: Listener, shutdown: CancellationToken) -> Self {
        Self {
            runtime,
            events,
            shutdown,
            tasks: TaskTracker::new(),
            workers: Mutex::default(),
        }
    }

    /// Starts what is missing, keeps what runs, and stops the probes of containers that are gone.
    pub(crate) fn sync(&self, pod: &Arc<Pod>, pod_ip: Option<IpAddr>, running: &[RunningContainer]) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let alive: HashSet<&str> = running.iter().map(|container| container.id.as_str()).collect();
        let mut workers = self.workers.lock();
        workers.retain(|(id, _), worker| worker.uid != uid || alive.contains(id.as_str()));
        for container in running {
            let Some(spec) = container_of(pod, &container.name) else {
                continue;
            };
            // The startup probe comes first: the others wait for its result.
            for kind in [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness] {
                let key = (container.id.clone(), kind);
                let Some(probe) = probe_of(spec, kind).filter(|_| !workers.contains_key(&key)) else {
                    continue;
                };
                let startup = workers.get(&(container.id.clone(), ProbeKind::Startup));
                let started = startup
                    .filter(|_| kind != ProbeKind::Startup)
                    .map(|worker| worker.result.clone());
                let worker = self.start(pod, pod_ip, container, spec, kind, probe, started);
                workers.insert(key, worker);
            }
        }
    }

    /// Stops the probes of a pod.
    pub(crate) fn remove(&self, uid: &str) {
        self.workers.lock().retain(|_, worker| worker.uid != uid);
    }

    /// What is known of a container of a pod.
    pub(crate) fn state(&self, container: &Container, id: &str) -> ProbeState {
        let workers = self.workers.lock();
        let result = |kind, absent: bool| match workers.get(&(id.to_owned(), kind)) {
            Some(worker) => *worker.result.borrow(),
            None => probe_of(container, kind).is_none() || absent,
        };
        let started = result(ProbeKind::Startup, false);
        let failed = |kind| {
            workers
                .get(&(id.to_owned(), kind))
                .is_some_and(|worker| worker.result.has_changed().is_err())
        };
        let startup_failed = !started && failed(ProbeKind::Startup);
        let live = result(ProbeKind::Liveness, true) && !startup_failed;
        ProbeState {
            started,
            ready: started && result(ProbeKind::Readiness, false),
            live,
        }
    }

    /// Waits until every probe has ended, after the token was cancelled.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "everything that one probe's task is made of, used once"
    )]
    fn start(
        &self,
        pod: &Arc<Pod>,
        pod_ip: Option<IpAddr>,
        container: &RunningContainer,
        spec: &Container,
        kind: ProbeKind,
        probe: &Probe,
        started: Option<watch::Receiver<bool>>,
    ) -> Worker {
        let initially = match kind {
            ProbeKind::Startup => false,
            ProbeKind::Liveness => true,
            ProbeKind::Readiness => container.was_ready,
        };
        let (sender, result) = watch::channel(initially);
        let stop = self.shutdown.child_token();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let task = Task {
            runtime: Arc::clone(&self.runtime),
            events: Arc::clone(&self.events),
            target: Target::new(spec, probe, pod_ip, &container.id),
            uid: uid.clone(),
            pod: format!("{}/{}", pod.namespace(), pod.name()),
            container: container.clone(),
            kind,
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, DEFAULT_PERIOD_SECONDS),
            timeout: seconds(probe.timeout_seconds, DEFAULT_TIMEOUT_SECONDS),
            threshold: Threshold::new(probe.success_threshold, probe.failure_threshold, initially),
            started,
            result: sender,
        };
        let stopped = stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = task.run() => {}
            }
        });
        Worker { uid, result, stop }
    }
}

/// Looks at a container once, by the handler of `probe`.
///
/// # Errors
/// What was seen instead of a success.
pub(crate) async fn once(
    runtime: &dyn Runtime,
    container: &Container,
    probe: &Probe,
    pod_ip: Option<IpAddr>,
    container_id: &str,
    limit: Duration,
) -> Result<(), String> {
    let target = Target::new(container, probe, pod_ip, container_id);
    match target.check(runtime, limit).await {
        Verdict::Passed => Ok(()),
        Verdict::Failed(message) => Err(message),
    }
}

fn container_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    let all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    all.into_iter().find(|container| container.name == name)
}

fn probe_of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

fn seconds(value: Option<i32>, default: i32) -> Duration {
    let value = value.filter(|value| *value > 0).unwrap_or(default);
    Duration::from_secs(u64::try_from(value).unwrap_or_default())
}

/// One probe, from its delay to its end.
struct Task {
    runtime: Arc<dyn Runtime>,
    events: Listener,
    target: Target,
    uid: String,
    pod: String,
    container: RunningContainer,
    kind: ProbeKind,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    threshold: Threshold,
    /// The startup probe's result, which is waited for.
    started: Option<watch::Receiver<bool>>,
    /// Dropped with the task: a startup probe's channel that is closed without a success has failed.
    result: watch::Sender<bool>,
}

impl Task {
    async fn run(mut self) {
        if let Some(mut started) = self.started.take()
            && started.wait_for(|started| *started).await.is_err()
        {
            // The startup probe failed: the container is about to be restarted.
            return;
        }
        let age = Timestamp::now().duration_since(self.container.started_at);
        let age = Duration::try_from(age).unwrap_or_default();
        sleep(self.delay.saturating_sub(age)).await;
        let mut ticks = interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let verdict = self.target.check(&*self.runtime, self.timeout).await;
            let judged = self.threshold.observe(verdict.passed());
            let changed = judged.is_some_and(|result| {
                self.result.send_if_modified(|known| {
                    let changed = *known != result;
                    *known = result;
                    changed
                })
            });
            // A startup probe that has failed for good stays at its first result; its end is the news.
            let fatal = judged == Some(false) && self.kind != ProbeKind::Readiness;
            self.tell(&verdict, changed || fatal);
            if fatal || (self.kind == ProbeKind::Startup && judged == Some(true)) {
                return self.rest(fatal).await;
            }
        }
    }

    /// A startup probe is done once it has passed; its result goes on to be read until the container is gone.
    async fn rest(self, failed: bool) {
        if !failed {
            std::future::pending::<()>().await;
        }
    }

    fn tell(&self, verdict: &Verdict, changed: bool) {
        let message = match verdict {
            Verdict::Passed => String::new(),
            Verdict::Failed(message) => message.clone(),
        };
        if !verdict.passed() {
            tracing::debug!(
                pod = self.pod,
                container = self.container.name,
                kind = self.kind.name(),
                message,
                "probe failed"
            );
        }
        if !changed && verdict.passed() {
            return;
        }
        let event = ProbeEvent {
            uid: self.uid.clone(),
            container: self.container.name.clone(),
            container_id: self.container.id.clone(),
            kind: self.kind,
            passed: verdict.passed(),
            changed,
            message,
        };
        (self.events)(event);
    }
}

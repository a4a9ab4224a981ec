//! One task per pod: looks at the pod, plans, acts, reports; ends it when it has to end.
//!
//! Flow: something wakes the worker (the API object changed, a container ended, a probe's result changed, a time came);
//! it observes the runtime, plans (`plan`), executes the plan's actions, and looks again until there is nothing left to
//! do. A pod that is to end is taken down by `end`; one that has run its course keeps its containers' records and logs
//! until the API forgets it. Failures are tried again by the worker alone, so one pod's trouble is its own.

mod end;
mod kill;
mod prepare;
mod start;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::RwLock;
use skep_api::ApiError;
use skep_cri::RuntimeError;
use skep_runtime::EventType;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::Backoffs;
use crate::names::PodIdentity;
use crate::objects::{NotSynced, Waker};
use crate::observe::Observer;
use crate::observed::{ContainerState, Observed};
use crate::plan::{Action, Plan, PlanInput, Waiting, backoff_key, plan_pod};
use crate::probes::{ProbeState, Prober, RunningContainer};
use crate::shared::Shared;
use crate::spec::{self, spec};
use crate::status::{self, StatusInput, pod_status};
use crate::volumes::VolumeError;
use prepare::PreparedVolumes;
use start::StartError;

/// Rounds of observing and acting before the worker looks at the world again.
const MAX_ROUNDS: usize = 16;
/// The first and the longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What the API wants of a pod.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// It shall run, or end if its object says so.
    Object(Arc<Pod>),
    /// The API has forgotten it. The last object, unless only the runtime knew the pod.
    Gone(Option<Arc<Pod>>),
}

impl Wanted {
    fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::Object(pod) => Some(pod),
            Self::Gone(pod) => pod.as_ref(),
        }
    }

    fn must_end(&self) -> bool {
        match self {
            Self::Object(pod) => pod.metadata.deletion_timestamp.is_some(),
            Self::Gone(_) => true,
        }
    }
}

/// Why a step of a pod failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error("the runtime failed")]
    Runtime(#[from] RuntimeError),
    #[error("the API failed")]
    Api(#[from] ApiError),
    #[error(transparent)]
    NotSynced(#[from] NotSynced),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("the pod's directory")]
    Io(#[from] std::io::Error),
    #[error("the pod's cgroup")]
    Cgroup(#[from] crate::cgroups::CgroupError),
    #[error("container {name} still runs")]
    StillRunning { name: String },
    #[error("the step was given up")]
    Interrupted,
}

/// What comes after a step.
enum Next {
    /// Wait for news, at most until then.
    Wait(Option<Timestamp>),
    /// The pod is gone.
    Done,
}

/// A container whose start failed waits a little.
#[derive(Clone, Copy)]
struct Held {
    until: Timestamp,
    delay: Duration,
}

/// One pod's task.
pub(crate) struct PodWorker {
    shared: Arc<Shared>,
    prober: Arc<Prober>,
    id: PodIdentity,
    wanted: watch::Receiver<Wanted>,
    waker: Arc<Waker>,
    view: Arc<RwLock<Observed>>,
    observer: Observer,
    observed: Observed,
    backoffs: Backoffs,
    start_errors: BTreeMap<String, Waiting>,
    held: HashMap<String, Held>,
    volumes: Option<PreparedVolumes>,
    last_waiting: BTreeMap<String, Waiting>,
    failed: Option<Waiting>,
    /// Whether everything was taken down although the API still has the pod.
    taken_down: bool,
    failures: u32,
    first_seen: Instant,
    start_measured: bool,
}

/// What a worker is made of.
pub(crate) struct WorkerParts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) prober: Arc<Prober>,
    pub(crate) id: PodIdentity,
    pub(crate) wanted: watch::Receiver<Wanted>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) view: Arc<RwLock<Observed>>,
}

impl PodWorker {
    pub(crate) fn new(parts: WorkerParts) -> Self {
        let WorkerParts {
            shared,
            prober,
            id,
            wanted,
            waker,
            view,
        } = parts;
        Self {
            shared,
            prober,
            id,
            wanted,
            waker,
            view,
            observer: Observer::default(),
            observed: Observed::default(),
            backoffs: Backoffs::default(),
            start_errors: BTreeMap::new(),
            held: HashMap::new(),
            volumes: None,
            last_waiting: BTreeMap::new(),
            failed: None,
            taken_down: false,
            failures: 0,
            first_seen: Instant::now(),
            start_measured: false,
        }
    }

    /// Until the pod is gone or the kubelet stops. Stopping touches no container.
    pub(crate) async fn run(mut self) {
        let shutdown = self.shared.shutdown.clone();
        shutdown.run_until_cancelled(self.work()).await;
    }

    async fn work(&mut self) {
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let step = if wanted.must_end() {
                self.end(&wanted).await
            } else {
                self.keep(&wanted).await
            };
            let until = match step {
                Ok(Next::Done) => return,
                Ok(Next::Wait(until)) => {
                    self.failures = 0;
                    until
                }
                Err(SyncError::Interrupted) => continue,
                Err(error) => Some(self.retry_at(&error)),
            };
            let wait = until
                .map(|until| Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default());
            let timer = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = self.waker.woken() => {}
                () = timer => {}
            }
        }
    }

    fn retry_at(&mut self, error: &SyncError) -> Timestamp {
        self.shared.metrics.sync_errors.inc();
        let delay = RETRY.0.saturating_mul(1 << self.failures.min(8)).min(RETRY.1);
        self.failures += 1;
        let source = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(pod = %self.id, %error, source, retry_ms = delay.as_millis(), "pod not in order, trying again");
        later(Timestamp::now(), delay)
    }

    /// A round for a pod that is to run.
    async fn keep(&mut self, wanted: &Wanted) -> Result<Next, SyncError> {
        let Wanted::Object(object) = wanted else {
            return Ok(Next::Wait(None));
        };
        if object.status.as_ref().is_some_and(status::is_over) && self.taken_down {
            return Ok(Next::Wait(None));
        }
        for _ in 0..MAX_ROUNDS {
            self.observe().await?;
            let pod = self.with_newest_status(object);
            if pod.status.as_ref().is_some_and(status::is_over) {
                return self.take_down(&pod, true).await;
            }
            self.sync_probes(&pod);
            self.refresh_volumes(&pod).await;
            let now = Timestamp::now();
            let deadline = deadline(&pod);
            if deadline.is_some_and(|deadline| deadline <= now) {
                self.fail_by_deadline(&pod);
                return self.take_down(&pod, false).await;
            }
            let plan = self.plan(&pod, now);
            self.tell_back_offs(&pod, &plan);
            let status = self.report(&pod, &plan.waiting, false);
            if status::is_over(&status) {
                return self.take_down(&pod, false).await;
            }
            let (actions, held_until) = self.due(plan.actions, now);
            if actions.is_empty() {
                let times = [plan.wake_at, held_until, deadline];
                return Ok(Next::Wait(times.into_iter().flatten().min()));
            }
            self.execute(&pod, actions).await?;
            if self.wanted.borrow().must_end() {
                return Err(SyncError::Interrupted);
            }
        }
        Ok(Next::Wait(Some(Timestamp::now())))
    }

    async fn observe(&mut self) -> Result<(), SyncError> {
        self.observed = self.observer.observe(&*self.shared.runtime, &self.id.uid).await?;
        self.view.write().clone_from(&self.observed);
        Ok(())
    }

    fn plan(&self, pod: &Pod, now: Timestamp) -> Plan {
        plan_pod(&PlanInput {
            pod,
            observed: &self.observed,
            probes: &self.probe_states(pod),
            backoffs: &self.backoffs,
            now,
        })
    }

    /// The API's object with the status as this kubelet knows it, which may be newer.
    fn with_newest_status(&self, object: &Arc<Pod>) -> Arc<Pod> {
        let Some(mut newest) = self.shared.statuses.get(&self.id.uid) else {
            return Arc::clone(object);
        };
        // Conditions of others are only in the object.
        let shown = object
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let foreign = shown.filter(|condition| !status::OWNED_CONDITIONS.contains(&condition.type_.as_str()));
        let conditions = newest.conditions.get_or_insert_default();
        conditions.retain(|condition| status::OWNED_CONDITIONS.contains(&condition.type_.as_str()));
        conditions.extend(foreign.cloned());
        let mut pod = Pod::clone(object);
        pod.status = Some(newest);
        Arc::new(pod)
    }

    fn pod_ip(&self, pod: &Pod) -> Option<IpAddr> {
        if spec(pod).host_network() {
            return Some(self.shared.config.node_ip);
        }
        self.observed.sandbox()?.ips.first()?.parse().ok()
    }

    fn pod_ips(&self, pod: &Pod) -> Vec<String> {
        if spec(pod).host_network() {
            return self.shared.host.ips.clone();
        }
        self.observed
            .sandbox()
            .map(|sandbox| sandbox.ips.clone())
            .unwrap_or_default()
    }

    fn sync_probes(&self, pod: &Arc<Pod>) {
        let statuses = pod.status.iter().flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            init.chain(status.container_statuses.iter().flatten())
        });
        let ready: Vec<&str> = statuses
            .filter(|status| status.ready)
            .filter_map(|status| {
                status
                    .container_id
                    .as_deref()?
                    .split_once("://")
                    .map(|(_, id)| id)
            })
            .collect();
        let running: Vec<RunningContainer> = self
            .observed
            .containers
            .iter()
            .filter_map(|container| match container.state {
                ContainerState::Running { started_at } => Some(RunningContainer {
                    name: container.name.clone(),
                    id: container.id.clone(),
                    started_at,
                    was_ready: ready.contains(&container.id.as_str()),
                }),
                _ => None,
            })
            .collect();
        self.prober.sync(pod, self.pod_ip(pod), &running);
    }

    fn probe_states(&self, pod: &Pod) -> HashMap<String, ProbeState> {
        let states = self.observed.running().filter_map(|container| {
            let spec = spec(pod).container(&container.name)?;
            Some((container.id.clone(), self.prober.state(spec, &container.id)))
        });
        states.collect()
    }

    /// Works the status out and hands it on to be written.
    fn report(&mut self, pod: &Pod, waiting: &BTreeMap<String, Waiting>, ended: bool) -> PodStatus {
        let mut reasons = self.start_errors.clone();
        reasons.extend(waiting.clone());
        let status = pod_status(&StatusInput {
            pod,
            observed: &self.observed,
            probes: &self.probe_states(pod),
            waiting: &reasons,
            host_ips: &self.shared.host.ips,
            runtime_name: &self.shared.host.runtime_name,
            ended,
            failed: self.failed.as_ref(),
            now: Timestamp::now(),
        });
        if !self.start_measured && status.phase.as_deref() == Some("Running") {
            self.start_measured = true;
            self.shared
                .metrics
                .pod_start
                .observe(self.first_seen.elapsed().as_secs_f64());
        }
        self.shared.statuses.set(&self.id, status.clone());
        status
    }

    fn fail_by_deadline(&mut self, pod: &Pod) {
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        self.shared
            .events
            .pod(pod, EventType::Normal, "DeadlineExceeded", &message);
        self.failed = Some(Waiting {
            reason: "DeadlineExceeded".to_owned(),
            message,
        });
    }

    fn tell_back_offs(&mut self, pod: &Pod, plan: &Plan) {
        for (name, waiting) in &plan.waiting {
            if self.last_waiting.get(name) != Some(waiting) {
                let message = format!("Back-off restarting failed container {name} in pod {}", self.id);
                self.shared
                    .events
                    .container((pod, name), EventType::Warning, "BackOff", &message);
            }
        }
        self.last_waiting.clone_from(&plan.waiting);
    }

    /// The actions that need not wait, and until when the others do.
    fn due(&self, actions: Vec<Action>, now: Timestamp) -> (Vec<Action>, Option<Timestamp>) {
        let mut until: Option<Timestamp> = None;
        let due = actions.into_iter().filter(|action| {
            let Action::StartContainer { name, .. } = action else {
                return true;
            };
            match self.held.get(name) {
                Some(held) if held.until > now => {
                    until = Some(until.map_or(held.until, |known| known.min(held.until)));
                    false
                }
                _ => true,
            }
        });
        (due.collect(), until)
    }

    async fn execute(&mut self, pod: &Arc<Pod>, actions: Vec<Action>) -> Result<(), SyncError> {
        let begins = |action: &Action| {
            matches!(
                action,
                Action::CreateSandbox { .. } | Action::StartContainer { .. }
            )
        };
        if actions.iter().any(begins) {
            self.prepare_volumes(pod).await?;
        }
        let mut actions = actions.into_iter().peekable();
        while let Some(action) = actions.next() {
            match action {
                Action::StopSandbox { id } => self.stop_sandbox(pod, &id).await?,
                Action::CreateSandbox { attempt } => self.create_sandbox(pod, attempt).await?,
                Action::KillContainer { id, name, why } => self.kill_one(pod, &id, &name, why).await?,
                Action::RemoveContainer { id } => self.shared.runtime.remove_container(&id).await?,
                Action::RemoveSandbox { id } => self.shared.runtime.remove_pod_sandbox(&id).await?,
                Action::StartContainer { name, attempt } => {
                    let mut group = vec![(name, attempt)];
                    // Starts may overlap, but a hook after a start holds up the next.
                    while !has_post_start(pod, &group[group.len() - 1].0) {
                        match actions.next_if(|next| matches!(next, Action::StartContainer { .. })) {
                            Some(Action::StartContainer { name, attempt }) => group.push((name, attempt)),
                            _ => break,
                        }
                    }
                    self.start_group(pod, group).await?;
                }
            }
        }
        Ok(())
    }

    async fn start_group(&mut self, pod: &Arc<Pod>, group: Vec<(String, u32)>) -> Result<(), SyncError> {
        let Some(sandbox) = self.observed.sandbox().cloned() else {
            return Ok(());
        };
        let starts = group.iter().filter_map(|(name, attempt)| {
            let container = spec(pod).container(name)?;
            Some(self.start_one(pod, container, *attempt, &sandbox))
        });
        let results = futures::future::join_all(starts).await;
        let now = Timestamp::now();
        for ((name, attempt), result) in group.into_iter().zip(results) {
            if attempt > 0
                && let Some(container) = spec(pod).container(&name)
            {
                self.backoffs.next(&backoff_key(container), now);
            }
            match result {
                Ok(()) => {
                    self.start_errors.remove(&name);
                    self.held.remove(&name);
                    self.shared.metrics.started_containers.inc();
                }
                Err(StartError::Interrupted) => return Err(SyncError::Interrupted),
                Err(StartError::Waiting(waiting)) => self.hold(name, waiting, now),
            }
        }
        Ok(())
    }

    fn hold(&mut self, name: String, waiting: Waiting, now: Timestamp) {
        tracing::info!(pod = %self.id, container = name, reason = waiting.reason, message = waiting.message, "container not started");
        let before = self.held.get(&name).map_or(RETRY.0, |held| held.delay);
        let delay = (before * 2).min(RETRY.1);
        self.held.insert(
            name.clone(),
            Held {
                until: later(now, delay),
                delay,
            },
        );
        self.start_errors.insert(name, waiting);
    }

    /// Waits for something, but no longer than until the pod is to end.
    async fn unless_ending<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut wanted = self.wanted.clone();
        tokio::select! {
            value = work => Some(value),
            _ = wanted.wait_for(Wanted::must_end) => None,
        }
    }
}

fn has_post_start(pod: &Pod, name: &str) -> bool {
    let container = spec(pod).container(name);
    container
        .and_then(|container| container.lifecycle.as_ref())
        .is_some_and(|hooks| hooks.post_start.is_some())
}

/// When the pod may run no longer.
fn deadline(pod: &Pod) -> Option<Timestamp> {
    let allowed = spec(pod).get()?.active_deadline_seconds?;
    let start = pod.status.as_ref()?.start_time.as_ref()?.0;
    Some(later(start, spec::seconds(allowed)))
}

fn later(time: Timestamp, delay: Duration) -> Timestamp {
    let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
    time.saturating_add(delay).unwrap_or(Timestamp::MAX)
}

//! What to do next for a pod: a pure function of what is wanted and what is there.
//!
//! The rules are upstream's (`pkg/kubelet/kuberuntime/kuberuntime_manager.go`, computePodActions; restart rules in
//! `pkg/kubelet/container/helpers.go`). Ending a pod is no part of it: see `terminate`.

mod init;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};

use crate::backoff::{Backoffs, go_duration};
use crate::names::PodIdentity;
use crate::observed::{Container, ContainerState, Observed, Sandbox};
use crate::probes::ProbeState;
use crate::spec::{self, RestartPolicy, spec};

/// Everything that a plan follows from.
pub(crate) struct PlanInput<'a> {
    /// The pod as the API has it. Not being deleted.
    pub(crate) pod: &'a Pod,
    /// The pod as the runtime has it.
    pub(crate) observed: &'a Observed,
    /// What the probes say of running containers, by id.
    pub(crate) probes: &'a HashMap<String, ProbeState>,
    /// The waits of containers that fail, by [`backoff_key`].
    pub(crate) backoffs: &'a Backoffs,
    /// The time.
    pub(crate) now: Timestamp,
}

/// One step. The steps of a plan are taken in order; starts that follow each other may overlap.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// End a sandbox that the pod no longer lives in, with its containers.
    StopSandbox {
        /// Its id.
        id: String,
    },
    /// Make a sandbox.
    CreateSandbox {
        /// Its number.
        attempt: u32,
    },
    /// End a container.
    KillContainer {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// Why.
        why: KillReason,
    },
    /// Run a container.
    StartContainer {
        /// Its name.
        name: String,
        /// Its number, which is its restart count.
        attempt: u32,
    },
    /// Forget a container that has ended.
    RemoveContainer {
        /// Its id.
        id: String,
    },
    /// Forget a sandbox that has ended.
    RemoveSandbox {
        /// Its id.
        id: String,
    },
}

/// Why a container is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillReason {
    /// It did not come up in time.
    StartupProbe,
    /// It is not alive.
    LivenessProbe,
    /// Its spec has changed.
    SpecChanged,
    /// The runtime lost sight of it.
    Unknown,
}

impl KillReason {
    /// Upstream's message of the Killing event.
    pub(crate) fn message(self, container: &str) -> String {
        match self {
            Self::StartupProbe => {
                format!("Container {container} failed startup probe, will be restarted")
            }
            Self::LivenessProbe => {
                format!("Container {container} failed liveness probe, will be restarted")
            }
            Self::SpecChanged => {
                format!("Container {container} definition changed, will be restarted")
            }
            Self::Unknown => {
                format!("Container {container} is in unknown state, try killing it before restart")
            }
        }
    }
}

/// Why a container does not run although it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// `CrashLoopBackOff`, `ErrImagePull`, …
    pub(crate) reason: String,
    /// In words.
    pub(crate) message: String,
}

/// What to do, and what not yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The steps.
    pub(crate) actions: Vec<Action>,
    /// Containers that have to wait, by name.
    pub(crate) waiting: BTreeMap<String, Waiting>,
    /// When to plan again even if nothing happens.
    pub(crate) wake_at: Option<Timestamp>,
    /// The pod is over, whatever its containers do: an init container failed for good.
    pub(crate) failed: bool,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }
}

/// The key of a container's wait: another image is another chance.
pub(crate) fn backoff_key(container: &ContainerSpec) -> String {
    format!("{}/{}", container.name, spec::hash(container))
}

/// What to do next.
pub(crate) fn plan_pod(input: &PlanInput<'_>) -> Plan {
    let mut plan = Plan::default();
    let observed = input.observed;
    let current = live_sandbox(input);
    for sandbox in &observed.sandboxes {
        let lives = |container: &Container| container.sandbox_id == sandbox.id;
        let alive = sandbox.ready || observed.running().any(lives);
        if alive && current.is_none_or(|current| current.id != sandbox.id) {
            plan.actions.push(Action::StopSandbox {
                id: sandbox.id.clone(),
            });
        }
    }
    match current {
        Some(sandbox) => within_sandbox(input, sandbox, &mut plan),
        None => new_sandbox(input, &mut plan),
    }
    collect_garbage(input, current, &mut plan);
    plan
}

/// The sandbox that the pod goes on living in.
fn live_sandbox<'a>(input: &PlanInput<'a>) -> Option<&'a Sandbox> {
    let sandbox = input.observed.sandbox()?;
    let has_address = spec(input.pod).host_network() || !sandbox.ips.is_empty();
    has_address.then_some(sandbox)
}

fn new_sandbox(input: &PlanInput<'_>, plan: &mut Plan) {
    let attempt = input
        .observed
        .sandboxes
        .first()
        .map_or(0, |sandbox| sandbox.attempt + 1);
    let pod = spec(input.pod);
    // A pod that must not restart and has run is over.
    let has_run = attempt != 0 && !input.observed.containers.is_empty();
    let any_left = pod.containers().iter().any(|container| {
        let policy = spec::policy_of(input.pod, container);
        match input.observed.latest(&container.name).map(|latest| &latest.state) {
            Some(ContainerState::Exited(exit)) => policy.restarts(exit.code),
            Some(_) => policy != RestartPolicy::Never,
            None => !has_run || pod.restart_policy() != RestartPolicy::Never,
        }
    });
    if !any_left {
        return;
    }
    plan.actions.push(Action::CreateSandbox { attempt });
}

fn within_sandbox(input: &PlanInput<'_>, sandbox: &Sandbox, plan: &mut Plan) {
    let initialized = init::plan(input, sandbox, plan);
    if plan.failed || !initialized {
        return;
    }
    for container in spec(input.pod).containers() {
        let latest = input.observed.latest(&container.name);
        let here = latest.filter(|latest| latest.sandbox_id == sandbox.id);
        match here {
            Some(latest) => keep_or_restart(input, container, latest, plan),
            None => {
                let over = latest
                    .and_then(Container::exit)
                    .is_some_and(|exit| !spec::policy_of(input.pod, container).restarts(exit.code));
                if !over {
                    start(input, container, latest, plan);
                }
            }
        }
    }
}

/// What becomes of a container that is there.
fn keep_or_restart(input: &PlanInput<'_>, container: &ContainerSpec, latest: &Container, plan: &mut Plan) {
    let policy = spec::policy_of(input.pod, container);
    let changed = latest.hash != spec::hash(container);
    match &latest.state {
        ContainerState::Running { .. } => {
            if let Some(why) = must_die(input, latest, changed) {
                plan.actions.push(Action::KillContainer {
                    id: latest.id.clone(),
                    name: latest.name.clone(),
                    why,
                });
            }
        }
        ContainerState::Unknown => plan.actions.push(Action::KillContainer {
            id: latest.id.clone(),
            name: latest.name.clone(),
            why: KillReason::Unknown,
        }),
        ContainerState::Created => start(input, container, Some(latest), plan),
        ContainerState::Exited(exit) => {
            if policy.restarts(exit.code) || changed {
                start(input, container, Some(latest), plan);
            }
        }
    }
}

fn must_die(input: &PlanInput<'_>, latest: &Container, changed: bool) -> Option<KillReason> {
    let probes = input.probes.get(&latest.id);
    match probes {
        _ if changed => Some(KillReason::SpecChanged),
        Some(probes) if !probes.live && !probes.started => Some(KillReason::StartupProbe),
        Some(probes) if !probes.live => Some(KillReason::LivenessProbe),
        _ => None,
    }
}

/// Starts a container, unless it has to wait because it failed before.
fn start(input: &PlanInput<'_>, container: &ContainerSpec, last: Option<&Container>, plan: &mut Plan) {
    let failed = last.and_then(Container::exit).map(|exit| exit.finished_at);
    let wait = failed.and_then(|failed| input.backoffs.wait(&backoff_key(container), failed, input.now));
    if let Some((delay, until)) = wait {
        let message = format!(
            "back-off {} restarting failed container={} pod={}",
            go_duration(delay),
            container.name,
            PodIdentity::of(input.pod)
        );
        let waiting = Waiting {
            reason: "CrashLoopBackOff".to_owned(),
            message,
        };
        plan.waiting.insert(container.name.clone(), waiting);
        plan.wake(until);
        return;
    }
    plan.actions.push(Action::StartContainer {
        name: container.name.clone(),
        attempt: last.map_or(0, |last| last.restart_count + 1),
    });
}

/// Of every container the newest attempt and the one before stay (their logs and end can be asked for); of the
/// sandboxes the newest, and those that still hold such containers.
fn collect_garbage(input: &PlanInput<'_>, current: Option<&Sandbox>, plan: &mut Plan) {
    const KEPT_ATTEMPTS: usize = 2;
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut holders: Vec<&str> = Vec::new();
    for container in &input.observed.containers {
        let count = seen.entry(&container.name).or_default();
        *count += 1;
        if *count > KEPT_ATTEMPTS && !container.is_running() {
            plan.actions.push(Action::RemoveContainer {
                id: container.id.clone(),
            });
        } else {
            holders.push(&container.sandbox_id);
        }
    }
    for sandbox in input.observed.sandboxes.iter().skip(1) {
        let in_use = current.is_some_and(|current| current.id == sandbox.id);
        if !sandbox.ready && !in_use && !holders.contains(&sandbox.id.as_str()) {
            plan.actions.push(Action::RemoveSandbox {
                id: sandbox.id.clone(),
            });
        }
    }
}

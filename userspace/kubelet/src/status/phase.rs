//! The phase: one word for all containers together.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, PodStatus};

use super::StatusInput;
use crate::spec::{self, RestartPolicy, spec};

/// Whether the status says that the pod has run its course.
pub(crate) fn is_over(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

#[derive(Default)]
struct Tally {
    unknown: usize,
    waiting: usize,
    running: usize,
    stopped: usize,
    succeeded: usize,
}

pub(super) fn phase(
    input: &StatusInput<'_>,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> &'static str {
    let policy = spec(input.pod).restart_policy();
    let (pending, failed, sidecar_running) = initialization(input, init);
    if failed && policy == RestartPolicy::Never {
        return "Failed";
    }
    let tally = tally(main);
    let all_stopped = tally.running == 0 && tally.stopped > 0 && tally.unknown == 0;
    if pending && !all_stopped {
        return if input.ended { "Failed" } else { "Pending" };
    }
    if tally.waiting > 0 && !input.ended {
        return "Pending";
    }
    if tally.running > 0 && tally.unknown == 0 {
        return "Running";
    }
    if !all_stopped {
        return if input.ended { "Failed" } else { "Pending" };
    }
    let succeeded = tally.stopped == tally.succeeded && tally.waiting == 0;
    if input.ended {
        return if succeeded { "Succeeded" } else { "Failed" };
    }
    if sidecar_running && policy != RestartPolicy::Always && !any_restart(input, main) {
        // The sidecars are still to be ended.
        return if succeeded { "Succeeded" } else { "Failed" };
    }
    if any_restart(input, main) {
        return "Running";
    }
    if succeeded { "Succeeded" } else { "Failed" }
}

/// Whether any stopped container will be started again.
fn any_restart(input: &StatusInput<'_>, main: &[ContainerStatus]) -> bool {
    main.iter().any(|status| {
        let container = spec(input.pod).container(&status.name);
        let end = terminated(status.state.as_ref()).or_else(|| terminated(status.last_state.as_ref()));
        match (container, end) {
            (Some(container), Some(end)) => spec::policy_of(input.pod, container).restarts(end.exit_code),
            _ => false,
        }
    })
}

fn terminated(state: Option<&ContainerState>) -> Option<&ContainerStateTerminated> {
    state.and_then(|state| state.terminated.as_ref())
}

/// Whether initialization is unfinished; has failed; and whether a sidecar runs.
fn initialization(input: &StatusInput<'_>, statuses: &[ContainerStatus]) -> (bool, bool, bool) {
    let (mut pending, mut failed, mut sidecar_running) = (false, false, false);
    for container in spec(input.pod).init_containers() {
        let status = statuses.iter().find(|status| status.name == container.name);
        let state = status.and_then(|status| status.state.as_ref());
        let running = state.is_some_and(|state| state.running.is_some());
        if spec::is_sidecar(container) {
            let started = status.is_some_and(|status| status.started == Some(true));
            let has_run = status.is_some_and(|status| terminated(status.last_state.as_ref()).is_some());
            pending |= !started && !has_run && terminated(state).is_none();
            sidecar_running |= running;
            continue;
        }
        let last = status.and_then(|status| terminated(status.last_state.as_ref()));
        match terminated(state).or(if running { None } else { last }) {
            Some(end) if end.exit_code == 0 => {}
            Some(_) => {
                failed = true;
                pending = true;
            }
            None => pending = true,
        }
    }
    (pending, failed, sidecar_running)
}

fn tally(statuses: &[ContainerStatus]) -> Tally {
    let mut tally = Tally::default();
    for status in statuses {
        let state = status.state.as_ref();
        if state.is_some_and(|state| state.running.is_some()) {
            tally.running += 1;
        } else if let Some(end) = terminated(state) {
            tally.stopped += 1;
            tally.succeeded += usize::from(end.exit_code == 0);
        } else if state.is_some_and(|state| state.waiting.is_some()) {
            // A container between two attempts counts as stopped.
            match terminated(status.last_state.as_ref()) {
                Some(_) => tally.stopped += 1,
                None => tally.waiting += 1,
            }
        } else {
            tally.unknown += 1;
        }
    }
    tally
}

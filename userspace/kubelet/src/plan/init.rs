//! The part of a plan that brings init containers and sidecars up, one after the other.

use k8s_openapi::api::core::v1::Container as ContainerSpec;

use super::{Plan, PlanInput, keep_or_restart, start};
use crate::observed::{Container, ContainerState, Sandbox};
use crate::spec::{self, RestartPolicy, spec};

/// Whether the next init container may begin.
#[derive(PartialEq)]
enum Gate {
    Open,
    Closed,
}

/// Plans the init containers; returns whether the pod's own containers may run.
pub(super) fn plan(input: &PlanInput<'_>, sandbox: &Sandbox, plan: &mut Plan) -> bool {
    let pod = spec(input.pod);
    // Once a container of the pod's own was made in this sandbox, initialization is over for good.
    let initialized = pod
        .containers()
        .iter()
        .any(|container| input.observed.latest_in(&sandbox.id, &container.name).is_some());
    for container in pod.init_containers() {
        let latest = input.observed.latest_in(&sandbox.id, &container.name);
        if spec::is_sidecar(container) {
            let gate = sidecar(input, container, latest, plan);
            if gate == Gate::Closed && !initialized {
                return false;
            }
        } else if !initialized && once(input, container, latest, plan) == Gate::Closed {
            return false;
        }
    }
    true
}

/// A sidecar is kept running; the next one waits until it has started.
fn sidecar(
    input: &PlanInput<'_>,
    container: &ContainerSpec,
    latest: Option<&Container>,
    plan: &mut Plan,
) -> Gate {
    let Some(latest) = latest else {
        start(input, container, input.observed.latest(&container.name), plan);
        return Gate::Closed;
    };
    keep_or_restart(input, container, latest, plan);
    let started = input.probes.get(&latest.id).is_some_and(|probes| probes.started);
    if latest.is_running() && started {
        Gate::Open
    } else {
        Gate::Closed
    }
}

/// An init container has to succeed once.
fn once(
    input: &PlanInput<'_>,
    container: &ContainerSpec,
    latest: Option<&Container>,
    plan: &mut Plan,
) -> Gate {
    let Some(latest) = latest else {
        start(input, container, input.observed.latest(&container.name), plan);
        return Gate::Closed;
    };
    match &latest.state {
        ContainerState::Exited(exit) if exit.code == 0 => return Gate::Open,
        ContainerState::Exited(_) if spec(input.pod).restart_policy() == RestartPolicy::Never => {
            plan.failed = true;
        }
        ContainerState::Exited(_) | ContainerState::Created => {
            start(input, container, Some(latest), plan);
        }
        ContainerState::Running { .. } => {}
        ContainerState::Unknown => keep_or_restart(input, container, latest, plan),
    }
    Gate::Closed
}

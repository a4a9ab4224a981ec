//! The statuses of containers.

use k8s_openapi::api::core::v1::{
    Container as ContainerSpec, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{StatusInput, whole_second};
use crate::observed::{Container, ContainerState as Observed, Exit};
use crate::plan::Waiting;
use crate::spec::{self, spec};

/// One status per container of the spec, in the order of the spec.
pub(super) fn statuses(
    input: &StatusInput<'_>,
    containers: &[ContainerSpec],
    old: &PodStatus,
    init: bool,
) -> Vec<ContainerStatus> {
    let old = if init {
        &old.init_container_statuses
    } else {
        &old.container_statuses
    };
    let one = |container: &ContainerSpec| {
        let before = old.iter().flatten().find(|status| status.name == container.name);
        status(input, container, before, init)
    };
    containers.iter().map(one).collect()
}

fn status(
    input: &StatusInput<'_>,
    container: &ContainerSpec,
    before: Option<&ContainerStatus>,
    init: bool,
) -> ContainerStatus {
    let mut attempts = input
        .observed
        .containers
        .iter()
        .filter(|known| known.name == container.name);
    let Some(latest) = attempts.next() else {
        return never_seen(input, container, before);
    };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        container_id: Some(id(input, latest)),
        image: shown_image(container, latest),
        image_id: latest.image_ref.clone(),
        restart_count: i32::try_from(latest.restart_count).unwrap_or(i32::MAX),
        last_state: attempts.find_map(|earlier| Some(terminated(input, earlier, earlier.exit()?))),
        ..ContainerStatus::default()
    };
    let waiting = input.waiting.get(&container.name);
    let probes = input.probes.get(&latest.id);
    match (&latest.state, waiting) {
        (Observed::Running { started_at }, _) => {
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: Some(Time(whole_second(*started_at))),
                }),
                ..ContainerState::default()
            });
            status.started = Some(probes.is_some_and(|probes| probes.started));
            let counts = !init || spec::is_sidecar(container);
            status.ready = counts && probes.is_some_and(|probes| probes.ready);
        }
        (Observed::Exited(exit), None) => {
            status.ready = init && !spec::is_sidecar(container) && exit.code == 0;
            status.state = Some(terminated(input, latest, exit));
            status.started = Some(false);
        }
        (Observed::Exited(exit), Some(reason)) => {
            status.last_state = Some(terminated(input, latest, exit));
            status.state = Some(waiting_state(reason));
            status.started = Some(false);
        }
        (Observed::Created | Observed::Unknown, reason) => {
            let reason = reason.cloned().unwrap_or_else(|| initial(input));
            status.state = Some(waiting_state(&reason));
            status.started = Some(false);
        }
    }
    status
}

/// The name that the spec gave the image: runtimes may show a digest instead.
fn shown_image(container: &ContainerSpec, latest: &Container) -> String {
    match &container.image {
        Some(image) if latest.hash == spec::hash(container) => image.clone(),
        _ => latest.image.clone(),
    }
}

fn id(input: &StatusInput<'_>, container: &Container) -> String {
    format!("{}://{}", input.runtime_name, container.id)
}

/// A container that the runtime does not know: not made yet, or lost.
fn never_seen(
    input: &StatusInput<'_>,
    container: &ContainerSpec,
    before: Option<&ContainerStatus>,
) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        ..ContainerStatus::default()
    };
    let reason = input.waiting.get(&container.name).cloned();
    status.state = Some(waiting_state(&reason.unwrap_or_else(|| initial(input))));
    let Some(before) = before else {
        return status;
    };
    status.restart_count = before.restart_count;
    status.last_state.clone_from(&before.last_state);
    let old = before.state.clone().unwrap_or_default();
    if old.terminated.is_some() {
        // Its record has been removed; its end is known.
        return ContainerStatus {
            started: Some(false),
            ..before.clone()
        };
    }
    if old.running.is_some() {
        let lost = ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some(
                    "The container could not be located when the pod was deleted.  The container used to be Running"
                        .to_owned(),
                ),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        };
        if input.ended {
            status.state = Some(lost);
        } else {
            status.last_state = Some(lost);
            status.restart_count += 1;
        }
    }
    status
}

/// Why a container that nothing is wrong with does not run yet. With init containers all wait as PodInitializing,
/// also the first init container itself.
fn initial(input: &StatusInput<'_>) -> Waiting {
    let has_init = !spec(input.pod).init_containers().is_empty();
    let reason = if has_init {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    Waiting {
        reason: reason.to_owned(),
        message: String::new(),
    }
}

fn waiting_state(waiting: &Waiting) -> ContainerState {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: text(&waiting.reason),
            message: text(&waiting.message),
        }),
        ..ContainerState::default()
    }
}

fn terminated(input: &StatusInput<'_>, container: &Container, exit: &Exit) -> ContainerState {
    let reason = match exit.reason.as_str() {
        "" if exit.code == 0 => "Completed",
        "" => "Error",
        reason => reason,
    };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(id(input, container)),
            exit_code: exit.code,
            reason: Some(reason.to_owned()),
            message: (!exit.message.is_empty()).then(|| exit.message.clone()),
            started_at: exit.started_at.map(|time| Time(whole_second(time))),
            finished_at: Some(Time(whole_second(exit.finished_at))),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

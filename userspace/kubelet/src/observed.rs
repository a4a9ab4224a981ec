//! A pod as the runtime has it.

use jiff::Timestamp;
use skep_cri::v1;

use crate::names;

/// What the runtime knows of one pod, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    /// Its sandboxes; usually one.
    pub(crate) sandboxes: Vec<Sandbox>,
    /// Its containers, of all sandboxes and attempts.
    pub(crate) containers: Vec<Container>,
}

/// One sandbox.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sandbox {
    /// The runtime's id.
    pub(crate) id: String,
    /// The how-manieth sandbox of the pod it is, from 0.
    pub(crate) attempt: u32,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// Whether it runs.
    pub(crate) ready: bool,
    /// Its addresses; none in the host's network.
    pub(crate) ips: Vec<String>,
}

/// One attempt to run a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Container {
    /// The runtime's id.
    pub(crate) id: String,
    /// The name in the pod's spec.
    pub(crate) name: String,
    /// The sandbox it is in.
    pub(crate) sandbox_id: String,
    /// How often the container had been restarted when this attempt began.
    pub(crate) restart_count: u32,
    /// The hash of the spec that it was made from.
    pub(crate) hash: String,
    /// The image as the spec named it.
    pub(crate) image: String,
    /// The image as the runtime names it.
    pub(crate) image_ref: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// What it does now.
    pub(crate) state: ContainerState,
    /// The grace period that it was made with, for pods that the API has forgotten.
    pub(crate) grace_seconds: Option<i64>,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ContainerState {
    /// Made and not started.
    Created,
    /// Running.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// Ended.
    Exited(Exit),
    /// The runtime does not know.
    Unknown,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exit {
    /// The exit code; 128 + n after signal n.
    pub(crate) code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, …
    pub(crate) reason: String,
    /// The runtime's message, or the container's own.
    pub(crate) message: String,
    /// When it had started; never if it could not.
    pub(crate) started_at: Option<Timestamp>,
    /// When it ended.
    pub(crate) finished_at: Timestamp,
}

impl Container {
    /// Whether it runs.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, ContainerState::Running { .. })
    }

    /// How it ended, if it did.
    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.state {
            ContainerState::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

impl Observed {
    /// The sandbox that the pod lives in: the newest, if it runs.
    pub(crate) fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// The newest attempt of a container.
    pub(crate) fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest attempt of a container in one sandbox.
    pub(crate) fn latest_in(&self, sandbox_id: &str, name: &str) -> Option<&Container> {
        self.containers
            .iter()
            .find(|container| container.name == name && container.sandbox_id == sandbox_id)
    }

    /// The containers that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| container.is_running())
    }

    /// Brings both lists into their order.
    pub(crate) fn sort(&mut self) {
        self.sandboxes
            .sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
        self.containers
            .sort_by_key(|container| std::cmp::Reverse(container.created_at));
    }
}

/// A time of the runtime; zero means never.
pub(crate) fn time(nanos: i64) -> Option<Timestamp> {
    (nanos > 0)
        .then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok())
        .flatten()
}

impl Sandbox {
    pub(crate) fn from_status(status: &v1::PodSandboxStatus) -> Self {
        let network = status.network.clone().unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|more| more.ip);
        let ips = std::iter::once(network.ip)
            .chain(more)
            .filter(|ip| !ip.is_empty());
        Self {
            id: status.id.clone(),
            attempt: status.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
            created_at: time(status.created_at).unwrap_or_default(),
            ready: status.state() == v1::PodSandboxState::SandboxReady,
            ips: ips.collect(),
        }
    }
}

impl Container {
    /// From the runtime's status. `message` is what the container left for its end.
    pub(crate) fn from_status(
        status: &v1::ContainerStatus,
        sandbox_id: &str,
        message: Option<String>,
    ) -> Self {
        let label = |key: &str| status.labels.get(key).cloned().unwrap_or_default();
        let annotation = |key: &str| status.annotations.get(key).cloned();
        let created_at = time(status.created_at).unwrap_or_default();
        let started_at = time(status.started_at);
        let state = match status.state() {
            v1::ContainerState::ContainerCreated => ContainerState::Created,
            v1::ContainerState::ContainerRunning => ContainerState::Running {
                started_at: started_at.unwrap_or(created_at),
            },
            v1::ContainerState::ContainerExited => ContainerState::Exited(Exit {
                code: status.exit_code,
                reason: status.reason.clone(),
                message: message.unwrap_or_else(|| status.message.clone()),
                started_at,
                finished_at: time(status.finished_at).unwrap_or(created_at),
            }),
            v1::ContainerState::ContainerUnknown => ContainerState::Unknown,
        };
        Self {
            id: status.id.clone(),
            name: label(names::CONTAINER_NAME),
            sandbox_id: sandbox_id.to_owned(),
            restart_count: annotation(names::RESTART_COUNT)
                .and_then(|count| count.parse().ok())
                .or_else(|| status.metadata.as_ref().map(|metadata| metadata.attempt))
                .unwrap_or(0),
            hash: annotation(names::CONTAINER_HASH).unwrap_or_default(),
            image: status.image.clone().unwrap_or_default().image,
            image_ref: status.image_ref.clone(),
            created_at,
            state,
            grace_seconds: annotation(names::GRACE_PERIOD).and_then(|grace| grace.parse().ok()),
        }
    }
}

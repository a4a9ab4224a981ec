//! A container of a pod as a container of the runtime. Pure but for what the caller has prepared.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use skep_cri::v1;

use crate::env;
use crate::names::{self, PodIdentity};
use crate::sandbox_config::pod_labels;
use crate::spec::{self, spec};

/// Where a container leaves its last words, unless its spec says otherwise.
const DEFAULT_MESSAGE_PATH: &str = "/dev/termination-log";

/// What the caller has prepared.
pub(crate) struct Prepared {
    pub(crate) image: v1::Image,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) mounts: Vec<v1::Mount>,
    pub(crate) resources: v1::LinuxContainerResources,
    pub(crate) security: v1::LinuxContainerSecurityContext,
    /// The file that takes the termination message, on the host.
    pub(crate) message_file: PathBuf,
}

/// The container's log below the pod's directory of logs.
pub(crate) fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

/// Where in the container its termination message goes.
pub(crate) fn message_path(container: &Container) -> &str {
    let own = container
        .termination_message_path
        .as_deref()
        .filter(|path| !path.is_empty());
    own.unwrap_or(DEFAULT_MESSAGE_PATH)
}

/// A mount with the host's side at `host`.
pub(crate) fn bind(host: &Path, container: &str, readonly: bool) -> v1::Mount {
    v1::Mount {
        container_path: container.to_owned(),
        host_path: host.display().to_string(),
        readonly,
        propagation: v1::MountPropagation::PropagationPrivate.into(),
    }
}

/// How mounts travel between host and container.
pub(crate) fn propagation(text: Option<&str>) -> v1::MountPropagation {
    match text {
        Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
        _ => v1::MountPropagation::PropagationPrivate,
    }
}

/// The container's configuration.
pub(crate) fn container_config(
    pod: &Pod,
    container: &Container,
    attempt: u32,
    prepared: Prepared,
) -> v1::ContainerConfig {
    let id = PodIdentity::of(pod);
    let mut mounts = prepared.mounts;
    let message_path = message_path(container);
    mounts.push(bind(&prepared.message_file, message_path, false));
    let mut labels: HashMap<_, _> = pod_labels(&id).into();
    labels.insert(names::CONTAINER_NAME.to_owned(), container.name.clone());
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let grace = spec(pod).grace().as_secs().to_string();
    let annotations = [
        (names::CONTAINER_HASH, spec::hash(container)),
        (names::RESTART_COUNT, attempt.to_string()),
        (names::MESSAGE_PATH, message_path.to_owned()),
        (names::MESSAGE_POLICY, policy.to_owned()),
        (names::MESSAGE_FILE, prepared.message_file.display().to_string()),
        (names::GRACE_PERIOD, grace),
    ];
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: container.name.clone(),
            attempt,
        }),
        image: Some(v1::ImageSpec {
            image: prepared.image.id,
            ..v1::ImageSpec::default()
        }),
        command: env::expand_all(container.command.as_ref(), &prepared.variables),
        args: env::expand_all(container.args.as_ref(), &prepared.variables),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: prepared
            .variables
            .into_iter()
            .map(|(key, value)| v1::KeyValue {
                key,
                value: value.into_bytes(),
            })
            .collect(),
        mounts,
        labels,
        annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
        log_path: log_path(&container.name, attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(prepared.resources),
            security_context: Some(prepared.security),
        }),
    }
}

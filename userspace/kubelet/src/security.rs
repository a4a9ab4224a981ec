//! Security contexts: what the API asks for, and what it means when it does not ask. Pure.
//!
//! Source: upstream's `pkg/kubelet/kuberuntime/security_context.go` and `pkg/securitycontext`. Unlike upstream, a
//! container without a seccomp profile runs under the runtime's default one.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext};
use skep_cri::v1;
use skep_cri::v1::security_profile::ProfileType;

use crate::names::PodIdentity;
use crate::spec::spec;

const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Why a container may not run as it would.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum SecurityError {
    #[error("container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})")]
    ImageRunsAsRoot { pod: String, container: String },
    #[error("container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})")]
    RunsAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: \"{pod}\", container: {container})"
    )]
    UnknownUser {
        user: String,
        pod: String,
        container: String,
    },
}

fn pod_context(pod: &Pod) -> Option<&PodSecurityContext> {
    spec(pod).get().and_then(|spec| spec.security_context.as_ref())
}

fn int(value: Option<i64>) -> Option<v1::Int64Value> {
    value.map(|value| v1::Int64Value { value })
}

fn supplemental_groups(pod: &Pod) -> Vec<i64> {
    let context = pod_context(pod);
    let groups = context
        .and_then(|context| context.supplemental_groups.clone())
        .unwrap_or_default();
    groups
        .into_iter()
        .chain(context.and_then(|context| context.fs_group))
        .collect()
}

fn namespaces(pod: &Pod) -> v1::NamespaceOption {
    let spec = spec(pod).get();
    let node_if = |wanted: Option<bool>, other| match wanted {
        Some(true) => v1::NamespaceMode::Node,
        _ => other,
    };
    let shared = spec.and_then(|spec| spec.share_process_namespace) == Some(true);
    let own_pid = if shared {
        v1::NamespaceMode::Pod
    } else {
        v1::NamespaceMode::Container
    };
    v1::NamespaceOption {
        network: node_if(spec.and_then(|spec| spec.host_network), v1::NamespaceMode::Pod).into(),
        pid: node_if(spec.and_then(|spec| spec.host_pid), own_pid).into(),
        ipc: node_if(spec.and_then(|spec| spec.host_ipc), v1::NamespaceMode::Pod).into(),
        target_id: String::new(),
    }
}

fn seccomp(profile: Option<&SeccompProfile>, root_dir: &Path) -> v1::SecurityProfile {
    let (kind, localhost_ref) = match profile.map(|profile| profile.type_.as_str()) {
        Some("Unconfined") => (ProfileType::Unconfined, String::new()),
        Some("Localhost") => {
            let name = profile
                .and_then(|profile| profile.localhost_profile.clone())
                .unwrap_or_default();
            (
                ProfileType::Localhost,
                root_dir.join("seccomp").join(name).display().to_string(),
            )
        }
        _ => (ProfileType::RuntimeDefault, String::new()),
    };
    v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref,
    }
}

fn is_privileged(container: &Container) -> bool {
    container
        .security_context
        .as_ref()
        .and_then(|context| context.privileged)
        .unwrap_or(false)
}

/// The sandbox's context. It is privileged if any container is.
pub(crate) fn of_sandbox(pod: &Pod, root_dir: &Path) -> v1::LinuxSandboxSecurityContext {
    let context = pod_context(pod);
    v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: int(context.and_then(|context| context.run_as_user)),
        run_as_group: int(context
            .filter(|context| context.run_as_user.is_some())
            .and_then(|context| context.run_as_group)),
        readonly_rootfs: false,
        supplemental_groups: supplemental_groups(pod),
        privileged: spec(pod).all_containers().any(is_privileged),
        seccomp: Some(seccomp(
            context.and_then(|context| context.seccomp_profile.as_ref()),
            root_dir,
        )),
    }
}

/// The container's context, given the user that its image names.
pub(crate) fn of_container(
    pod: &Pod,
    container: &Container,
    image: &v1::Image,
    root_dir: &Path,
) -> Result<v1::LinuxContainerSecurityContext, SecurityError> {
    let shared = pod_context(pod).cloned().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(shared.run_as_user);
    if own.run_as_non_root.or(shared.run_as_non_root) == Some(true) {
        check_not_root(pod, container, user, image)?;
    }
    let privileged = own.privileged.unwrap_or(false);
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |paths: &[&str]| match unmasked {
        true => Vec::new(),
        false => paths.iter().map(|path| (*path).to_owned()).collect(),
    };
    let profile = own.seccomp_profile.as_ref().or(shared.seccomp_profile.as_ref());
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
        }),
        privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user: int(user.or(image.uid.map(|uid| uid.value))),
        run_as_username: if user.is_none() {
            image.username.clone()
        } else {
            String::new()
        },
        run_as_group: int(own.run_as_group.or(shared.run_as_group)),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: supplemental_groups(pod),
        no_new_privs: forbids_escalation(&own),
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READONLY_PATHS),
        seccomp: Some(if privileged && profile.is_none() {
            v1::SecurityProfile {
                profile_type: ProfileType::Unconfined.into(),
                localhost_ref: String::new(),
            }
        } else {
            seccomp(profile, root_dir)
        }),
    })
}

fn forbids_escalation(context: &SecurityContext) -> bool {
    context.allow_privilege_escalation == Some(false)
}

fn check_not_root(
    pod: &Pod,
    container: &Container,
    user: Option<i64>,
    image: &v1::Image,
) -> Result<(), SecurityError> {
    let (pod, container) = (PodIdentity::of(pod).to_string(), container.name.clone());
    match (user, image.uid, image.username.as_str()) {
        (Some(0), _, _) => Err(SecurityError::RunsAsRoot { pod, container }),
        (Some(_), _, _) => Ok(()),
        (None, Some(uid), _) if uid.value != 0 => Ok(()),
        (None, None, name) if !name.is_empty() => Err(SecurityError::UnknownUser {
            user: name.to_owned(),
            pod,
            container,
        }),
        (None, _, _) => Err(SecurityError::ImageRunsAsRoot { pod, container }),
    }
}

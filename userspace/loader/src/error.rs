//! Why the dataplane could not be brought up, and what to do about it.

use std::io;
use std::path::PathBuf;

use skep_bpf_maps::MapError;

/// [`crate::Dataplane::open`], inspecting or detaching failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The binary has no programs in it.
    #[error("built without eBPF programs: run cargo xtask build-ebpf, then build again")]
    NoPrograms,
    /// Another agent has this node.
    #[error("another agent runs on this node: it holds {}{}", path.display(), pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    AlreadyRunning {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, if it left its number.
        pid: Option<u32>,
    },
    /// The kernel cannot do what the dataplane needs.
    #[error("this kernel lacks {feature}, needed for {purpose}: {reason}")]
    MissingFeature {
        /// What is missing.
        feature: &'static str,
        /// What does not work without it.
        purpose: &'static str,
        /// What was seen.
        reason: String,
    },
    /// eBPF is not allowed here.
    #[error("not permitted to use eBPF: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    NotPermitted,
    /// The pinned maps were made by a version with another layout.
    #[error(
        "the maps pinned in {} have layout {found:#018x}, this version uses {expected:#018x}; to start over, \
         which breaks connections that go through NodePorts, stop the agent, run `skep down` or remove that \
         folder, and start it again",
        pin_dir.display()
    )]
    LayoutMismatch {
        /// The pin folder.
        pin_dir: PathBuf,
        /// The fingerprint found.
        found: u64,
        /// The fingerprint of this version.
        expected: u64,
    },
    /// There is no such folder, or something else in it.
    #[error(
        "no dataplane is pinned in {}: either no agent has run on this node, or it was told another folder with \
         --pins",
        pin_dir.display()
    )]
    NoDataplane {
        /// The folder.
        pin_dir: PathBuf,
    },
    /// No map has that name.
    #[error("there is no map {name}; the maps are {}", known.join(", "))]
    NoSuchMap {
        /// The name asked for.
        name: String,
        /// Every map.
        known: Vec<&'static str>,
    },
    /// A map whose pin should be there is not.
    #[error(
        "map {map} is not pinned in {}: the folder is damaged; remove it to start over",
        pin_dir.display()
    )]
    MapMissing {
        /// The map.
        map: &'static str,
        /// The pin folder.
        pin_dir: PathBuf,
    },
    /// The device does not exist in this network namespace.
    #[error("there is no device {name} in this network namespace")]
    NoDevice {
        /// Its name.
        name: String,
    },
    /// The folder is not of the file system that it must be on.
    #[error("{} is not on a {filesystem} file system", path.display())]
    WrongFilesystem {
        /// The folder.
        path: PathBuf,
        /// What it should be.
        filesystem: &'static str,
    },
    /// The object could not be read or its maps not be bound.
    #[error("load eBPF object {object}")]
    Object {
        /// The object.
        object: &'static str,
        /// aya's reason.
        #[source]
        source: Box<aya::EbpfError>,
    },
    /// The kernel refused a program.
    #[error("load eBPF program {program}")]
    Program {
        /// The program.
        program: &'static str,
        /// The kernel's reason, with the verifier's log.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// A program could not be attached.
    #[error("attach {program} to {target}")]
    Attach {
        /// The program.
        program: &'static str,
        /// To what.
        target: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// A map failed.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A file, folder, pin or mount failed.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl LoadError {
    /// Wraps an error of the system.
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

//! What can go wrong with a local cluster, each said with what to do.

use std::path::PathBuf;

/// Why a local cluster could not be started, asked or removed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The name cannot stand in interface names, paths and certificates.
    #[error("{name:?} is not a cluster name: use 1 to {max} of a-z, 0-9 and -, starting with a letter")]
    BadName {
        /// What was given.
        name: String,
        /// The longest name.
        max: usize,
    },
    /// More nodes than addresses were planned for.
    #[error("{nodes} nodes are asked for, a local cluster has 1 to {max}")]
    BadNodeCount {
        /// What was given.
        nodes: u16,
        /// The most.
        max: u16,
    },
    /// It is there already.
    #[error(
        "cluster {name} already runs: `skep status --name {name}` shows it, `skep down --name {name}` ends it"
    )]
    AlreadyRuns {
        /// The cluster.
        name: String,
    },
    /// It is not there.
    #[error("no cluster {name} runs here: `skep up --name {name}` starts one")]
    NotRunning {
        /// The cluster.
        name: String,
    },
    /// Every index is taken.
    #[error("{max} clusters run on this machine already: end one with `skep down --name NAME`")]
    TooManyClusters {
        /// The most.
        max: u8,
    },
    /// Namespaces, cgroups and eBPF need it.
    #[error("a local cluster needs root: run it again with sudo")]
    NotRoot,
    /// A program that is not installed.
    #[error("{program} is not installed: install the Debian package {package}, or run `cargo xtask setup`")]
    MissingProgram {
        /// The program.
        program: &'static str,
        /// Where Debian has it.
        package: &'static str,
    },
    /// The machine lacks something.
    #[error("{what}; {remedy}")]
    Machine {
        /// What is missing.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// A program that failed.
    #[error("`{command}` failed: {output}")]
    Command {
        /// The command line.
        command: String,
        /// What it said.
        output: String,
    },
    /// A file or folder.
    #[error("{what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A certificate.
    #[error("the cluster's certificates cannot be made")]
    Pki(#[from] skep_pki::PkiError),
    /// The kubeconfig cannot be used.
    #[error("the cluster's kubeconfig cannot be used")]
    Client(#[from] skep_client::ConfigError),
    /// The API server refused or was away.
    #[error("{what}")]
    Api {
        /// What was asked.
        what: String,
        /// Its answer.
        source: skep_api::ApiError,
    },
    /// Something did not come up in time.
    #[error("{what} after {seconds} s: {seen}; logs are in {logs}")]
    NotReady {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What was seen last.
        seen: String,
        /// Where to look.
        logs: PathBuf,
    },
    /// The embedded demo does not parse: a defect of the build.
    #[error("a built-in manifest is broken: {0}")]
    Manifest(String),
    /// Something is left that could not be removed.
    #[error("not everything of cluster {name} could be removed:\n  {}", left.join("\n  "))]
    Left {
        /// The cluster.
        name: String,
        /// What is left.
        left: Vec<String>,
    },
}

impl ClusterError {
    /// An I/O error with what was tried on which path.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

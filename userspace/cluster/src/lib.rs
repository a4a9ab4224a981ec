//! Whole clusters on one machine, for development, demos and tests.
//!
//! A cluster is one server on the host and N nodes. A node has its own network namespace, mount namespace, cgroup,
//! containerd and agent; a bridge joins them. Nothing of the host is touched but that bridge. Everything is derived
//! from the cluster's name (see [`plan`]), so that several live side by side, and [`Cluster::down`] finds every trace
//! even when the record of the cluster is lost.
//!
//! Called by the `skep` binary and by the end-to-end tests.

mod cgroup;
mod command;
mod containerd;
mod credentials;
mod demo;
mod down;
mod error;
mod images;
mod machine;
mod network;
pub mod plan;
mod processes;
mod record;
mod resolve;
mod supervise;
mod up;

pub use credentials::{NodeCredentials, issue_node_credentials};
pub use demo::demo_port;
pub use error::ClusterError;
pub use machine::{Finding, Severity, examine};
pub use plan::{ClusterName, ClusterPlan, NodePlan};
pub use record::Record;
pub use supervise::{Role, supervise};
pub use up::{Progress, UpOptions, node_is_ready};

/// A local cluster, running or not.
#[derive(Debug, Clone)]
pub struct Cluster {
    name: ClusterName,
}

impl Cluster {
    /// The cluster of that name.
    pub fn new(name: ClusterName) -> Self {
        Self { name }
    }

    /// Starts it and waits until its nodes are ready.
    ///
    /// # Errors
    /// [`ClusterError::AlreadyRuns`], or what could not be done; whatever was made by then is removed again.
    pub async fn up(&self, options: &UpOptions, progress: &mut dyn Progress) -> Result<Record, ClusterError> {
        up::up(&self.name, options, progress).await
    }

    /// Stops it and removes every trace. Does nothing where there is none.
    ///
    /// # Errors
    /// Names what could not be removed.
    pub fn down(&self, progress: &mut dyn Progress) -> Result<(), ClusterError> {
        down::down(&self.name, progress)
    }

    /// What is written down about the running cluster.
    ///
    /// # Errors
    /// [`ClusterError::NotRunning`] when there is none.
    pub fn record(&self) -> Result<Record, ClusterError> {
        Record::read(&self.name)
    }

    /// Imports image archives into every node.
    ///
    /// # Errors
    /// Names the archive and the node.
    pub fn load_images(&self, archives: &[std::path::PathBuf]) -> Result<Vec<String>, ClusterError> {
        images::load(&self.record()?, archives)
    }
}

//! Which nodes' dataplanes a command is about.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use skep_cluster::plan::DEFAULT_NAME;
use skep_cluster::{Cluster, ClusterName, NodePlan, Record};

const BPF_ROOT: &str = "/sys/fs/bpf";

/// Where to look.
#[derive(Args)]
pub(crate) struct Place {
    /// The local cluster's name
    #[arg(long, default_value = DEFAULT_NAME, global = true)]
    name: ClusterName,
    /// One of its nodes [default: all of them]
    #[arg(long, global = true)]
    node: Option<String>,
    /// On a machine that is a node itself: the folder of its pins, /sys/fs/bpf/skep unless the agent was told another
    #[arg(long, conflicts_with_all = ["name", "node"], global = true)]
    pins: Option<PathBuf>,
}

/// A node's dataplane.
pub(crate) struct Pinned {
    /// The node's name; for a folder of pins, its path.
    pub(crate) node: String,
    /// Where its pins are.
    pub(crate) pin_dir: PathBuf,
}

impl Place {
    /// The nodes in question, at least one.
    pub(crate) fn nodes(&self) -> Result<Vec<Pinned>> {
        if let Some(pin_dir) = &self.pins {
            return Ok(vec![Pinned {
                node: pin_dir.display().to_string(),
                pin_dir: pin_dir.clone(),
            }]);
        }
        let record = self.record()?;
        let Some(wanted) = &self.node else {
            return Ok(record.plan.nodes.iter().map(Pinned::of).collect());
        };
        match record.plan.nodes.iter().find(|node| node.name == *wanted) {
            Some(node) => Ok(vec![Pinned::of(node)]),
            None => {
                let names: Vec<_> = record.plan.nodes.iter().map(|node| node.name.as_str()).collect();
                bail!(
                    "cluster {} has no node {wanted}: its nodes are {}",
                    self.name,
                    names.join(", ")
                )
            }
        }
    }

    /// The kubeconfig by which the cluster's API can be asked: of a local cluster the administrator's, else what
    /// KUBECONFIG names.
    pub(crate) fn kubeconfig(&self) -> Option<PathBuf> {
        match self.pins {
            Some(_) => std::env::var_os("KUBECONFIG").map(PathBuf::from),
            None => self.record().ok().map(|record| record.plan.kubeconfig()),
        }
    }

    fn record(&self) -> Result<Record> {
        let record = Cluster::new(self.name.clone()).record();
        record.map_err(|error| {
            let agent = Path::new(BPF_ROOT).join("skep");
            anyhow::Error::new(error).context(format!(
                "no dataplane to look at; on a machine that is a node itself, say --pins {}",
                agent.display()
            ))
        })
    }
}

impl Pinned {
    /// Of a local cluster's node.
    pub(crate) fn of(node: &NodePlan) -> Self {
        Self {
            node: node.name.clone(),
            pin_dir: Path::new(BPF_ROOT).join(&node.pins),
        }
    }
}

//! What is written down about a cluster, so that later commands find it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plan::{ClusterName, ClusterPlan, MAX_CLUSTERS, NodePlan, state_root};
use crate::{ClusterError, processes, resolve};

const FILE: &str = "cluster.json";

/// A cluster that was started here.
#[derive(Debug, Clone)]
pub struct Record {
    /// Everything that follows from it.
    pub plan: ClusterPlan,
}

/// The stored form: what the plan is derived from.
#[derive(Serialize, Deserialize)]
struct Stored {
    index: u8,
    nodes: u16,
}

impl Record {
    /// Reads the record of a cluster.
    pub(crate) fn read(name: &ClusterName) -> Result<Self, ClusterError> {
        let path = path(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ClusterError::NotRunning {
                    name: name.to_string(),
                });
            }
            Err(error) => return Err(ClusterError::io("read", path)(error)),
        };
        let stored: Stored = serde_json::from_str(&text).map_err(|error| ClusterError::Machine {
            what: format!("{} is damaged: {error}", path.display()),
            remedy: format!("remove the remains with `skep down --name {name}`"),
        })?;
        Ok(Self {
            plan: ClusterPlan::new(name.clone(), stored.index, stored.nodes)?,
        })
    }

    /// Writes the record of a new cluster under an index that no other has.
    ///
    /// The caller holds the lock of all clusters.
    pub(crate) fn create(name: &ClusterName, nodes: u16) -> Result<Self, ClusterError> {
        let taken = taken_indexes();
        let first = name.preferred_index();
        let index = (0..MAX_CLUSTERS)
            .map(|step| (first + step) % MAX_CLUSTERS)
            .find(|index| !taken.contains(index))
            .ok_or(ClusterError::TooManyClusters { max: MAX_CLUSTERS })?;
        let plan = ClusterPlan::new(name.clone(), index, nodes)?;
        let path = path(name);
        skep_pki::create_private_folder(&plan.state_dir)?;
        let text = serde_json::to_string(&Stored { index, nodes }).expect("two numbers are JSON");
        fs::write(&path, text).map_err(ClusterError::io("write", path))?;
        Ok(Self { plan })
    }

    /// The address of the `kubernetes` Service, as a node's DNS server answers it.
    ///
    /// # Errors
    /// When there is no answer, or a wrong one.
    pub fn ask_dns(&self, node: &NodePlan) -> Result<Ipv4Addr, ClusterError> {
        resolve::kubernetes_service(node)
    }

    /// The living process of that name (`server`, `agent-node1`, `containerd-node1`).
    pub fn process(&self, name: &str) -> Option<u32> {
        processes::living(&self.plan.run_dir, name)
    }

    /// Whether any of its processes lives.
    pub fn is_alive(&self) -> bool {
        processes::any_alive(&self.plan.run_dir)
    }
}

fn path(name: &ClusterName) -> PathBuf {
    state_root().join(name.as_str()).join(FILE)
}

fn taken_indexes() -> Vec<u8> {
    let Ok(entries) = fs::read_dir(state_root()) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path().join(FILE)).ok()?;
            serde_json::from_str::<Stored>(&text)
                .ok()
                .map(|stored| stored.index)
        })
        .collect()
}

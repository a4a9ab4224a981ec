//! Image archives into nodes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::run;
use crate::plan::NodePlan;
use crate::record::Record;
use crate::{ClusterError, containerd};

/// The image that holds a pod's namespaces.
pub(crate) const PAUSE: &str = "skep.local/pause:latest";
/// What a local cluster needs: each is an archive of this name in the images folder.
const BUILT_IN: [&str; 3] = ["pause", "demo", "busybox"];

/// Imports archives into every node. Returns the references, as the last node names them.
pub(crate) fn load(record: &Record, archives: &[PathBuf]) -> Result<Vec<String>, ClusterError> {
    let mut references = Vec::new();
    for archive in archives {
        if !archive.is_file() {
            return Err(missing(
                archive,
                "give the path of an OCI or Docker image archive",
            ));
        }
        let mut names = Vec::new();
        for node in &record.plan.nodes {
            names = import(node, archive)?;
        }
        references.extend(names);
    }
    Ok(references)
}

/// Imports the built-in images of a folder into one node.
pub(crate) fn load_built_in(node: &NodePlan, folder: &Path) -> Result<(), ClusterError> {
    for archive in built_in(folder)? {
        import(node, &archive)?;
    }
    Ok(())
}

/// The built-in images' archives.
pub(crate) fn built_in(folder: &Path) -> Result<Vec<PathBuf>, ClusterError> {
    let archives: Vec<PathBuf> = BUILT_IN
        .iter()
        .map(|name| folder.join(format!("{name}.tar")))
        .collect();
    match archives.iter().find(|archive| !archive.is_file()) {
        Some(absent) => Err(missing(absent, "build the images with `cargo xtask images`")),
        None => Ok(archives),
    }
}

fn import(node: &NodePlan, archive: &Path) -> Result<Vec<String>, ClusterError> {
    let mut ctr: Command = containerd::ctr(node)?;
    let printed = run(ctr.args(["images", "import"]).arg(archive))?;
    // One line an image: `unpacking NAME (sha256:…)...done`.
    let names = printed
        .lines()
        .filter_map(|line| line.strip_prefix("unpacking ")?.split(' ').next());
    Ok(names.map(str::to_owned).collect())
}

fn missing(archive: &Path, remedy: &str) -> ClusterError {
    ClusterError::Machine {
        what: format!("image archive {} is not there", archive.display()),
        remedy: remedy.to_owned(),
    }
}

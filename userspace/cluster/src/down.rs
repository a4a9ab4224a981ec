//! `skep down`: everything away, also when the record of the cluster is lost or a part is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};

use crate::plan::{ClusterName, run_root, state_root};
use crate::{ClusterError, Progress, cgroup, network, processes};

/// How long a supervisor may take to end its programs.
const PATIENCE: Duration = Duration::from_secs(12);
const BPF_ROOT: &str = "/sys/fs/bpf";

/// Stops the cluster and removes every trace of it; the last one takes the common folders along.
pub(crate) fn down(name: &ClusterName, progress: &mut dyn Progress) -> Result<(), ClusterError> {
    clear(name, progress)?;
    for parent in [Path::new(BPF_ROOT).join("skep"), state_root(), run_root()] {
        // Stays while another cluster is in it.
        drop(fs::remove_dir(parent));
    }
    network::forget_spaces();
    Ok(())
}

/// Stops the cluster and removes what is its own.
pub(crate) fn clear(name: &ClusterName, progress: &mut dyn Progress) -> Result<(), ClusterError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(ClusterError::NotRoot);
    }
    let (state, run) = (state_root().join(name.as_str()), run_root().join(name.as_str()));
    progress.step("stopping processes");
    for supervisor in supervisors(&run) {
        processes::stop(&run, &supervisor, PATIENCE);
    }
    let cgroup = format!("skep-{name}");
    cgroup::kill(&cgroup)?;
    let mut left: Vec<String> = Vec::new();
    progress.step("removing network, pins, mounts and cgroups");
    left.extend(network::remove(name));
    unmount_below(&[&state, &run])?;
    left.extend(
        cgroup::remove(&cgroup)?
            .iter()
            .map(|path| path.display().to_string()),
    );
    for folder in [Path::new(BPF_ROOT).join("skep").join(name.as_str()), state, run] {
        left.extend(remove_folder(&folder));
    }
    progress.done();
    if left.is_empty() {
        Ok(())
    } else {
        Err(ClusterError::Left {
            name: name.to_string(),
            left,
        })
    }
}

/// The supervisors' process names, nodes' first: the server goes last.
fn supervisors(run: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(run) else {
        return Vec::new();
    };
    let files = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = files
        .filter_map(|file| file.strip_suffix(".pid").map(str::to_owned))
        .filter(|name| name.starts_with("supervise-"))
        .collect();
    names.sort();
    names
}

/// Unmounts what is mounted below these folders, the deepest first.
fn unmount_below(folders: &[&PathBuf]) -> Result<(), ClusterError> {
    let table =
        fs::read_to_string("/proc/self/mounts").map_err(ClusterError::io("read", "/proc/self/mounts"))?;
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(PathBuf::from);
    let mut ours: Vec<PathBuf> = points
        .filter(|point| folders.iter().any(|folder| point.starts_with(folder)))
        .collect();
    ours.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in ours {
        umount2(&point, MntFlags::MNT_DETACH).map_err(|error| ClusterError::Io {
            what: "unmount",
            path: point.clone(),
            source: error.into(),
        })?;
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Option<String> {
    match fs::remove_dir_all(folder) {
        Ok(()) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("{}: {error}", folder.display())),
    }
}

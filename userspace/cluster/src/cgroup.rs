//! The cgroups of a cluster: made in every hierarchy, emptied and removed.
//!
//! Works on a pure cgroup2 host and on a hybrid one (version 1 controllers beside a cgroup2 tree without any).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::ClusterError;

const MOUNTS: &str = "/proc/self/mounts";
const EMPTY_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// The mount point of the cgroup2 tree.
pub(crate) fn unified() -> Result<PathBuf, ClusterError> {
    mounts("cgroup2")?
        .into_iter()
        .next()
        .ok_or_else(|| ClusterError::Machine {
            what: "no cgroup2 tree is mounted".to_owned(),
            remedy:
                "mount one with `mount -t cgroup2 cgroup2 /sys/fs/cgroup`, or start with a kernel that has it"
                    .to_owned(),
        })
}

/// The mount points of all hierarchies, cgroup2's first.
fn hierarchies() -> Result<Vec<PathBuf>, ClusterError> {
    let mut points = mounts("cgroup2")?;
    points.extend(mounts("cgroup")?);
    Ok(points)
}

fn mounts(kind: &str) -> Result<Vec<PathBuf>, ClusterError> {
    let table = fs::read_to_string(MOUNTS).map_err(ClusterError::io("read", MOUNTS))?;
    Ok(table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, found) = (fields.next()?, fields.next()?);
            (found == kind).then(|| PathBuf::from(point))
        })
        .collect())
}

/// Makes the cgroup in every hierarchy, handing every controller down on cgroup2.
pub(crate) fn create(name: &str) -> Result<(), ClusterError> {
    for hierarchy in hierarchies()? {
        let folder = hierarchy.join(name);
        fs::create_dir_all(&folder).map_err(ClusterError::io("create the cgroup", &folder))?;
        inherit_cpuset(&hierarchy, name)?;
    }
    let unified = unified()?;
    let mut folder = unified.clone();
    for part in Path::new(name).components() {
        delegate(&folder)?;
        folder.push(part);
    }
    Ok(())
}

/// A version 1 cpuset takes no process before it has processors and memory nodes.
fn inherit_cpuset(hierarchy: &Path, name: &str) -> Result<(), ClusterError> {
    let mut parent = hierarchy.to_owned();
    for part in Path::new(name).components() {
        let child = parent.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (from, to) = (parent.join(file), child.join(file));
            if let (Ok(value), true) = (fs::read_to_string(&from), to.exists()) {
                fs::write(&to, value.trim()).map_err(ClusterError::io("write", to))?;
            }
        }
        parent = child;
    }
    Ok(())
}

/// Enables in a cgroup2 folder's children every controller it has itself; those that cannot be are left out.
fn delegate(folder: &Path) -> Result<(), ClusterError> {
    let available = folder.join("cgroup.controllers");
    let controllers = fs::read_to_string(&available).map_err(ClusterError::io("read", available))?;
    let enabled = folder.join("cgroup.subtree_control");
    for controller in controllers.split_whitespace() {
        if let Err(error) = fs::write(&enabled, format!("+{controller}")) {
            tracing::debug!(controller, folder = %folder.display(), %error, "controller is not handed down");
        }
    }
    Ok(())
}

/// Moves this process into the cgroup, in every hierarchy.
pub(crate) fn enter(name: &str) -> Result<(), ClusterError> {
    for hierarchy in hierarchies()? {
        let file = hierarchy.join(name).join("cgroup.procs");
        fs::write(&file, "0").map_err(ClusterError::io("enter the cgroup of", file))?;
    }
    Ok(())
}

/// Ends every process below the cgroup and waits until it is empty.
pub(crate) fn kill(name: &str) -> Result<(), ClusterError> {
    let folder = unified()?.join(name);
    let switch = folder.join("cgroup.kill");
    if !switch.exists() {
        return Ok(());
    }
    fs::write(&switch, "1").map_err(ClusterError::io("write", &switch))?;
    let deadline = Instant::now() + EMPTY_TIMEOUT;
    let events = folder.join("cgroup.events");
    while fs::read_to_string(&events).is_ok_and(|text| text.contains("populated 1")) {
        if Instant::now() > deadline {
            return Err(ClusterError::Machine {
                what: format!("processes in {} did not end", folder.display()),
                remedy: "see what holds them with `ps -o pid,stat,wchan,cmd` and run `skep down` again"
                    .to_owned(),
            });
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Removes the cgroup with everything below it, from every hierarchy. Returns what could not be removed.
pub(crate) fn remove(name: &str) -> Result<Vec<PathBuf>, ClusterError> {
    let mut left = Vec::new();
    for hierarchy in hierarchies()? {
        remove_tree(&hierarchy.join(name), &mut left);
    }
    Ok(left)
}

fn remove_tree(folder: &Path, left: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path(), left);
        }
    }
    // A process that has just ended may hold its version 1 cgroup for a moment.
    let deadline = Instant::now() + EMPTY_TIMEOUT;
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(POLL);
            }
            Err(_) => {
                left.push(folder.to_owned());
                return;
            }
        }
    }
}

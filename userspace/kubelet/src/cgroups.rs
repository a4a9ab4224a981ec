//! The pods' cgroups, in every hierarchy that the machine has mounted: v1 controllers and the unified one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::resources::PodLimits;
use crate::spec::Qos;

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq)]
struct Hierarchy {
    mount: PathBuf,
    /// The v1 controllers; none for the unified hierarchy.
    controllers: Option<Vec<String>>,
}

/// The pods' cgroups below one parent.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    parent: String,
}

/// A cgroup that cannot be made or removed.
#[derive(Debug, thiserror::Error)]
#[error("cgroup {path}")]
pub(crate) struct CgroupError {
    path: PathBuf,
    source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CgroupError + '_ {
    move |source| CgroupError {
        path: path.to_owned(),
        source,
    }
}

impl Cgroups {
    /// Finds what is mounted according to the file.
    ///
    /// # Errors
    /// When the mounts cannot be read.
    pub(crate) fn find(mounts: &Path, parent: &str) -> io::Result<Self> {
        let mounts = fs::read_to_string(mounts)?;
        Ok(Self {
            hierarchies: parse(&mounts),
            parent: format!("/{}", parent.trim_matches('/')),
        })
    }

    /// The cgroup of a pod, as the runtime is told.
    pub(crate) fn pod_path(&self, uid: &str, qos: Qos) -> String {
        let class = match qos {
            Qos::Guaranteed => "",
            Qos::Burstable => "/burstable",
            Qos::BestEffort => "/besteffort",
        };
        format!("{}{class}/pod{uid}", self.parent)
    }

    /// Makes a pod's cgroup with its limits.
    pub(crate) fn create(&self, path: &str, limits: &PodLimits) -> Result<(), CgroupError> {
        for hierarchy in &self.hierarchies {
            make(hierarchy, path)?;
            let group = hierarchy.mount.join(path.trim_start_matches('/'));
            for (name, value) in settings(hierarchy, limits) {
                let file = group.join(name);
                if file.exists() {
                    fs::write(&file, value).map_err(at(&file))?;
                }
            }
        }
        Ok(())
    }

    /// Removes a pod's cgroup, with what its containers left behind.
    pub(crate) fn remove(&self, path: &str) -> Result<(), CgroupError> {
        for hierarchy in &self.hierarchies {
            remove_tree(&hierarchy.mount.join(path.trim_start_matches('/')))?;
        }
        Ok(())
    }

    /// The pods that have a cgroup, as uid and path.
    pub(crate) fn known(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for hierarchy in &self.hierarchies {
            for class in ["", "/burstable", "/besteffort"] {
                let path = format!("{}{class}", self.parent);
                let folder = hierarchy.mount.join(path.trim_start_matches('/'));
                for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    if let Some(uid) = name.strip_prefix("pod") {
                        found.push((uid.to_owned(), format!("{path}/{name}")));
                    }
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

fn parse(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, mount, kind, options, ..] = fields[..] else {
            continue;
        };
        let controllers = match kind {
            "cgroup2" => None,
            "cgroup" => Some(options.split(',').map(str::to_owned).collect()),
            _ => continue,
        };
        // A hierarchy may be mounted at several places.
        if !found.iter().any(|known| known.controllers == controllers) {
            found.push(Hierarchy {
                mount: PathBuf::from(mount),
                controllers,
            });
        }
    }
    found
}

/// Makes a group with all above it, so that it can hold processes.
fn make(hierarchy: &Hierarchy, path: &str) -> Result<(), CgroupError> {
    let mut parent = hierarchy.mount.clone();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if hierarchy.controllers.is_none() {
            delegate(&parent);
        }
        let group = parent.join(part);
        match fs::create_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(&group)(error)),
            _ => {}
        }
        inherit_cpuset(&parent, &group).map_err(at(&group))?;
        parent = group;
    }
    Ok(())
}

/// In the unified hierarchy a group's children have the controllers that the group hands down. What cannot be handed
/// down (because processes live in the group itself, or another hierarchy has the controller) stays without effect.
fn delegate(group: &Path) {
    let controllers = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        if let Err(error) = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}")) {
            tracing::debug!(group = %group.display(), controller, %error, "controller not handed down");
        }
    }
}

/// A v1 cpuset must name processors and memory before it can hold processes.
fn inherit_cpuset(parent: &Path, group: &Path) -> io::Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = group.join(name);
        // Only v1 has both files with content in every parent.
        let Ok(own) = fs::read_to_string(&file) else {
            continue;
        };
        if own.trim().is_empty() && parent.join("cgroup.clone_children").exists() {
            fs::write(&file, fs::read_to_string(parent.join(name))?)?;
        }
    }
    Ok(())
}

/// What to write where. Values that a hierarchy has no file for are left out by the caller.
fn settings(hierarchy: &Hierarchy, limits: &PodLimits) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    if hierarchy.controllers.is_some() {
        settings.push(("cpu.shares", limits.cpu_shares.to_string()));
        settings.push(("cpu.cfs_period_us", limits.cpu_period_us.to_string()));
        settings.push(("cpu.cfs_quota_us", limits.cpu_quota_us.unwrap_or(-1).to_string()));
        if let Some(bytes) = limits.memory_bytes {
            settings.push(("memory.limit_in_bytes", bytes.to_string()));
        }
    } else {
        // The kernel's ranges: shares 2..262144 as weight 1..10000 (KEP-2254).
        let weight = 1 + (limits.cpu_shares - 2) * 9999 / 262_142;
        settings.push(("cpu.weight", weight.to_string()));
        let quota = limits
            .cpu_quota_us
            .map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        settings.push(("cpu.max", format!("{quota} {}", limits.cpu_period_us)));
        if let Some(bytes) = limits.memory_bytes {
            settings.push(("memory.max", bytes.to_string()));
        }
    }
    settings
}

fn remove_tree(group: &Path) -> Result<(), CgroupError> {
    let entries = match fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(group)(error)),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(group)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_where_they_are_mounted() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n\
                      cgroup /other/cpu cgroup rw,relatime,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = parse(mounts);
        let places: Vec<_> = found
            .iter()
            .map(|hierarchy| hierarchy.mount.to_str().unwrap())
            .collect();
        assert_eq!(places, ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"]);
        assert!(found[1].controllers.is_none());
    }

    #[test]
    fn weights_span_the_kernels_range() {
        let unified = Hierarchy {
            mount: PathBuf::new(),
            controllers: None,
        };
        let weight = |cpu_shares| {
            let limits = PodLimits {
                cpu_shares,
                cpu_quota_us: None,
                cpu_period_us: 100_000,
                memory_bytes: None,
            };
            settings(&unified, &limits)[0].1.clone()
        };
        assert_eq!(
            (weight(2), weight(1024), weight(262_144)),
            ("1".into(), "39".into(), "10000".into())
        );
    }
}

//! What a run may leave behind on a machine, counted before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::command::say;

/// What of Skep's kinds of things exists on this machine.
pub(crate) struct Snapshot(BTreeSet<String>);

/// How deep below a cgroup or pin root something of ours is looked for.
const MAX_DEPTH: usize = 4;
/// A process belongs to a run when its command line names one of these.
const PROCESS_MARKS: &[&str] = &["skep", "containerd-shim", "containerd"];

impl Snapshot {
    /// Looks at namespaces, links, pins, mounts, cgroups, processes and state folders.
    pub(crate) fn take() -> Self {
        let mut found = BTreeSet::new();
        found.extend(named("network namespace", "/run/netns", |_| true));
        found.extend(named("network device", "/sys/class/net", |_| true));
        found.extend(named("state", "/var/lib/skep", |_| true));
        found.extend(named("run folder", "/run/skep", |name| !name.ends_with(".lock")));
        walk(Path::new("/sys/fs/bpf"), "pin", 0, &mut found);
        walk(Path::new("/sys/fs/cgroup"), "cgroup", 0, &mut found);
        found.extend(mounts());
        found.extend(processes());
        Self(found)
    }

    /// Fails with everything that is here now and was not then.
    pub(crate) fn compare(&self) -> Result<()> {
        let now = Self::take();
        let left: Vec<&String> = now.0.difference(&self.0).collect();
        if !left.is_empty() {
            let list: Vec<String> = left.iter().map(|thing| format!("  {thing}")).collect();
            bail!("the run left something behind:\n{}", list.join("\n"));
        }
        say("no residue: namespaces, devices, pins, mounts, cgroups, processes and folders are as before");
        Ok(())
    }
}

fn named(kind: &str, folder: &str, keep: impl Fn(&str) -> bool) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| keep(name))
        .map(|name| format!("{kind} {folder}/{name}"))
        .collect()
}

fn walk(folder: &Path, kind: &str, depth: usize, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if (is_folder || kind == "pin") && path.to_string_lossy().contains("skep") {
            found.insert(format!("{kind} {}", path.display()));
        }
        if is_folder && depth < MAX_DEPTH {
            walk(&path, kind, depth + 1, found);
        }
    }
}

fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(1));
    points
        .filter(|point| point.contains("skep") || point.contains("netns"))
        .map(|point| format!("mount {point}"))
        .collect()
}

fn processes() -> Vec<String> {
    let own = std::process::id().to_string();
    named("process", "/proc", |name| {
        name.bytes().all(|byte| byte.is_ascii_digit()) && name != own
    })
    .into_iter()
    .filter_map(|entry| {
        let id = entry.rsplit('/').next()?.to_owned();
        let bytes = fs::read(format!("/proc/{id}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        let program = line.split(' ').next()?.rsplit('/').next()?.to_owned();
        PROCESS_MARKS
            .iter()
            .any(|mark| program.starts_with(mark))
            .then(|| format!("process {id} {}", line.trim()))
    })
    .collect()
}

//! What this machine has and lacks, each with what to do about it.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::command::{find, run};
use crate::{ClusterError, cgroup};

/// The oldest kernel with everything that Skep loads (tcx links).
const OLDEST_KERNEL: (u32, u32) = (6, 6);
const BPF_ROOT: &str = "/sys/fs/bpf";

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It is as it should be.
    Good,
    /// Something is left out.
    Degraded,
    /// A cluster cannot run.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What.
    pub what: String,
    /// How it is.
    pub severity: Severity,
    /// What was seen.
    pub seen: String,
    /// What to do, where something is to be done.
    pub remedy: Option<String>,
}

/// Looks at everything that a local cluster needs, besides the kernel's BPF features.
pub fn examine() -> Vec<Finding> {
    let mut findings = vec![user(), kernel(), unified_cgroups(), bpf_file_system(), types()];
    for (program, package, needed) in [
        ("ip", "iproute2", true),
        ("containerd", "containerd", true),
        ("ctr", "containerd", true),
        ("runc", "runc", true),
        ("kubectl", "kubernetes-client", false),
    ] {
        findings.push(installed(program, package, needed));
    }
    findings
}

/// Fails with the first thing without which a cluster cannot run.
pub(crate) fn require_all() -> Result<(), ClusterError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(ClusterError::NotRoot);
    }
    match examine()
        .into_iter()
        .find(|finding| finding.severity == Severity::Missing)
    {
        None => Ok(()),
        Some(finding) => Err(ClusterError::Machine {
            what: format!("{}: {}", finding.what, finding.seen),
            remedy: finding.remedy.unwrap_or_default(),
        }),
    }
}

/// Mounts the BPF file system where the machine has not: pins must outlive every namespace of ours.
pub(crate) fn mount_bpf_file_system() -> Result<(), ClusterError> {
    if bpf_is_mounted() {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), BPF_ROOT, Some("bpf"), flags, Some("mode=700")).map_err(|error| ClusterError::Io {
        what: "mount the BPF file system at",
        path: BPF_ROOT.into(),
        source: error.into(),
    })
}

fn bpf_is_mounted() -> bool {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table.lines().any(|line| line.split(' ').nth(2) == Some("bpf"))
}

fn finding(what: &str, severity: Severity, seen: impl Into<String>, remedy: Option<&str>) -> Finding {
    Finding {
        what: what.to_owned(),
        severity,
        seen: seen.into(),
        remedy: remedy.map(str::to_owned),
    }
}

fn user() -> Finding {
    if nix::unistd::geteuid().is_root() {
        return finding("user", Severity::Good, "root", None);
    }
    finding(
        "user",
        Severity::Missing,
        "not root",
        Some("run as root, for example with sudo"),
    )
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= OLDEST_KERNEL {
        return finding("kernel", Severity::Good, release, None);
    }
    let (major, minor) = OLDEST_KERNEL;
    let remedy = format!("boot a kernel of {major}.{minor} or newer: tcx links came with it");
    finding("kernel", Severity::Missing, release, Some(&remedy))
}

fn unified_cgroups() -> Finding {
    match cgroup::unified() {
        Ok(path) => finding("cgroup2", Severity::Good, path.display().to_string(), None),
        Err(error) => finding(
            "cgroup2",
            Severity::Missing,
            error.to_string(),
            Some("mount a cgroup2 tree"),
        ),
    }
}

fn bpf_file_system() -> Finding {
    if bpf_is_mounted() {
        return finding("bpf file system", Severity::Good, "mounted", None);
    }
    if Path::new(BPF_ROOT).is_dir() {
        return finding(
            "bpf file system",
            Severity::Good,
            "not mounted yet; `skep up` mounts it at /sys/fs/bpf",
            None,
        );
    }
    finding(
        "bpf file system",
        Severity::Missing,
        "absent",
        Some("boot a kernel with CONFIG_BPF_SYSCALL"),
    )
}

fn types() -> Finding {
    let path = "/sys/kernel/btf/vmlinux";
    if Path::new(path).exists() {
        return finding("kernel types (BTF)", Severity::Good, path, None);
    }
    finding(
        "kernel types (BTF)",
        Severity::Missing,
        "absent",
        Some("boot a kernel with CONFIG_DEBUG_INFO_BTF"),
    )
}

fn installed(program: &str, package: &str, needed: bool) -> Finding {
    let Some(path) = find(program) else {
        let severity = if needed {
            Severity::Missing
        } else {
            Severity::Degraded
        };
        let remedy = format!("install the Debian package {package}, or run `cargo xtask setup`");
        return finding(program, severity, "not installed", Some(&remedy));
    };
    let version = if program == "containerd" || program == "runc" {
        run(std::process::Command::new(&path).arg("--version")).ok()
    } else {
        None
    };
    let first = version
        .as_deref()
        .and_then(|text| text.lines().next())
        .map(str::trim);
    let seen = first.map_or_else(
        || path.display().to_string(),
        |first| format!("{} ({first})", path.display()),
    );
    finding(program, Severity::Good, seen, None)
}

//! What a run takes of the machine, given back when it is dropped.
//!
//! Network namespaces have no name: they live as long as this process holds them. Cgroups, pins and lock files
//! carry the process id in their names; see [`super::leftovers`] for those of a process that was killed.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare};
use nix::unistd::Pid;

use crate::BenchError;
use crate::engine::command;

/// What the names of all cgroups, pin folders and lock files begin with; the process id follows.
pub(crate) const PREFIX: &str = "skep-bench-";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A name that nothing else on this machine has.
fn unique_name() -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{number}", std::process::id())
}

/// Set in every namespace. The machine's default congestion control may be one that paces (bbr), which would
/// measure its clock and not the path; the kernel lets namespaces choose reno whatever else it has.
const SETTINGS: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/tcp_congestion_control", "reno"),
    ("net/ipv6/conf/default/accept_dad", "0"),
];

/// A network namespace.
#[derive(Clone, Debug)]
pub(crate) struct Netns {
    handle: Arc<File>,
}

impl Netns {
    /// A namespace whose loopback device is up.
    ///
    /// # Errors
    /// [`BenchError::Io`], [`BenchError::Command`].
    pub(crate) fn new() -> Result<Self, BenchError> {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from)?;
            File::open("/proc/thread-self/ns/net")
        };
        let made = std::thread::scope(|scope| scope.spawn(make).join());
        let handle = made
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .map_err(BenchError::io("make a network namespace"))?;
        let netns = Self {
            handle: Arc::new(handle),
        };
        netns.ip("link set lo up")?;
        for (name, value) in SETTINGS {
            let path = Path::new("/proc/sys").join(name);
            let failed = BenchError::io(format!("write {}", path.display()));
            netns.run(|| fs::write(&path, value).map_err(failed))?;
        }
        Ok(netns)
    }

    /// Runs `work` on a thread of its own inside the namespace.
    ///
    /// # Errors
    /// [`BenchError::Io`] when the namespace cannot be entered; those of `work`.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, BenchError> + Send,
    ) -> Result<T, BenchError> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace for good.
    ///
    /// # Errors
    /// [`BenchError::Io`].
    pub(crate) fn enter(&self) -> Result<(), BenchError> {
        setns(&self.handle, CloneFlags::CLONE_NEWNET).map_err(BenchError::io("enter a network namespace"))
    }

    /// Runs `ip` with these arguments inside the namespace.
    ///
    /// # Errors
    /// [`BenchError::Command`].
    pub(crate) fn ip(&self, arguments: &str) -> Result<(), BenchError> {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        self.run(|| command::run("ip", &arguments, ""))
    }

    /// Joins this namespace and another by a pair of devices, both up.
    ///
    /// # Errors
    /// [`BenchError::Command`].
    pub(crate) fn connect(&self, device: &str, other: &Self, other_device: &str) -> Result<(), BenchError> {
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.handle.as_raw_fd());
        self.ip(&format!(
            "link add {device} type veth peer name {other_device} netns {path}"
        ))?;
        self.ip(&format!("link set {device} up"))?;
        other.ip(&format!("link set {other_device} up"))
    }
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// [`BenchError::Io`].
pub(crate) fn pin_to_core(core: usize) -> Result<(), BenchError> {
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(BenchError::io(format!("keep a thread on core {core}")))
}

/// A cgroup.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A cgroup without processes.
    ///
    /// # Errors
    /// [`BenchError::Io`].
    pub(crate) fn new() -> Result<Self, BenchError> {
        let path = skep_loader::cgroup2()?.join(unique_name());
        fs::create_dir(&path).map_err(BenchError::io(format!("make cgroup {}", path.display())))?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves this process in until the guard is dropped: sockets made meanwhile are the node's.
    ///
    /// # Errors
    /// [`BenchError::Io`].
    pub(crate) fn enter(&self) -> Result<Inside, BenchError> {
        let table = "/proc/self/cgroup";
        let memberships = fs::read_to_string(table).map_err(BenchError::io(format!("read {table}")))?;
        let home = memberships.lines().find_map(|line| line.strip_prefix("0::/"));
        let home = skep_loader::cgroup2()?.join(home.unwrap_or_default());
        move_to(&self.path).map_err(BenchError::io(format!("enter cgroup {}", self.path.display())))?;
        Ok(Inside { home })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("cgroup {} stays behind: {error}", self.path.display());
        }
    }
}

/// While it lives, this process is in a cgroup of the run.
#[derive(Debug)]
pub(crate) struct Inside {
    home: PathBuf,
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(error) = move_to(&self.home) {
            eprintln!("cannot go back to cgroup {}: {error}", self.home.display());
        }
    }
}

fn move_to(cgroup: &Path) -> std::io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0")
}

/// A pin folder and a lock file.
#[derive(Debug)]
pub(crate) struct Pins {
    pub(crate) pin_dir: PathBuf,
    pub(crate) lock_path: PathBuf,
}

impl Pins {
    /// Names them; the dataplane makes them.
    ///
    /// # Errors
    /// [`BenchError::Dataplane`] when there is no bpffs.
    pub(crate) fn new() -> Result<Self, BenchError> {
        let name = unique_name();
        Ok(Self {
            pin_dir: skep_loader::bpffs()?.join(&name),
            lock_path: std::env::temp_dir().join(name),
        })
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = skep_loader::detach(&self.pin_dir) {
            eprintln!("pins {} stay behind: {error}", self.pin_dir.display());
        }
        if self.lock_path.exists()
            && let Err(error) = fs::remove_file(&self.lock_path)
        {
            eprintln!("{} stays behind: {error}", self.lock_path.display());
        }
    }
}

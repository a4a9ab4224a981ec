//! What a test takes of the machine, given back when it is dropped.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sched::{CloneFlags, setns, unshare};

static NEXT: AtomicU32 = AtomicU32::new(0);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A name that no other test of this machine has.
fn unique_name() -> String {
    format!(
        "skep-test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A network namespace.
#[derive(Clone)]
pub(crate) struct Netns {
    handle: Arc<File>,
}

impl Netns {
    pub(crate) fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("making a network namespace needs root");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let handle = std::thread::spawn(make).join().unwrap();
        let netns = Self {
            handle: Arc::new(handle),
        };
        netns.ip("link set lo up");
        for setting in [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.default.rp_filter=0",
            "net.ipv4.conf.all.send_redirects=0",
            "net.ipv4.conf.default.send_redirects=0",
            "net.ipv6.conf.default.accept_dad=0",
            "net.ipv6.conf.all.accept_dad=0",
        ] {
            netns.sysctl(setting);
        }
        netns
    }

    pub(crate) fn handle(&self) -> &File {
        &self.handle
    }

    /// Runs `work` on a thread of its own inside the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.handle, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The namespace as `ip` names it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.handle.as_raw_fd())
    }

    /// Runs `ip` with these arguments inside the namespace.
    pub(crate) fn ip(&self, arguments: &str) {
        self.run(|| {
            let output = Command::new("ip").args(arguments.split_whitespace()).output();
            let output = output.expect("the tests need iproute2");
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "ip {arguments}: {error}");
        });
    }

    pub(crate) fn sysctl(&self, setting: &str) {
        let (name, value) = setting.split_once('=').unwrap();
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        self.run(|| fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    }

    /// Joins this namespace and another by a pair of devices, both up.
    pub(crate) fn connect(&self, device: &str, other: &Self, other_device: &str) {
        self.ip(&format!(
            "link add {device} type veth peer name {other_device} netns {}",
            other.path()
        ));
        self.ip(&format!("link set {device} up"));
        other.ip(&format!("link set {other_device} up"));
    }

    /// Switches a device's transmit checksum offload off: what is sent through it then carries whole sums.
    pub(crate) fn without_offload(&self, device: &str) {
        #[repr(C)]
        struct EthtoolValue {
            command: u32,
            data: u32,
        }
        const ETHTOOL_STXCSUM: u32 = 0x17;
        const SIOCETHTOOL: libc::Ioctl = 0x8946;
        self.run(|| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut value = EthtoolValue {
                command: ETHTOOL_STXCSUM,
                data: 0,
            };
            // SAFETY: an ifreq may be all zeroes.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
                *to = from.cast_signed();
            }
            request.ifr_ifru.ifru_data = (&raw mut value).cast();
            // SAFETY: the request and the value it points to outlive the call.
            let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
            assert_eq!(result, 0, "{device}: {}", std::io::Error::last_os_error());
        });
    }
}

/// A cgroup of a test.
pub(crate) struct Cgroup {
    path: PathBuf,
    /// Where this process goes back to, if it is in.
    home: Option<PathBuf>,
    _turn: MutexGuard<'static, ()>,
}

impl Cgroup {
    /// Makes a cgroup. No process is in it: whoever dials is outside of the node.
    pub(crate) fn new() -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let path = skep_loader::cgroup2().unwrap().join(unique_name());
        fs::create_dir(&path).expect("making a cgroup needs root");
        Self {
            path,
            home: None,
            _turn: turn,
        }
    }

    /// Makes a cgroup and moves this process into it.
    pub(crate) fn entered() -> Self {
        let mut cgroup = Self::new();
        let memberships = fs::read_to_string("/proc/self/cgroup").unwrap();
        let home = memberships
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .unwrap_or("");
        cgroup.home = Some(skep_loader::cgroup2().unwrap().join(home));
        fs::write(cgroup.path.join("cgroup.procs"), "0").unwrap();
        cgroup
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let moved = match &self.home {
            Some(home) => fs::write(home.join("cgroup.procs"), "0"),
            None => Ok(()),
        };
        let removed = moved.and_then(|()| fs::remove_dir(&self.path));
        if let Err(error) = removed {
            eprintln!("cgroup {} stays behind: {error}", self.path.display());
        }
    }
}

/// A pin folder and a lock file.
pub(crate) struct Pins {
    pub(crate) pin_dir: PathBuf,
    pub(crate) lock_path: PathBuf,
}

impl Pins {
    pub(crate) fn new() -> Self {
        let name = unique_name();
        let pin_dir = skep_loader::bpffs().unwrap().join(&name);
        Self {
            pin_dir,
            lock_path: std::env::temp_dir().join(name),
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = skep_loader::detach(&self.pin_dir) {
            eprintln!("pins {} stay behind: {error}", self.pin_dir.display());
        }
        if self.lock_path.exists() {
            fs::remove_file(&self.lock_path).unwrap();
        }
    }
}

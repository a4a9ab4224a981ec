//! A containerd of one's own, for tests that need the real thing.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::image::{PAUSE, write_image_archive};
use crate::{Containerd, Runtime};

/// Where Debian's `busybox-static` puts it.
const BUSYBOX_PATH: &str = "/bin/busybox";
const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A network plugin that gives every pod an address on paper and touches nothing.
const PAPER_CNI: &str = r#"#!/bin/sh
case "$CNI_COMMAND" in
  ADD) echo '{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","sandbox":"'"$CNI_NETNS"'"}],"ips":[{"version":"4","address":"10.250.0.9/32","interface":0}]}' ;;
  VERSION) echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}' ;;
esac
"#;

/// A running containerd with its own root, state, socket and configuration, holding the test images.
/// Everything it made is gone when it is dropped.
pub struct TestContainerd {
    directory: tempfile::TempDir,
    child: Child,
    cgroup: String,
}

/// Runs `test` with a containerd of its own on a new multi-threaded tokio runtime.
///
/// The calling thread gets a mount namespace of its own that containerd and all threads of the tokio
/// runtime share, as a kubelet and its containerd have to.
///
/// # Panics
/// Without root, containerd, runc or busybox-static: this is no test to skip in silence.
pub fn with_containerd<F, Fut>(test: F)
where
    F: FnOnce(std::sync::Arc<TestContainerd>) -> Fut,
    Fut: Future<Output = ()>,
{
    let harness = std::sync::Arc::new(TestContainerd::start());
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a tokio runtime can be built");
    tokio.block_on(test(harness));
}

impl TestContainerd {
    /// Starts one. See [`with_containerd`] for what happens to the calling thread.
    ///
    /// # Panics
    /// If anything that it needs is missing.
    pub fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root: it runs a containerd"
        );
        assert!(Path::new(BUSYBOX_PATH).exists(), "this test needs busybox-static");
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare the mount namespace");
        for flags in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
            let nothing: Option<&str> = None;
            mount(nothing, "/", nothing, flags | MsFlags::MS_REC, nothing).expect("set mount propagation");
        }
        let directory = tempfile::Builder::new()
            .prefix("skep-cri-")
            .tempdir()
            .expect("a temporary directory");
        let cgroup = format!(
            "/skep-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let child = spawn(directory.path());
        let harness = Self {
            directory,
            child,
            cgroup,
        };
        harness.await_socket();
        harness.import_images();
        harness
    }

    /// The runtime's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("containerd.sock")
    }

    /// A directory for the test's own files; goes with the harness.
    pub fn directory(&self) -> PathBuf {
        self.directory.path().to_path_buf()
    }

    /// A cgroup path of the test's own, removed from all hierarchies in the end.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// A client of this containerd.
    pub fn client(&self) -> Containerd {
        Containerd::connect(self.socket())
    }

    fn await_socket(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let ready = Command::new("ctr")
                .args(["-a"])
                .arg(self.socket())
                .arg("version")
                .output();
            if ready.is_ok_and(|output| output.status.success()) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "containerd does not answer:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What containerd has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("containerd.log")).unwrap_or_default()
    }

    fn import_images(&self) {
        let archive = self.directory.path().join("images.tar");
        write_image_archive(Path::new(BUSYBOX_PATH), &archive).expect("write the image archive");
        let output = Command::new("ctr")
            .arg("-a")
            .arg(self.socket())
            .args(["-n", "k8s.io", "images", "import"])
            .arg(&archive)
            .output()
            .expect("run ctr");
        assert!(
            output.status.success(),
            "ctr images import: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn remove_pods(&self) {
        let client_socket = self.socket();
        // A thread of its own: a drop may happen inside an async context.
        let worker = std::thread::spawn(move || {
            let Ok(tokio) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            tokio.block_on(async {
                let client = Containerd::connect(client_socket);
                for container in client.list_containers(None).await.unwrap_or_default() {
                    drop(client.stop_container(&container.id, Duration::ZERO).await);
                }
                for sandbox in client.list_pod_sandboxes(None).await.unwrap_or_default() {
                    drop(client.stop_pod_sandbox(&sandbox.id).await);
                    drop(client.remove_pod_sandbox(&sandbox.id).await);
                }
            });
        });
        drop(worker.join());
    }
}

impl Drop for TestContainerd {
    fn drop(&mut self) {
        self.remove_pods();
        if let Ok(pid) = i32::try_from(self.child.id()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                drop(self.child.kill());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        unmount_below(self.directory.path());
        remove_cgroups(&self.cgroup);
    }
}

fn spawn(directory: &Path) -> Child {
    let at = |name: &str| directory.join(name).display().to_string();
    for name in ["cni/conf", "cni/bin"] {
        std::fs::create_dir_all(directory.join(name)).expect("create the CNI directories");
    }
    for plugin in ["paper", "loopback"] {
        let path = directory.join("cni/bin").join(plugin);
        std::fs::write(&path, PAPER_CNI).expect("write the CNI plugin");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, executable).expect("make the CNI plugin executable");
    }
    let network = r#"{"cniVersion":"0.4.0","name":"paper","plugins":[{"type":"paper"}]}"#;
    std::fs::write(directory.join("cni/conf/10-paper.conflist"), network)
        .expect("write the CNI configuration");
    let config = format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[grpc]
address = "{socket}"
[ttrpc]
address = "{socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
stream_server_address = "127.0.0.1"
stream_server_port = "0"
restrict_oom_score_adj = true
disable_hugetlb_controller = true
tolerate_missing_hugetlb_controller = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni_bin}"
conf_dir = "{cni_conf}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#,
        root = at("root"),
        state = at("state"),
        socket = at("containerd.sock"),
        cni_bin = at("cni/bin"),
        cni_conf = at("cni/conf"),
    );
    std::fs::write(directory.join("config.toml"), config).expect("write containerd's configuration");
    let log = std::fs::File::create(directory.join("containerd.log")).expect("create the log");
    Command::new("containerd")
        .arg("--config")
        .arg(directory.join("config.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("this test needs containerd")
}

fn unmount_below(directory: &Path) {
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    let mut points: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|point| Path::new(point).starts_with(directory))
        .collect();
    points.reverse();
    for point in points {
        nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH).ok();
    }
}

fn remove_cgroups(cgroup: &str) {
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        if let (Some(point), Some(kind)) = (fields.next(), fields.next())
            && kind.starts_with("cgroup")
        {
            remove_tree(&Path::new(point).join(cgroup.trim_start_matches('/')));
        }
    }
}

/// Removes a cgroup with the groups below it: their control files need no removing.
fn remove_tree(group: &Path) {
    let Ok(entries) = std::fs::read_dir(group) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    drop(std::fs::remove_dir(group));
}

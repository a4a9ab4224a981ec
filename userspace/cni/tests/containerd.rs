//! A real containerd asks the plugin. Needs root, containerd, runc and busybox-static.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use nix::sched::{CloneFlags, unshare};
use skep_cni::agent::{self, CniConfig, Observer, ObserverError};
use skep_cni::{Install, install, sysctl};
use skep_cri::testing::{TestContainerd, with_containerd};
use skep_cri::{Containerd, Runtime, v1};
use tokio_util::sync::CancellationToken;

const SERVED: &str = "10.200.7.0/24";

#[test]
fn containerd_gives_sandboxes_their_network() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test runs a containerd: run it as root"
    );
    let node = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace for the node");
        with_containerd(|containerd| async move {
            bring_up_node().await;
            sysctl::prepare_node().expect("the node is prepared");
            let shutdown = CancellationToken::new();
            let agent = agent::open(config(&containerd)).await.expect("the agent opens");
            let serving = tokio::spawn(agent::serve(agent, shutdown.clone()));
            install_plugin(&containerd);
            live_and_die(&containerd.client(), containerd.cgroup()).await;
            shutdown.cancel();
            serving
                .await
                .expect("the agent does not panic")
                .expect("the agent ends well");
        });
    });
    if let Err(panic) = node.join() {
        std::panic::resume_unwind(panic);
    }
}

fn config(containerd: &TestContainerd) -> CniConfig {
    CniConfig {
        socket: containerd.directory().join("agent/cni.sock"),
        pod_cidr: SERVED.parse().expect("a range"),
        mtu: 1500,
        state_dir: containerd.directory().join("agent"),
        observer: Arc::new(Unheard),
    }
}

#[derive(Debug)]
struct Unheard;

impl Observer for Unheard {
    fn connected(&self, _netns: BorrowedFd<'_>, _address: IpAddr) -> Result<(), ObserverError> {
        Ok(())
    }

    fn disconnected(&self, _address: IpAddr) -> Result<(), ObserverError> {
        Ok(())
    }
}

/// Packets to pods need a source address.
async fn bring_up_node() {
    let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
    let connection = tokio::spawn(connection);
    let up = rtnetlink::LinkMessageBuilder::<rtnetlink::LinkUnspec>::new()
        .index(1)
        .up()
        .build();
    handle.link().set(up).execute().await.expect("lo comes up");
    let address = Ipv4Addr::new(172, 29, 0, 11).into();
    handle
        .address()
        .add(1, address, 32)
        .execute()
        .await
        .expect("lo takes an address");
    connection.abort();
}

/// Takes the place of the harness's own plugins.
fn install_plugin(containerd: &TestContainerd) {
    let cni = containerd.directory().join("cni");
    std::fs::remove_file(cni.join("conf/10-paper.conflist")).expect("the harness has a network");
    let what = Install {
        plugin: env!("CARGO_BIN_EXE_skep-cni").into(),
        bin_dir: cni.join("bin"),
        conf_dir: cni.join("conf"),
        socket: config(containerd).socket,
    };
    install(&what).expect("the plugin is installed");
}

async fn live_and_die(runtime: &Containerd, cgroup: &str) {
    let served: Ipv4Net = SERVED.parse().expect("a range");
    let (sandbox, address) = run_sandbox(runtime, cgroup, served).await;
    // The pod refuses by itself: the way there and back exists, and its loopback is of no concern.
    let refused = TcpStream::connect_timeout(&SocketAddr::from((address, 1)), Duration::from_secs(5));
    assert_eq!(
        refused.expect_err("nothing listens").kind(),
        ErrorKind::ConnectionRefused
    );
    assert_eq!(pod_devices(), 1);
    for _ in 0..2 {
        runtime.stop_pod_sandbox(&sandbox).await.expect("it stops");
    }
    assert_eq!(pod_devices(), 0);
    runtime.remove_pod_sandbox(&sandbox).await.expect("it goes");
}

/// Once containerd has seen the new configuration, sandboxes get addresses of the served range.
async fn run_sandbox(runtime: &Containerd, cgroup: &str, served: Ipv4Net) -> (String, Ipv4Addr) {
    let until = Instant::now() + Duration::from_secs(20);
    for attempt in 0.. {
        if let Ok(sandbox) = runtime.run_pod_sandbox(sandbox_config(cgroup, attempt)).await {
            let status = runtime.pod_sandbox_status(&sandbox).await.expect("a status");
            let address = status.network.unwrap_or_default().ip.parse().expect("an address");
            if served.contains(&address) {
                return (sandbox, address);
            }
            runtime.stop_pod_sandbox(&sandbox).await.expect("it stops");
            runtime.remove_pod_sandbox(&sandbox).await.expect("it goes");
        }
        assert!(Instant::now() < until, "containerd does not use the plugin");
    }
    unreachable!("the loop ends by an address or by time")
}

fn sandbox_config(cgroup: &str, attempt: u32) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "pod".to_owned(),
            uid: "uid".to_owned(),
            namespace: "default".to_owned(),
            attempt,
        }),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: format!("{cgroup}/pod"),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Host ends of pods' links in the calling thread's namespace.
fn pod_devices() -> usize {
    let table = std::fs::read_to_string(Path::new("/proc/thread-self/net/dev")).expect("a table of devices");
    table
        .lines()
        .filter(|line| line.trim_start().starts_with("sk"))
        .count()
}

//! The first process of each simulated machine: enters its namespaces and cgroup, starts its programs and starts them
//! again when they end.
//!
//! On a real machine systemd does this. A node's programs share one mount namespace, so that containerd sees the
//! volumes that the kubelet mounts, and none of it is seen by the host.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::plan::{CLUSTER_DOMAIN, ClusterName, ClusterPlan, NodePlan};
use crate::record::Record;
use crate::{ClusterError, cgroup, command, containerd, network, processes};

/// The cluster DNS server's address inside every node.
pub(crate) const NODE_DNS: &str = "169.254.20.10";
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// A program that lived this long starts again at once.
const STABLE: Duration = Duration::from_secs(30);
/// How long a program may take to end when asked.
const PATIENCE: Duration = Duration::from_secs(8);

/// Which machine a supervisor stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The control plane's, on the host.
    Server,
    /// A node's.
    Node(String),
}

impl Role {
    /// The role of that name: `server`, or a node's name.
    pub fn parse(text: &str) -> Self {
        if text == "server" {
            Self::Server
        } else {
            Self::Node(text.to_owned())
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Server => "server",
            Self::Node(name) => name,
        }
    }
}

/// One program to keep running.
struct Program {
    name: String,
    path: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
}

/// Runs one machine of a cluster until SIGTERM or SIGINT.
///
/// Must be called while the process has one thread: it moves that thread into namespaces.
///
/// # Errors
/// When the cluster is not there or the machine's namespaces cannot be entered.
pub fn supervise(name: &ClusterName, role: &Role, skep: &Path) -> Result<(), ClusterError> {
    let plan = Record::read(name)?.plan;
    // Away from the terminal that started the cluster.
    if let Err(error) = setsid() {
        tracing::debug!(%error, "this process leads a session already");
    }
    let programs = match role {
        Role::Server => {
            cgroup::enter(&format!("{}/server", plan.cgroup()))?;
            vec![server(&plan, skep)]
        }
        Role::Node(node) => {
            let node = plan
                .nodes
                .iter()
                .find(|candidate| candidate.name == *node)
                .ok_or_else(|| ClusterError::Machine {
                    what: format!("cluster {name} has no node {node}"),
                    remedy: format!("its nodes are node1 to node{}", plan.nodes.len()),
                })?;
            own_mounts()?;
            network::enter(node)?;
            cgroup::enter(&node.system_cgroup())?;
            vec![containerd_program(&plan, node)?, agent(&plan, node, skep)]
        }
    };
    processes::write(
        &plan.run_dir,
        &format!("supervise-{}", role.name()),
        std::process::id(),
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ClusterError::io("start the runtime of", skep))?;
    runtime.block_on(keep_running(programs, &plan.run_dir))
}

/// A mount namespace of our own in which `/` is shared, as containers' mount propagation needs.
fn own_mounts() -> Result<(), ClusterError> {
    let failed = |error: nix::Error| ClusterError::Io {
        what: "make a mount namespace at",
        path: PathBuf::from("/"),
        source: error.into(),
    };
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
    for propagation in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | propagation,
            None::<&str>,
        )
        .map_err(failed)?;
    }
    Ok(())
}

fn server(plan: &ClusterPlan, skep: &Path) -> Program {
    let arguments = [
        ("--cluster-name", plan.name.to_string()),
        ("--data-dir", plan.server_dir().display().to_string()),
        ("--bind", plan.api.to_string()),
        ("--service-cidr", plan.services.to_string()),
        ("--cluster-cidr", plan.pods.to_string()),
        ("--cluster-dns", plan.dns.to_string()),
        ("--cluster-domain", CLUSTER_DOMAIN.to_owned()),
    ];
    Program {
        name: "server".to_owned(),
        path: skep.to_owned(),
        arguments: words("server", &arguments),
        log: plan.log_dir().join("server.log"),
    }
}

fn containerd_program(plan: &ClusterPlan, node: &NodePlan) -> Result<Program, ClusterError> {
    let configuration = containerd::configure(node)?;
    Ok(Program {
        name: format!("containerd-{}", node.name),
        path: command::require("containerd", "containerd")?,
        arguments: vec!["--config".to_owned(), configuration.display().to_string()],
        log: plan.log_dir().join(format!("containerd-{}.log", node.name)),
    })
}

fn agent(plan: &ClusterPlan, node: &NodePlan, skep: &Path) -> Program {
    let cni = containerd::cni_paths(node);
    let arguments = [
        ("--node-name", node.name.clone()),
        ("--node-ip", node.address.to_string()),
        ("--device", network::NODE_DEVICE.to_owned()),
        (
            "--credentials",
            node.state_dir.join("credentials").display().to_string(),
        ),
        ("--containerd", node.containerd_socket().display().to_string()),
        ("--cgroup", node.cgroup.clone()),
        ("--pins", node.pins.clone()),
        ("--state-dir", node.state_dir.display().to_string()),
        ("--run-dir", node.run_dir.display().to_string()),
        ("--cni-conf-dir", cni.config_dir.display().to_string()),
        ("--cni-bin-dir", cni.program_dir.display().to_string()),
        ("--cluster-cidr", plan.pods.to_string()),
        ("--service-cidr", plan.services.to_string()),
        ("--node-cidr", plan.node_addresses.to_string()),
        ("--cluster-dns", plan.dns.to_string()),
        ("--cluster-domain", CLUSTER_DOMAIN.to_owned()),
        ("--node-dns", NODE_DNS.to_owned()),
    ];
    Program {
        name: format!("agent-{}", node.name),
        path: skep.to_owned(),
        arguments: words("agent", &arguments),
        log: plan.log_dir().join(format!("agent-{}.log", node.name)),
    }
}

fn words(command: &str, flags: &[(&str, String)]) -> Vec<String> {
    let flags = flags
        .iter()
        .flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
    std::iter::once(command.to_owned()).chain(flags).collect()
}

async fn keep_running(programs: Vec<Program>, run_dir: &Path) -> Result<(), ClusterError> {
    let failed = |source| ClusterError::Io {
        what: "listen for signals in",
        path: run_dir.to_owned(),
        source,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (stop, stopped) = watch::channel(false);
    let mut keepers = Vec::new();
    for program in programs {
        keepers.push(tokio::spawn(keep_one(
            program,
            run_dir.to_owned(),
            stopped.clone(),
        )));
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    for keeper in keepers {
        if let Err(error) = keeper.await {
            tracing::error!(%error, "a program's keeper failed");
        }
    }
    Ok(())
}

async fn keep_one(program: Program, run_dir: PathBuf, mut stopped: watch::Receiver<bool>) {
    let mut backoff = FIRST_BACKOFF;
    while !*stopped.borrow() {
        let started = Instant::now();
        match start(&program, &run_dir) {
            Ok(mut child) => {
                tokio::select! {
                    status = child.wait() => tracing::warn!(program = program.name, ?status, "ended; starting again"),
                    _ = stopped.changed() => return end(&program, child).await,
                }
            }
            Err(error) => tracing::error!(program = program.name, %error, "cannot be started"),
        }
        if started.elapsed() > STABLE {
            backoff = FIRST_BACKOFF;
        }
        tokio::select! {
            () = sleep(backoff) => backoff = (backoff * 2).min(LAST_BACKOFF),
            _ = stopped.changed() => return,
        }
    }
}

fn start(program: &Program, run_dir: &Path) -> Result<Child, ClusterError> {
    let log = |path: &Path| -> Result<OwnedFd, ClusterError> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(file.map_err(ClusterError::io("open the log", path))?.into())
    };
    let folders = std::env::join_paths(command::folders()).map_err(|error| ClusterError::Io {
        what: "look for programs in",
        path: PathBuf::from("PATH"),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, error),
    })?;
    let child = Command::new(&program.path)
        .args(&program.arguments)
        .env("PATH", folders)
        .stdin(Stdio::null())
        .stdout(Stdio::from(log(&program.log)?))
        .stderr(Stdio::from(log(&program.log)?))
        .spawn()
        .map_err(ClusterError::io("start", &program.path))?;
    if let Some(id) = child.id() {
        tracing::info!(program = program.name, pid = id, "started");
        processes::write(run_dir, &program.name, id)?;
    }
    Ok(child)
}

async fn end(program: &Program, mut child: Child) {
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok())
        && let Err(error) = kill(Pid::from_raw(id), Signal::SIGTERM)
    {
        tracing::warn!(program = program.name, %error, "cannot be asked to end");
    }
    if timeout(PATIENCE, child.wait()).await.is_err() {
        tracing::warn!(program = program.name, "did not end when asked; ended by force");
        if let Err(error) = child.kill().await {
            tracing::error!(program = program.name, %error, "cannot be ended");
        }
    }
}

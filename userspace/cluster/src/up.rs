//! `skep up`: from nothing to a cluster whose demo answers.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use nix::fcntl::{Flock, FlockArg};
use skep_client::{Client, ListOptions};
use skep_pki::{Pki, PkiOptions, names, write_private};
use tokio::time::{Instant, sleep};

use crate::plan::{ClusterName, ClusterPlan, NodePlan, run_root};
use crate::record::Record;
use crate::{ClusterError, cgroup, containerd, credentials, demo, down, images, machine, network};

const READY_TIMEOUT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);
const LOG_TAIL_LINES: usize = 6;

/// What `skep up` is asked for.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// How many nodes.
    pub nodes: u16,
    /// The `skep` binary that the cluster runs.
    pub skep: PathBuf,
    /// The folder with the built-in images' archives.
    pub images: PathBuf,
    /// Whether to deploy the demo and wait until it answers.
    pub demo: bool,
}

/// Told what happens, step by step.
pub trait Progress {
    /// A step begins; the one before it is done.
    fn step(&mut self, what: &str);
    /// What is being waited for within the step.
    fn detail(&mut self, text: &str);
    /// The last step is done.
    fn done(&mut self);
}

/// Starts the cluster.
pub(crate) async fn up(
    name: &ClusterName,
    options: &UpOptions,
    progress: &mut dyn Progress,
) -> Result<Record, ClusterError> {
    progress.step("checking this machine");
    machine::require_all()?;
    images::built_in(&options.images)?;
    let record = claim(name, options.nodes, progress)?;
    match start(&record.plan, options, progress).await {
        Ok(()) => {
            progress.done();
            Ok(record)
        }
        Err(error) => {
            let error = with_logs(error, &record.plan);
            progress.step("taking away what was made");
            if let Err(cleaning) = down::down(name, progress) {
                tracing::error!(%cleaning, "the failed cluster could not be removed");
            }
            Err(error)
        }
    }
}

/// Writes the record, unless the cluster runs; clears away the remains of one that does not run any more.
fn claim(name: &ClusterName, nodes: u16, progress: &mut dyn Progress) -> Result<Record, ClusterError> {
    let _lock = lock(&run_root())?;
    match Record::read(name) {
        Ok(record) if record.is_alive() => {
            return Err(ClusterError::AlreadyRuns {
                name: name.to_string(),
            });
        }
        Err(ClusterError::NotRunning { .. }) => {}
        Ok(_) | Err(_) => {
            progress.step("removing the remains of an earlier run");
            down::clear(name, progress)?;
        }
    }
    Record::create(name, nodes)
}

/// Holds the folder of all clusters for one `up`. The last `down` removes the folder, and a lock on a removed one is none.
fn lock(folder: &Path) -> Result<Flock<fs::File>, ClusterError> {
    loop {
        fs::create_dir_all(folder).map_err(ClusterError::io("create", folder))?;
        let file = match fs::File::open(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            opened => opened.map_err(ClusterError::io("open", folder))?,
        };
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| ClusterError::Io {
            what: "lock",
            path: folder.to_owned(),
            source: error.into(),
        })?;
        let held = lock
            .metadata()
            .map_err(ClusterError::io("look at", folder))?
            .ino();
        if fs::metadata(folder).is_ok_and(|now| now.ino() == held) {
            return Ok(lock);
        }
    }
}

async fn start(
    plan: &ClusterPlan,
    options: &UpOptions,
    progress: &mut dyn Progress,
) -> Result<(), ClusterError> {
    progress.step("issuing certificates");
    fs::create_dir_all(&plan.run_dir).map_err(ClusterError::io("create", &plan.run_dir))?;
    for folder in [&plan.log_dir(), &plan.server_dir()] {
        skep_pki::create_private_folder(folder)?;
    }
    issue(plan)?;
    progress.step("joining nodes by a bridge");
    machine::mount_bpf_file_system()?;
    network::create(plan)?;
    cgroup::create(&format!("{}/server", plan.cgroup()))?;
    progress.step("starting the server");
    supervise(plan, "server", &options.skep)?;
    for node in &plan.nodes {
        cgroup::create(&node.system_cgroup())?;
        supervise(plan, &node.name, &options.skep)?;
    }
    let client = Client::from_kubeconfig(plan.kubeconfig())?;
    wait(plan, "the API server is not ready", progress, async || {
        api_ready(&client).await
    })
    .await?;
    progress.step("starting the nodes");
    for node in &plan.nodes {
        wait(plan, "containerd does not answer", progress, async || {
            containerd_ready(node)
        })
        .await?;
        images::load_built_in(node, &options.images)?;
    }
    wait(plan, "not every node is ready", progress, async || {
        nodes_ready(&client, plan).await
    })
    .await?;
    if options.demo {
        progress.step("deploying the demo");
        demo::deploy(&client).await?;
        wait(plan, "the demo is not available", progress, async || {
            demo_available(&client).await
        })
        .await?;
        let port = demo::demo_port(&client).await?;
        let address = SocketAddr::new(IpAddr::V4(plan.nodes[0].address), port);
        wait(plan, "the demo does not answer", progress, async || {
            demo::ask(address).await.map(drop)
        })
        .await?;
    }
    Ok(())
}

fn issue(plan: &ClusterPlan) -> Result<(), ClusterError> {
    let pki = Pki::open_or_create(plan.server_dir().join("pki"), PkiOptions::new(plan.name.as_str()))?;
    let admin = pki.issue_client(names::ADMIN, &[names::MASTERS])?;
    write_private(
        &plan.kubeconfig(),
        pki.kubeconfig(&plan.api_url(), &admin).as_bytes(),
    )?;
    for node in &plan.nodes {
        let folder = node.state_dir.join("credentials");
        credentials::issue_node_credentials(
            &pki,
            &plan.api_url(),
            &node.name,
            &node.address.to_string(),
            &folder,
        )?;
    }
    Ok(())
}

/// Starts the first process of one of the cluster's machines; it goes on when this process ends.
fn supervise(plan: &ClusterPlan, role: &str, skep: &Path) -> Result<(), ClusterError> {
    let path = plan.log_dir().join(format!("supervise-{role}.log"));
    let log = || fs::OpenOptions::new().create(true).append(true).open(&path);
    let failed = || ClusterError::io("open the log", &path);
    Command::new(skep)
        .args(["supervise", "--name", plan.name.as_str(), role])
        .stdin(Stdio::null())
        .stdout(log().map_err(failed())?)
        .stderr(log().map_err(failed())?)
        .spawn()
        .map_err(ClusterError::io("start", skep))?;
    Ok(())
}

/// Waits until the check passes; its last complaint goes into the error.
async fn wait(
    plan: &ClusterPlan,
    what: &str,
    progress: &mut dyn Progress,
    check: impl AsyncFn() -> Result<(), String>,
) -> Result<(), ClusterError> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let Err(seen) = check().await else { return Ok(()) };
        if Instant::now() > deadline {
            return Err(ClusterError::NotReady {
                what: what.to_owned(),
                seconds: READY_TIMEOUT.as_secs(),
                seen,
                logs: plan.log_dir(),
            });
        }
        progress.detail(&seen);
        sleep(POLL).await;
    }
}

async fn api_ready(client: &Client) -> Result<(), String> {
    client
        .get_raw("/readyz")
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

fn containerd_ready(node: &NodePlan) -> Result<(), String> {
    if containerd::answers(node) {
        Ok(())
    } else {
        Err(format!("waiting for {}'s containerd", node.name))
    }
}

async fn nodes_ready(client: &Client, plan: &ClusterPlan) -> Result<(), String> {
    let list = client
        .list::<Node>(None, &ListOptions::default())
        .await
        .map_err(|error| error.to_string())?;
    let ready = list.items.iter().filter(|node| node_is_ready(node)).count();
    if ready == plan.nodes.len() {
        Ok(())
    } else {
        Err(format!("{ready} of {} nodes are ready", plan.nodes.len()))
    }
}

/// Whether a Node's Ready condition is True.
pub fn node_is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn demo_available(client: &Client) -> Result<(), String> {
    let (available, wanted) = demo::progress(client).await.map_err(|error| error.to_string())?;
    if available >= wanted {
        Ok(())
    } else {
        Err(format!("{available} of {wanted} replicas are available"))
    }
}

/// Adds the ends of the logs to a time-out: they are removed with the failed cluster.
fn with_logs(error: ClusterError, plan: &ClusterPlan) -> ClusterError {
    let ClusterError::NotReady {
        what,
        seconds,
        seen,
        logs,
    } = error
    else {
        return error;
    };
    let mut seen = seen;
    let mut files: Vec<PathBuf> = fs::read_dir(&logs)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        if !tail.is_empty() {
            seen.push_str(&format!("\n--- {}\n{}", file.display(), tail.join("\n")));
        }
    }
    // The folder goes away with the cluster: keep the logs where they can be read.
    let kept = std::env::temp_dir().join(format!("skep-{}-logs", plan.name));
    let logs = if copy_files(&logs, &kept).is_ok() {
        kept
    } else {
        logs
    };
    ClusterError::NotReady {
        what,
        seconds,
        seen,
        logs,
    }
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

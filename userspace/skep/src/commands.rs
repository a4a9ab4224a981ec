//! The command line: one module a command.

mod agent;
mod cert;
mod doctor;
mod down;
mod image;
mod maps;
mod place;
mod server;
mod service;
mod services;
mod status;
mod up;

use std::future::Future;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use skep_cluster::plan::DEFAULT_NAME;
use skep_cluster::{Cluster, ClusterName, Role};

/// A Kubernetes-compatible orchestrator built around its service network.
#[derive(Parser)]
#[command(name = "skep", version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster on this machine, with a demo in it
    Up(up::Options),
    /// Stop a cluster and remove every trace of it
    Down(Named),
    /// Print the path of a cluster's kubeconfig: export KUBECONFIG=$(skep kubeconfig)
    Kubeconfig(Named),
    /// Show a cluster's server, nodes, dataplane and DNS
    Status(Named),
    /// Show Services as the kernel of a node holds them, and explain where a connection goes
    #[command(subcommand)]
    Service(services::Command),
    /// Show the dataplane's maps and what they hold
    Maps(maps::Options),
    /// Work with container images
    #[command(subcommand)]
    Image(image::Command),
    /// Say what this machine has and lacks for Skep, and what to do about it
    Doctor,
    /// Run the control plane: API server, scheduler and controllers
    Server(server::Options),
    /// Run a node: kubelet, service proxy, CNI, DNS
    Agent(agent::Options),
    /// Issue credentials from the authority in a server's data folder
    #[command(subcommand)]
    Cert(cert::Command),
    /// Keep the programs of one of a local cluster's machines running
    #[command(hide = true)]
    Supervise {
        #[command(flatten)]
        cluster: Named,
        /// `server`, or a node's name
        role: String,
    },
}

/// Which local cluster is meant.
#[derive(Args)]
pub(crate) struct Named {
    /// The cluster's name
    #[arg(long, default_value = DEFAULT_NAME)]
    name: ClusterName,
}

impl Named {
    fn cluster(&self) -> Cluster {
        Cluster::new(self.name.clone())
    }
}

impl Arguments {
    /// Whether the command runs until it is stopped.
    pub(crate) fn is_service(&self) -> bool {
        matches!(
            self.command,
            Command::Server(_) | Command::Agent(_) | Command::Supervise { .. }
        )
    }
}

/// Carries out a command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Up(options) => up::run(options),
        Command::Down(named) => down::run(&named),
        Command::Kubeconfig(named) => {
            println!("{}", named.cluster().record()?.plan.kubeconfig().display());
            Ok(())
        }
        Command::Status(named) => status::run(&named),
        Command::Service(command) => services::run(command),
        Command::Maps(options) => maps::run(&options),
        Command::Image(command) => image::run(command),
        Command::Doctor => doctor::run(),
        Command::Server(options) => server::run(options),
        Command::Agent(options) => agent::run(options),
        Command::Cert(command) => cert::run(command),
        Command::Supervise { cluster, role } => {
            let skep = std::env::current_exe().context("find this program's path")?;
            Ok(skep_cluster::supervise(
                &cluster.name,
                &Role::parse(&role),
                &skep,
            )?)
        }
    }
}

/// Runs a command's asynchronous part on a runtime of its own.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    Ok(runtime.block_on(future))
}

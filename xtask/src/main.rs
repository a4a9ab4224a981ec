//! `cargo xtask`: everything that is done to the project rather than by it.

mod bench;
mod build_ebpf;
mod check;
mod command;
mod generate;
mod images;
mod residue;
mod setup;
mod test;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Skep's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, running and testing need: Debian packages and cargo tools. Does nothing the second time.
    Setup {
        /// Only what `cargo xtask up` needs, without the tools of the checks and tests
        #[arg(long)]
        run_only: bool,
    },
    /// Build the eBPF programs into target/ebpf
    BuildEbpf,
    /// Format, clippy with warnings denied, dependency rules, licences and advisories, generated files
    Check,
    /// Run the tests; without a name, everything that CI runs
    Test {
        /// One part of the tests
        #[arg(value_enum)]
        part: Option<test::Part>,
    },
    /// Measure the service dataplane: `bench bpf`, `bench net`, `bench table`; `--quick`, `--out DIR`
    #[command(disable_help_flag = true)]
    Bench {
        /// The suite and its options, as `cargo xtask bench --help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Build the local container images into target/images
    Images,
    /// Regenerate the generated files from public data
    Gen {
        /// Compare instead of writing; fail on a difference
        #[arg(long)]
        check: bool,
    },
    /// Write the table of protobuf field numbers from the Go modules k8s.io/api and k8s.io/apimachinery
    GenProtobuf {
        /// The unpacked module k8s.io/api
        api: std::path::PathBuf,
        /// The unpacked module k8s.io/apimachinery
        apimachinery: std::path::PathBuf,
    },
    /// Set up, build a release and start a cluster on this machine with the demo in it
    Up {
        /// How many nodes
        #[arg(long, default_value_t = 1)]
        nodes: u16,
        /// The cluster's name
        #[arg(long, default_value = "skep")]
        name: String,
    },
    /// Stop the cluster and remove every trace of it
    Down {
        /// The cluster's name
        #[arg(long, default_value = "skep")]
        name: String,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup { run_only } => setup::run(if run_only {
            setup::For::Running
        } else {
            setup::For::Testing
        }),
        Task::BuildEbpf => build_ebpf::run(),
        Task::Check => check::run(),
        Task::Test { part } => test::run(part),
        Task::Bench { arguments } => bench::run(&arguments),
        Task::Images => images::run(),
        Task::Gen { check } => generate::run(check),
        Task::GenProtobuf { api, apimachinery } => generate::protobuf::run(&api, &apimachinery),
        Task::Up { nodes, name } => up::up(&name, nodes),
        Task::Down { name } => up::down(&name),
    }
}

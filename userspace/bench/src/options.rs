//! What a person asks for, and the suites.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::engine::interrupt::Interrupt;
use crate::engine::leftovers;
use crate::engine::report::Report;
use crate::{BenchError, bpf, net, table};

/// Options of every suite.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The suite
    #[command(subcommand)]
    pub suite: Suite,
    /// Fewer and shorter measurements
    #[arg(long, global = true)]
    pub quick: bool,
    /// Write every figure and sample as JSON into this folder too
    #[arg(long, global = true, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
pub enum Suite {
    /// What a run of each program costs, and how many instructions the verifier walked through
    Bpf,
    /// Traffic: straight to a pod, through Skep, through iptables and nftables as kube-proxy writes them
    Net,
    /// The control path: cold start, one change, churn, memory
    Table {
        /// Only the memory of a proxy with so many Services, as JSON; what the suite starts itself as
        #[arg(long, hide = true)]
        memory_of: Option<usize>,
    },
}

/// How much a run may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Seconds: shows that everything runs, its figures mean nothing.
    Smoke,
    /// Minutes.
    Quick,
    /// Up to half an hour.
    Full,
}

impl Effort {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    /// One of three, by effort.
    pub(crate) fn pick<T>(self, smoke: T, quick: T, full: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// What a suite is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// How much it may take.
    pub effort: Effort,
    /// Whether it shall end.
    pub interrupt: Interrupt,
}

/// Runs a suite and returns its report; `None` for a part of one that has answered for itself.
///
/// # Errors
/// [`BenchError`]; what the run had made of namespaces, cgroups, pins and programs is gone then too.
pub fn run(suite: &Suite, context: &Context) -> Result<Option<Report>, BenchError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(BenchError::NotRoot);
    }
    leftovers::sweep()?;
    match suite {
        Suite::Bpf => bpf::run(context).map(Some),
        Suite::Net => net::run(context).map(Some),
        Suite::Table { memory_of: None } => table::run(context).map(Some),
        Suite::Table {
            memory_of: Some(services),
        } => table::print_memory(*services, context).map(|()| None),
    }
}

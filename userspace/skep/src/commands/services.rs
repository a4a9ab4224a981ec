//! `skep service`: Services as the kernel of a node holds them, not as anybody believes them to be.

mod explain;
mod get;
mod list;
#[cfg(test)]
mod samples;
mod words;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use skep_loader::Snapshot;

use super::place::{Pinned, Place};
use crate::output::Format;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show every address and port that clients dial, with the Service behind it
    List(Shown),
    /// Show a Service: its ports, what leads to them, what they may pick, what was counted
    Get {
        /// NAMESPACE/NAME; NAME alone is one of the namespace default
        service: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Say where a connection would go, and why: the dataplane's own decisions over the maps as they are
    Explain(explain::Options),
}

/// What is shown, and how.
#[derive(Args)]
pub(crate) struct Shown {
    #[command(flatten)]
    place: Place,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn run(command: Command) -> Result<()> {
    match command {
        Command::List(shown) => list::run(&shown),
        Command::Get { service, shown } => get::run(&service, &shown),
        Command::Explain(options) => explain::run(&options),
    }
}

/// The maps of each node in question, by the node's name.
fn snapshots(place: &Place) -> Result<Vec<(String, Snapshot)>> {
    let read = |Pinned { node, pin_dir }: Pinned| {
        let snapshot = Snapshot::read(&pin_dir).with_context(|| format!("read the dataplane of {node}"))?;
        Ok((node, snapshot))
    };
    place.nodes()?.into_iter().map(read).collect()
}

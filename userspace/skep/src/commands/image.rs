//! `skep image`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use super::Named;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Import image archives (OCI or Docker) into every node
    Load {
        #[command(flatten)]
        cluster: Named,
        /// The archives
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

pub(super) fn run(command: Command) -> Result<()> {
    let Command::Load { cluster, files } = command;
    for reference in cluster.cluster().load_images(&files)? {
        println!("{reference}");
    }
    Ok(())
}

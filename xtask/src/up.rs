//! `up` and `down`: a cluster on this machine from a clone, and away with it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{self, cargo, require_root, target};
use crate::{build_ebpf, images, setup};

/// Sets up, builds a release and starts the cluster.
pub(crate) fn up(name: &str, nodes: u16) -> Result<()> {
    require_root("a cluster makes network namespaces, loads eBPF programs and runs containers, which")?;
    setup::run(setup::For::Running)?;
    build()?;
    command::run(Command::new(binary()).args(["up", "--name", name, "--nodes", &nodes.to_string()]))
}

/// Stops the cluster and removes every trace of it.
pub(crate) fn down(name: &str) -> Result<()> {
    let binary = binary();
    if !binary.is_file() {
        bail!("{} is not built: nothing was started from here", binary.display());
    }
    command::run(Command::new(binary).args(["down", "--name", name]))
}

/// Builds the eBPF programs, the binaries and the images.
pub(crate) fn build() -> Result<()> {
    build_ebpf::run()?;
    command::run(cargo().args(["build", "--release", "--package", "skep", "--bin", "skep"]))?;
    cni_plugin()?;
    images::run()
}

/// The CNI plugin: static and without the agent's half, since it is started for every pod.
fn cni_plugin() -> Result<()> {
    let programs = images::build_static(&[
        "--package",
        "skep-cni",
        "--bin",
        "skep-cni",
        "--no-default-features",
    ])?;
    let (built, wanted) = (programs.join("skep-cni"), binary().with_file_name("skep-cni"));
    std::fs::copy(&built, &wanted)
        .with_context(|| format!("copy {} to {}", built.display(), wanted.display()))?;
    Ok(())
}

/// The release binary.
pub(crate) fn binary() -> PathBuf {
    target().join("release/skep")
}

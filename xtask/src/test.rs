//! `test`: the parts of the test run, and everything that CI runs.

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::command::{self, cargo, find, require_root, say};
use crate::residue::Snapshot;
use crate::{check, setup, up};

/// A part of the tests.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Unit, property, golden and contract tests, without root
    Unit,
    /// The eBPF programs in the kernel
    Bpf,
    /// Network namespaces, containers
    Net,
    /// Whole clusters
    E2e,
}

/// The packages whose integration tests load programs into the kernel.
const BPF_PACKAGES: &[&str] = &["skep-loader", "skep-bpf-maps", "skep-bench"];
/// The packages whose integration tests need namespaces or containers.
const NET_PACKAGES: &[&str] = &["skep-cni", "skep-cri", "skep-kubelet"];
const E2E_PACKAGES: &[&str] = &["skep-tests"];

/// Runs one part, or the checks and all parts. A residue check ends every run.
pub(crate) fn run(part: Option<Part>) -> Result<()> {
    if part.is_none() {
        require_root("the whole test run loads eBPF programs and starts containers, which")?;
        setup::run(setup::For::Testing)?;
    }
    let before = Snapshot::take();
    let result = run_parts(part);
    let clean = before.compare();
    result.and(clean)
}

fn run_parts(part: Option<Part>) -> Result<()> {
    let wanted = |candidate: Part| part.is_none_or(|part| part == candidate);
    if part.is_none() {
        check::run()?;
    }
    if wanted(Part::Unit) {
        unit()?;
    }
    if wanted(Part::Bpf) {
        require_root("loading eBPF programs")?;
        crate::build_ebpf::run()?;
        serial(BPF_PACKAGES)?;
    }
    if wanted(Part::Net) {
        require_root("making network namespaces and containers")?;
        serial(NET_PACKAGES)?;
    }
    if wanted(Part::E2e) {
        require_root("starting a cluster")?;
        up::build()?;
        whole_clusters()?;
    }
    say("tests passed");
    Ok(())
}

/// Everything that needs no root.
fn unit() -> Result<()> {
    let mut command = nextest()?;
    command.arg("--workspace");
    for package in [BPF_PACKAGES, NET_PACKAGES, E2E_PACKAGES].concat() {
        command.args(["--exclude", package]);
    }
    command::run(&mut command)?;
    let mut libraries = nextest()?;
    for package in [BPF_PACKAGES, NET_PACKAGES].concat() {
        libraries.args(["--package", package]);
    }
    command::run(libraries.args(["--lib", "--bins", "--no-tests=pass"]))
}

/// Tests that own parts of the machine, one at a time.
fn serial(packages: &[&str]) -> Result<()> {
    let mut command = nextest()?;
    for package in packages {
        command.args(["--package", package]);
    }
    command::run(command.args(["--tests", "--test-threads", "1", "--run-ignored", "all"]))
}

/// Each binary starts its clusters once and runs its trials on them; nextest would start a process for each trial.
fn whole_clusters() -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]);
    for package in E2E_PACKAGES {
        command.args(["--package", package]);
    }
    command::run(command.args(["--tests"]))
}

fn nextest() -> Result<std::process::Command> {
    if find("cargo-nextest").is_none() {
        bail!("cargo-nextest is not installed: run `cargo xtask setup`");
    }
    let mut command = cargo();
    command.args(["nextest", "run", "--no-fail-fast"]);
    Ok(command)
}

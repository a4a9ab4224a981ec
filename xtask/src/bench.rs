//! `bench`: builds the programs and the measuring program, and runs a suite of it.

use std::ffi::OsString;

use anyhow::Result;

use crate::build_ebpf;
use crate::command::{self, cargo};

/// Runs the measuring program with these arguments.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    build_ebpf::run()?;
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "skep-bench", "--"]);
    command::run(command.args(arguments))
}

//! `check`: what must hold of the sources before any test runs.

mod dependencies;

use anyhow::Result;

use crate::command::{self, cargo, say};
use crate::generate;

/// Formats, lints, dependency rules, licences, generated files.
pub(crate) fn run() -> Result<()> {
    command::run(cargo().args(["fmt", "--all", "--check"]))?;
    dependencies::check()?;
    generate::run(true)?;
    deny()?;
    command::run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    say("check passed");
    Ok(())
}

/// Licences, bans and sources; advisories need the advisory database, which cargo-deny fetches from its home, so
/// they are a task of their own for machines that reach it: `cargo deny check advisories`.
fn deny() -> Result<()> {
    let Some(program) = command::find("cargo-deny") else {
        anyhow::bail!("cargo-deny is not installed: run `cargo xtask setup`");
    };
    let mut deny = std::process::Command::new(program);
    deny.current_dir(command::root());
    command::run(deny.args(["--all-features", "check", "bans", "licenses", "sources"]))
}

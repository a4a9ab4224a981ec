//! Running other programs: shown before they run, and named in full when they fail.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .map_or_else(|| manifest.to_owned(), Path::to_owned)
}

/// Cargo's target folder: `CARGO_TARGET_DIR`, else `target` of the workspace.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where `setup` installs cargo tools that the machine lacks.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// What cargo tells the task about the task's own package.
const OF_THIS_PACKAGE: &[&str] = &["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_PACKAGE"];

/// The cargo that started this task, as if started by hand: build scripts that look at what is told of this package
/// would otherwise run again, and everything that depends on them with them.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let told = |prefix: &&str| name.to_string_lossy().starts_with(*prefix);
        if OF_THIS_PACKAGE.iter().any(told) {
            command.env_remove(&name);
        }
    }
    command
}

/// The path of a program: the machine's, else one that `setup` installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .chain([tools().join("bin")])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Says a step's name.
#[expect(
    clippy::print_stdout,
    reason = "this is what the task tells the person who runs it"
)]
pub(crate) fn say(text: &str) {
    println!("xtask: {text}");
}

/// Runs a program with its output shown.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    say(&shown);
    let status = command.status().with_context(|| format!("start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a program and returns what it prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.output().with_context(|| format!("start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("read what `{shown}` printed"))
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Fails unless the user is root, saying what for.
pub(crate) fn require_root(what: &str) -> Result<()> {
    let id = output(Command::new("id").arg("-u"))?;
    if id.trim() != "0" {
        bail!("{what} needs root: run it again as root, for example with `sudo -E env PATH=\"$PATH\"`");
    }
    Ok(())
}

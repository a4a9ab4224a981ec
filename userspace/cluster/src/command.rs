//! Runs the system's programs and reports what they said when they fail.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::ClusterError;

/// Where programs are looked for besides `PATH`: a plain user's path lacks these.
const SYSTEM_FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Runs a command and returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String, ClusterError> {
    let failed = |line: String, output: String| ClusterError::Command {
        command: line,
        output,
    };
    let line = show(command);
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => return Err(failed(line, error.to_string())),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(
        line,
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

/// Runs `ip` with these words.
pub(crate) fn ip(words: &str) -> Result<String, ClusterError> {
    run(Command::new(require("ip", "iproute2")?).args(words.split_whitespace()))
}

/// The folders with programs, for us and for what we start: containerd looks for runc by itself.
pub(crate) fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.map(PathBuf::from))
        .collect()
}

/// The path of a program.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    folders()
        .into_iter()
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// The path of a program, or where to get it.
pub(crate) fn require(program: &'static str, package: &'static str) -> Result<PathBuf, ClusterError> {
    find(program).ok_or(ClusterError::MissingProgram { program, package })
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(std::ffi::OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

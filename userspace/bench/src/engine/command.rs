//! Running other programs.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::BenchError;

/// Most of what a failing program said that is shown.
const SAID_BYTES: usize = 400;

/// Runs a program to its end with `input` on its standard input.
///
/// # Errors
/// [`BenchError::Command`] when it fails, [`BenchError::Io`] when it is not there.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> Result<(), BenchError> {
    let command = format!("{program} {}", arguments.join(" "));
    let failed = || BenchError::io(format!("run `{command}` (`cargo xtask setup` installs it)"));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed())?;
    let stdin = child.stdin.take();
    let write = move || {
        if let Some(mut stdin) = stdin {
            // A program that fails early does not read on; its status tells why.
            drop(stdin.write_all(input.as_bytes()));
        }
    };
    let output = std::thread::scope(|scope| {
        scope.spawn(write);
        child.wait_with_output()
    })
    .map_err(failed())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(BenchError::Command {
            command,
            status: output.status,
            said: said.trim().chars().take(SAID_BYTES).collect(),
        });
    }
    Ok(())
}

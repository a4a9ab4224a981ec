//! The CNI plugin program; all of it is in [`skep_cni::plugin`].

use std::io::{Read, Write};
use std::process::ExitCode;

/// A configuration is a few kilobytes.
const STDIN_LIMIT: u64 = 1 << 20;

fn main() -> ExitCode {
    let mut stdin = Vec::new();
    if let Err(error) = std::io::stdin().take(STDIN_LIMIT).read_to_end(&mut stdin) {
        eprintln!("skep-cni: cannot read the network configuration: {error}");
        return ExitCode::FAILURE;
    }
    let outcome = skep_cni::plugin::run(|name| std::env::var(name).ok(), &stdin);
    if let Err(error) = std::io::stdout().write_all(outcome.stdout.as_bytes()) {
        eprintln!("skep-cni: cannot write the result: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::from(outcome.exit_code)
}

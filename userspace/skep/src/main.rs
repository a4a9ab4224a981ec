//! `skep`: clusters on this machine, the server, the agent, and what a person uses to look at them.

mod commands;
mod output;

use std::process::ExitCode;

use clap::Parser as _;
use commands::Arguments;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    output::start_logging(arguments.is_service());
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        return output::fail(&anyhow::anyhow!("another TLS provider was installed before ours"));
    }
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::fail(&error),
    }
}

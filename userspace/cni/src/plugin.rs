//! The CNI plugin: what the runtime asked in environment and standard input, in the form of the specification, becomes
//! a request to the agent; its reply becomes the result in the version that the configuration asks for.
//!
//! Knows the specification's versions 0.3.0 to 1.1.0. Also answers as the `loopback` plugin, which runtimes expect
//! beside any other.

mod call;
mod exchange;
mod loopback;
mod result;

use call::{Call, Command};

use crate::protocol::{Failure, Reply, Request, code};

/// What the program prints and ends with.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// JSON, or nothing.
    pub stdout: String,
    /// 0, or 1 when `stdout` is an error.
    pub exit_code: u8,
}

/// Does what was asked. `environment` gives the value of a variable.
pub fn run(environment: impl Fn(&str) -> Option<String>, stdin: &[u8]) -> Outcome {
    let version = result::version_for_errors(stdin);
    match answer(&environment, stdin) {
        Ok(stdout) => Outcome { stdout, exit_code: 0 },
        Err(failure) => Outcome {
            stdout: result::error(&version, &failure),
            exit_code: 1,
        },
    }
}

fn answer(environment: &dyn Fn(&str) -> Option<String>, stdin: &[u8]) -> Result<String, Failure> {
    let call = call::parse(environment, stdin)?;
    if matches!(call.command, Command::Version) {
        return Ok(result::versions(&call.version));
    }
    if call.plugin_type == "loopback" {
        return loopback::answer(&call);
    }
    let socket = call.socket.as_deref().ok_or_else(|| {
        Failure::new(
            code::INVALID_CONFIG,
            "the network configuration names no \"socket\" of the agent",
        )
    })?;
    let netns = call.open_netns()?;
    match exchange::ask(socket, &request(&call), netns.as_ref())? {
        Reply::Failed(failure) => Err(failure),
        Reply::Attached(attached) => Ok(result::attached(&call, &attached)),
        Reply::Done => Ok(String::new()),
    }
}

fn request(call: &Call) -> Request {
    let attachment = call.attachment.clone();
    match call.command {
        Command::Add => Request::Add { attachment },
        Command::Del => Request::Del { attachment },
        Command::Check => Request::Check {
            attachment,
            known: call.known_addresses.clone(),
        },
        Command::Gc => Request::Gc {
            valid: call.valid.clone(),
        },
        Command::Status | Command::Version => Request::Status,
    }
}

#[cfg(test)]
mod tests;

//! The demo workload: answers with one line that names its pod, its node and the client's address.
//!
//! HTTP on TCP 8080, the same line as an echo on UDP 8080. What it can be told to do stands in `behaviour.rs`. With the
//! argument `ask` it is the client instead: see `ask.rs`.

mod ask;
mod behaviour;
mod http;
mod udp;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};

use crate::behaviour::State;

const DEFAULT_PORT: u16 = 8080;

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        None => serve().map(|()| ExitCode::SUCCESS),
        Some("ask") => ask::run(arguments),
        Some(other) => bail!("unknown argument {other}: none to serve, `ask` to ask"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve() -> anyhow::Result<()> {
    let port = match std::env::var("PORT") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("PORT={text} is not a port number"))?,
        Err(_) => DEFAULT_PORT,
    };
    let state = Arc::new(State::from_env());
    // One socket for both families where the kernel has IPv6, else IPv4 alone.
    let tcp = match TcpListener::bind(("::", port)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("0.0.0.0", port))
            .await
            .with_context(|| format!("listen on TCP {port}"))?,
    };
    let udp = match UdpSocket::bind(("::", port)).await {
        Ok(socket) => socket,
        Err(_) => UdpSocket::bind(("0.0.0.0", port))
            .await
            .with_context(|| format!("listen on UDP {port}"))?,
    };
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let draining = async {
        terminate.recv().await;
        state.drain().await;
    };
    tokio::select! {
        () = http::serve(tcp, Arc::clone(&state)) => Ok(()),
        result = udp::serve(udp, &state) => result,
        () = draining => Ok(()),
    }
}

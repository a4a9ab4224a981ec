//! Running until stopped: SIGTERM and SIGINT cancel, a second one ends at once.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const EXIT_CODE_FORCED: i32 = 130;

/// A token that is cancelled when the process is asked to stop.
pub(super) fn shutdown_on_signal() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let cancel = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if cancel.is_cancelled() {
                std::process::exit(EXIT_CODE_FORCED);
            }
            tracing::info!("stopping");
            cancel.cancel();
        }
    });
    Ok(token)
}

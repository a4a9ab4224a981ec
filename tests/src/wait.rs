//! Waiting for a condition instead of sleeping.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

const POLL: Duration = Duration::from_millis(200);

/// Tries until it succeeds; after the time its last error is the result.
pub fn eventually<T>(what: &str, patience: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("{what}: not within {} s", patience.as_secs()));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

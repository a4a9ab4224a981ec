//! SIGINT and SIGTERM: the run ends where it is, by the ordinary way out, so that every guard does its work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};

use crate::BenchError;

/// Whether somebody wants the run to end. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches the signals for the rest of the process. Must be called while there is no other thread; a second
    /// signal ends the process at once.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn catch() -> Result<Self, BenchError> {
        let interrupt = Self::default();
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block().map_err(BenchError::io("block signals"))?;
        let seen = interrupt.clone();
        let wait = move || {
            if signals.wait().is_ok() {
                seen.0.store(true, Ordering::Relaxed);
            }
            if signals.wait().is_ok() {
                std::process::exit(130);
            }
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)
            .map_err(BenchError::io("start a thread"))?;
        Ok(interrupt)
    }

    /// Fails once a signal came.
    ///
    /// # Errors
    /// [`BenchError::Interrupted`].
    pub fn check(&self) -> Result<(), BenchError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(BenchError::Interrupted);
        }
        Ok(())
    }
}

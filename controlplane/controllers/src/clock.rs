//! Wall time, by an argument: tests tie it to tokio's clock and so can pause it.

use jiff::Timestamp;
use std::time::Duration;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Clock {
    System,
    #[cfg(test)]
    Tokio {
        epoch: Timestamp,
        start: tokio::time::Instant,
    },
}

impl Clock {
    pub(crate) fn system() -> Self {
        Self::System
    }

    #[cfg(test)]
    pub(crate) fn tokio(epoch: Timestamp) -> Self {
        Self::Tokio {
            epoch,
            start: tokio::time::Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            #[cfg(test)]
            Self::Tokio { epoch, start } => {
                epoch + jiff::SignedDuration::try_from(start.elapsed()).expect("tests are short")
            }
        }
    }
}

/// How long from `now` until `at`; nothing if that is past.
pub(crate) fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

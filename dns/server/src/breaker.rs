//! Pure: when to stop waiting for upstream servers that do not answer.
//!
//! After a few time-outs in a row every query would keep its asker waiting for seconds; so further queries fail at once,
//! but for one probe a period. The first answer closes the breaker again.

use std::time::{Duration, Instant};

/// Time-outs in a row after which upstream counts as away.
const FAILURES_TO_OPEN: u32 = 3;
/// One query a period is tried while upstream is away.
const PROBE_PERIOD: Duration = Duration::from_secs(5);
/// How long a query waits for upstream: less than resolvers wait for us (5 s), so that they get an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a probe waits: its asker would rather be told at once, like the others.
const PROBE_PATIENCE: Duration = Duration::from_millis(500);

/// Whether upstream servers answer.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    last_try: Option<Instant>,
}

impl Breaker {
    /// How long to wait for an answer to a query that is sent now; none when it must not be sent.
    pub(crate) fn permit(&mut self, now: Instant) -> Option<Duration> {
        let due = self
            .last_try
            .is_none_or(|last| now.duration_since(last) >= PROBE_PERIOD);
        let is_open = self.failures >= FAILURES_TO_OPEN;
        if is_open && !due {
            return None;
        }
        self.last_try = Some(now);
        Some(if is_open { PROBE_PATIENCE } else { PATIENCE })
    }

    /// An upstream server answered, whatever it said.
    pub(crate) fn answered(&mut self) {
        self.failures = 0;
    }

    /// No upstream server answered.
    pub(crate) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_probes_and_closes_on_an_answer() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(breaker.permit(start), Some(PATIENCE));
            breaker.failed();
        }
        assert_eq!(breaker.permit(start), None);
        assert_eq!(breaker.permit(start + PROBE_PERIOD), Some(PROBE_PATIENCE));
        breaker.failed();
        assert_eq!(breaker.permit(start + PROBE_PERIOD), None);
        assert_eq!(breaker.permit(start + 2 * PROBE_PERIOD), Some(PROBE_PATIENCE));
        breaker.answered();
        assert_eq!(breaker.permit(start + 2 * PROBE_PERIOD), Some(PATIENCE));
    }
}

//! Exponential back-off with jitter, for loops that speak to a server.

use std::time::Duration;

use rand::Rng;

/// Delays that double from `base` to `max`, each spread over 50 to 100 % of its value, so that many clients of one
/// server do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    #[must_use]
    pub fn new(base: Duration, max: Duration) -> Self {
        Self {
            base,
            max,
            failures: 0,
        }
    }

    /// The delay after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        let delay = exponential(self.base, self.max, self.failures);
        self.failures = self.failures.saturating_add(1);
        delay.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// After a success: the next delay is the shortest again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `base · 2^failures`, at most `max`.
pub(crate) fn exponential(base: Duration, max: Duration, failures: u32) -> Duration {
    match 1u32.checked_shl(failures) {
        Some(factor) => base.checked_mul(factor).map_or(max, |delay| delay.min(max)),
        None => max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let delays: Vec<_> = [0, 1, 2, 10, 31, 32, u32::MAX]
            .map(|failures| {
                exponential(Duration::from_millis(5), Duration::from_secs(1), failures).as_millis()
            })
            .into();
        assert_eq!(delays, [5, 10, 20, 1000, 1000, 1000, 1000]);
    }
}

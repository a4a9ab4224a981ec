//! Pure: how many results in a row it takes to change one's mind.

const DEFAULT_SUCCESSES: i32 = 1;
const DEFAULT_FAILURES: i32 = 3;

/// Counts results in a row.
#[derive(Debug)]
pub(super) struct Threshold {
    successes: u32,
    failures: u32,
    last: bool,
    run: u32,
}

impl Threshold {
    /// Thresholds of a probe; absent or senseless ones are upstream's defaults.
    pub(super) fn new(successes: Option<i32>, failures: Option<i32>, initially: bool) -> Self {
        let positive = |value: Option<i32>, default: i32| {
            u32::try_from(value.filter(|value| *value > 0).unwrap_or(default)).unwrap_or(1)
        };
        Self {
            successes: positive(successes, DEFAULT_SUCCESSES),
            failures: positive(failures, DEFAULT_FAILURES),
            last: initially,
            run: 0,
        }
    }

    /// Takes a result in; says what now holds, once enough of the same came in a row.
    pub(super) fn observe(&mut self, passed: bool) -> Option<bool> {
        self.run = if passed == self.last {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = passed;
        let enough = if passed { self.successes } else { self.failures };
        (self.run >= enough).then_some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_success_is_enough_by_default_and_three_failures_are_needed() {
        let mut threshold = Threshold::new(None, None, false);
        assert_eq!(threshold.observe(true), Some(true));
        let results: Vec<_> = (0..3).map(|_| threshold.observe(false)).collect();
        assert_eq!(results, [None, None, Some(false)]);
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let mut threshold = Threshold::new(Some(1), Some(2), true);
        assert_eq!(threshold.observe(false), None);
        assert_eq!(threshold.observe(true), Some(true));
        assert_eq!(threshold.observe(false), None);
        assert_eq!(threshold.observe(false), Some(false));
    }
}

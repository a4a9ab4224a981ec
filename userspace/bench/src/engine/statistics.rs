//! Medians with intervals that assume nothing about how the noise is distributed.

use serde::{Deserialize, Serialize};

/// How sure an interval should be. A report has some hundred of them, and none should lie by chance.
const CONFIDENCE: f64 = 0.99;

/// A median and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The samples' median.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// With which probability the true median lies in the interval: at least 0.99, unless there are too few
    /// samples for that; then the interval is all that was seen. 1 for a figure that was simply read.
    pub confidence: f64,
    /// How many samples.
    pub samples: usize,
}

impl Estimate {
    /// A figure that was read, not sampled.
    pub(crate) fn exact(value: f64) -> Self {
        Self {
            median: value,
            low: value,
            high: value,
            confidence: 1.0,
            samples: 1,
        }
    }

    /// A figure that is not known, but two that it lies between.
    pub(crate) fn between(low: f64, high: f64) -> Self {
        Self {
            median: f64::midpoint(low, high),
            low,
            high,
            ..Self::exact(low)
        }
    }

    /// The median of samples, with the interval between two order statistics that the sign test gives. `None`
    /// without samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let sorted = sorted(samples);
        let count = sorted.len();
        let mut rank = 0;
        let mut confidence = 1.0 - 2.0 * tail(count, 0);
        while rank + 1 < count / 2 && 1.0 - 2.0 * tail(count, rank + 1) >= CONFIDENCE {
            rank += 1;
            confidence = 1.0 - 2.0 * tail(count, rank);
        }
        Some(Self {
            median: middle(&sorted)?,
            low: *sorted.get(rank)?,
            high: *sorted.get(count - 1 - rank)?,
            confidence: confidence.max(0.0),
            samples: count,
        })
    }
}

/// The probability that at most `most` of `count` samples lie on one given side of the true median.
fn tail(count: usize, most: usize) -> f64 {
    let mut term = 1.0_f64;
    let mut sum = 0.0;
    for index in 0..=most {
        sum += term;
        term *= (count - index) as f64 / (index + 1) as f64;
    }
    sum * 0.5_f64.powf(count as f64)
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let (low, high) = (
        sorted.get((sorted.len().max(1) - 1) / 2)?,
        sorted.get(sorted.len() / 2)?,
    );
    Some(f64::midpoint(*low, *high))
}

/// The value that a share `at` (0 to 1) of the samples does not exceed; `None` without samples.
pub(crate) fn percentile(samples: &[f64], at: f64) -> Option<f64> {
    let sorted = sorted(samples);
    let rank = (at * sorted.len() as f64).ceil().max(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and the number of samples"
    )]
    let index = rank as usize - 1;
    sorted.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: u32) -> Vec<f64> {
        (1..=count).rev().map(f64::from).collect()
    }

    #[test]
    fn the_interval_is_the_narrowest_that_is_sure_enough() {
        let nine = Estimate::of(&numbers(9)).unwrap();
        assert_eq!((nine.low, nine.median, nine.high), (1.0, 5.0, 9.0));
        assert!((nine.confidence - 0.9961).abs() < 1e-3, "{nine:?}");
        let fifteen = Estimate::of(&numbers(15)).unwrap();
        assert_eq!((fifteen.low, fifteen.median, fifteen.high), (3.0, 8.0, 13.0));
        assert!((fifteen.confidence - 0.9926).abs() < 1e-3, "{fifteen:?}");
    }

    #[test]
    fn few_samples_give_all_that_was_seen_and_say_how_sure_that_is() {
        let five = Estimate::of(&numbers(5)).unwrap();
        assert_eq!((five.low, five.median, five.high), (1.0, 3.0, 5.0));
        assert!((five.confidence - 0.9375).abs() < 1e-9, "{five:?}");
        let one = Estimate::of(&[7.0]).unwrap();
        assert_eq!((one.low, one.high, one.confidence), (7.0, 7.0, 0.0));
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn percentiles_are_samples() {
        let hundred = numbers(100);
        assert_eq!(percentile(&hundred, 0.5), Some(50.0));
        assert_eq!(percentile(&hundred, 0.99), Some(99.0));
        assert_eq!(percentile(&hundred, 1.0), Some(100.0));
        assert_eq!(percentile(&[3.0], 0.99), Some(3.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}

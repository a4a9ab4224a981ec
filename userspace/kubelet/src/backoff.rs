//! How long a failing container or image waits before it is tried again. Pure: the time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

/// The first wait.
const INITIAL: Duration = Duration::from_secs(10);
/// The longest wait.
pub(crate) const MAX: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: Duration,
    updated: Timestamp,
}

/// Waits by key: 10 s, doubling up to 5 min, forgotten after twice that without a failure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoffs {
    entries: HashMap<String, Entry>,
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

impl Backoffs {
    /// If something that failed at `failed` may not be tried at `now`: the whole wait, and when it is over.
    pub(crate) fn wait(&self, key: &str, failed: Timestamp, now: Timestamp) -> Option<(Duration, Timestamp)> {
        let entry = self.entries.get(key)?;
        if since(entry.updated, failed) > 2 * MAX {
            return None;
        }
        let until = failed.checked_add(entry.delay).ok()?;
        (now < until).then_some((entry.delay, until))
    }

    /// Notes a further attempt.
    pub(crate) fn next(&mut self, key: &str, now: Timestamp) {
        self.entries
            .retain(|_, entry| since(entry.updated, now) <= 2 * MAX);
        let entry = self.entries.entry(key.to_owned());
        entry
            .and_modify(|entry| {
                entry.delay = (entry.delay * 2).min(MAX);
                entry.updated = now;
            })
            .or_insert(Entry {
                delay: INITIAL,
                updated: now,
            });
    }
}

/// A duration as Go prints whole seconds: `10s`, `1m20s`, `5m0s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn first_restart_is_immediate_and_the_waits_double() {
        let mut backoffs = Backoffs::default();
        assert_eq!(backoffs.wait("app", at(0), at(0)), None);
        let mut now = 0;
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            backoffs.next("app", at(now));
            now += 1;
            let (delay, until) = backoffs.wait("app", at(now), at(now)).unwrap();
            assert_eq!((delay.as_secs(), until), (expected, at(now + expected as i64)));
            now += expected as i64;
            assert_eq!(backoffs.wait("app", at(now - expected as i64), at(now)), None);
        }
    }

    #[test]
    fn ten_minutes_of_health_are_forgiveness() {
        let mut backoffs = Backoffs::default();
        backoffs.next("app", at(0));
        backoffs.next("app", at(10));
        assert_eq!(backoffs.wait("app", at(700), at(700)), None);
        backoffs.next("app", at(700));
        assert_eq!(backoffs.wait("app", at(701), at(701)).unwrap().0.as_secs(), 10);
    }

    #[test]
    fn durations_read_as_go_prints_them() {
        let text = |seconds| go_duration(Duration::from_secs(seconds));
        assert_eq!([text(10), text(80), text(300)], ["10s", "1m20s", "5m0s"]);
    }
}

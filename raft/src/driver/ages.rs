//! When entries came, roughly: how old is the oldest one that is still in the log?

use std::collections::VecDeque;
use std::time::Duration;

use raft_types::{LogIndex, Time};

use crate::telemetry::SATURATION_INTERVAL;

/// Marks that are kept; beyond it every other one goes, so that a log that is never compacted costs nothing.
const MARKS_MAX: usize = 1024;

/// Where the log ended at some moments, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ages(VecDeque<(LogIndex, Time)>);

impl Ages {
    /// Notes where the log begins and ends now, and answers how long ago its first entry came.
    pub(super) fn note(&mut self, now: Time, first: LogIndex, last: LogIndex) -> Duration {
        if self.0.back().is_none_or(|(_, at)| now.since(*at) >= SATURATION_INTERVAL) {
            self.0.push_back((last, now));
        }
        if self.0.len() > MARKS_MAX {
            let mut keep = false;
            self.0.retain(|_| {
                keep = !keep;
                keep
            });
        }
        while self.0.len() > 1 && self.0.front().is_some_and(|(end, _)| *end < first) {
            self.0.pop_front();
        }
        if first > last {
            return Duration::ZERO;
        }
        self.0.front().map_or(Duration::ZERO, |(_, at)| now.since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_ages_until_it_is_compacted() {
        let at = |seconds: u64| Time::from_nanos(seconds * 1_000_000_000);
        let note =
            |ages: &mut Ages, now, first, last| ages.note(at(now), LogIndex(first), LogIndex(last)).as_secs();
        let mut ages = Ages::default();
        assert_eq!(note(&mut ages, 10, 1, 5), 0);
        assert_eq!(note(&mut ages, 12, 1, 9), 2);
        assert_eq!(note(&mut ages, 15, 6, 9), 3, "entry 6 came at 12 at the latest");
        assert_eq!(note(&mut ages, 16, 10, 9), 0, "an empty log");
        for second in 20..5_000 {
            assert_eq!(note(&mut ages, second, 10, second), second - 20);
        }
        assert!(ages.0.len() <= MARKS_MAX);
    }
}

//! A server's clock: runs fast or slow, changes its rate, and jumps ahead. It never runs backwards, as a monotonic clock
//! does not.

use std::time::Duration;

use raft::Time;

/// One clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// True time at which the rate last changed.
    since: Time,
    /// What it showed then.
    shown: Time,
    /// Parts per million that it runs fast; negative for slow.
    drift: i64,
}

impl Clock {
    /// A clock that shows this at the start of all time.
    #[must_use]
    pub fn new(shown: Duration, drift: i64) -> Self {
        Self { since: Time::ZERO, shown: Time::ZERO + shown, drift }
    }

    /// What it shows at a true time.
    #[must_use]
    pub fn local(&self, now: Time) -> Time {
        let nanos = i128::from(now.as_nanos()) - i128::from(self.since.as_nanos());
        let passed = nanos + nanos * i128::from(self.drift) / 1_000_000;
        self.shown + Duration::from_nanos(u64::try_from(passed).unwrap_or(0))
    }

    /// The true time, rounded up, at which it shows this if nothing changes until then.
    #[must_use]
    pub fn global(&self, local: Time) -> Time {
        if local == Time::NEVER {
            return Time::NEVER;
        }
        let passed = i128::from(local.as_nanos()) - i128::from(self.shown.as_nanos());
        let nanos = (passed * 1_000_000) / (1_000_000 + i128::from(self.drift)) + 1;
        self.since + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// Runs at another rate from now on.
    pub fn set_drift(&mut self, now: Time, drift: i64) {
        *self = Self { since: now, shown: self.local(now), drift };
    }

    /// Jumps ahead.
    pub fn jump(&mut self, by: Duration) {
        self.shown = self.shown + by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_both_ways_over_changes() {
        let mut clock = Clock::new(Duration::from_secs(3), 20_000);
        let at = |ms| Time::from_millis(ms);
        assert_eq!(clock.local(at(1000)), at(4020));
        clock.set_drift(at(1000), -20_000);
        assert_eq!(clock.local(at(1000)), at(4020), "no step");
        assert_eq!(clock.local(at(2000)), at(5000));
        clock.jump(Duration::from_millis(500));
        assert_eq!(clock.local(at(2000)), at(5500));
        let due = clock.global(at(6480));
        assert!(clock.local(due) >= at(6480) && due <= at(3001), "{due}");
        assert_eq!(clock.global(Time::NEVER), Time::NEVER);
    }
}

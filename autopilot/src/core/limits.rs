//! How much and how fast: the rate of all steps, and the budget and the cool-down of removals over all causes.

use std::time::Duration;

use raft_types::Time;

use super::inputs::Inputs;
use super::mutant::{Mutant, mutated};
use crate::model::{Config, Reason};

/// How long until fewer than `max` of these times lie within the last `window`; `None` if that is so now.
fn wait(times: &[Time], max: usize, window: Duration, now: Time) -> Option<Duration> {
    if max == 0 {
        return None;
    }
    // The one that has to leave the window for the next to fit in.
    let pivot = times.len().checked_sub(max).and_then(|at| times.get(at))?;
    let left = (*pivot + window).since(now);
    (!left.is_zero()).then_some(left)
}

/// Why autopilot may take no step at all now.
pub(super) fn rate(inputs: &Inputs, config: &Config) -> Option<Reason> {
    let policy = &config.changes;
    let waits = wait(&inputs.memory.changes, policy.max, policy.window, inputs.now);
    let left = waits.filter(|_| !mutated(Mutant::RateIgnored))?;
    Some(Reason::RateLimit { left, max: policy.max, window: policy.window })
}

/// Why autopilot may take nothing from another dead server now.
pub(super) fn removal(inputs: &Inputs, config: &Config, votes: bool) -> Result<(), Reason> {
    let (policy, memory, now) = (&config.removal, &inputs.memory, inputs.now);
    let waits = wait(&memory.removals, policy.budget, policy.window, now);
    if let Some(left) = waits.filter(|_| !mutated(Mutant::BudgetIgnored)) {
        return Err(Reason::RemovalBudget { left, max: policy.budget, window: policy.window });
    }
    let free_at = memory
        .voter_removed_at
        .filter(|_| votes && !mutated(Mutant::RemovalCoolDownIgnored))
        .map(|at| at + policy.cool_down);
    match free_at.map(|at| at.since(now)) {
        Some(left) if !left.is_zero() => Err(Reason::RemovalCoolDown { left, required: policy.cool_down }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_may_follow_when_the_oldest_of_the_last_has_left_the_window() {
        let at = |seconds: u64| Time::from_millis(seconds * 1_000);
        let times = [at(0), at(10), at(20)];
        let window = Duration::from_secs(60);
        assert_eq!(wait(&times, 0, window, at(20)), None);
        assert_eq!(wait(&times, 4, window, at(20)), None);
        assert_eq!(wait(&times, 3, window, at(20)), Some(Duration::from_secs(40)));
        assert_eq!(wait(&times, 3, window, at(60)), None);
        assert_eq!(wait(&times, 1, window, at(60)), Some(Duration::from_secs(20)));
        assert_eq!(wait(&[], 1, window, at(60)), None);
    }
}

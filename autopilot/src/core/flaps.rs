//! How often a server turned unhealthy lately: a count that decays, as in the damping of flapping routes (RFC 2439).
//!
//! Each time adds a thousand. The count halves with every half-life, in a straight line within one, so that no two
//! machines differ by rounding. At the limit the server counts as flapping, until half of the limit is left.

use std::time::Duration;

use raft_types::Time;

use crate::model::{HealthPolicy, ServerMemory};

/// What one turn to the worse adds.
const ONE: u32 = 1_000;

/// The count is cut off here, a thousand times, so that it can always be added to.
const COUNT_MAX: u32 = 1_001 * ONE;

/// The count after some time.
fn decayed(count: u32, elapsed: Duration, half_life: Duration) -> u32 {
    let (elapsed, half_life) = (elapsed.as_nanos(), half_life.as_nanos().max(1));
    let Ok(halvings) = u32::try_from(elapsed / half_life) else { return 0 };
    let count = count.checked_shr(halvings).unwrap_or(0);
    let lost = u128::from(count) * (elapsed % half_life) / (2 * half_life);
    count - u32::try_from(lost).unwrap_or(count)
}

/// How long it takes until no more than `goal` is left.
fn time_until(mut count: u32, goal: u32, half_life: Duration) -> Duration {
    let mut time = Duration::ZERO;
    while count > goal && count > 0 {
        if count / 2 > goal {
            (count, time) = (count / 2, time.saturating_add(half_life));
            continue;
        }
        let part = half_life.as_nanos() * 2 * u128::from(count - goal) / u128::from(count);
        let part = u64::try_from(part + 1).map_or(half_life, Duration::from_nanos);
        return time.saturating_add(part.min(half_life));
    }
    time
}

/// Brings the count up to date and adds a turn to the worse, if there was one.
pub(super) fn update(seen: &mut ServerMemory, policy: &HealthPolicy, now: Time, turned_bad: bool) {
    if seen.flaps == 0 && !turned_bad {
        return;
    }
    let half_life = policy.flap_half_life;
    let count = decayed(seen.flaps, now.since(seen.flaps_at), half_life);
    let count = if turned_bad { count.saturating_add(ONE).min(COUNT_MAX) } else { count };
    let limit = policy.flap_limit.saturating_mul(ONE);
    // Rounded: between the times that count a little has decayed already.
    let reached = limit > 0 && count + ONE / 2 >= limit;
    // Rewritten only where something was added, so that rounding does not add up.
    if turned_bad || count == 0 {
        (seen.flaps, seen.flaps_at) = (count, now);
    }
    seen.flapping = reached || (seen.flapping && limit > 0 && count > limit / 2);
}

/// Writes the decayed count down as of now, for a reader that does not share the clock.
pub(super) fn settle(seen: &mut ServerMemory, policy: &HealthPolicy, now: Time) {
    seen.flaps = decayed(seen.flaps, now.since(seen.flaps_at), policy.flap_half_life);
    seen.flaps_at = now;
}

/// Until when the server counts as flapping, if it does.
pub(super) fn until(seen: &ServerMemory, policy: &HealthPolicy) -> Option<Time> {
    let goal = policy.flap_limit.saturating_mul(ONE) / 2;
    seen.flapping.then(|| seen.flaps_at + time_until(seen.flaps, goal, policy.flap_half_life))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_count_halves_with_every_half_life_and_never_grows_meanwhile() {
        assert_eq!(decayed(3_000, Duration::ZERO, MINUTE), 3_000);
        assert_eq!(decayed(3_000, MINUTE / 2, MINUTE), 2_250);
        assert_eq!(decayed(3_000, MINUTE, MINUTE), 1_500);
        assert_eq!(decayed(3_000, MINUTE * 40, MINUTE), 0);
        assert_eq!(decayed(3_000, Duration::MAX, MINUTE), 0);
        let mut last = 3_000;
        for seconds in 0..1_000 {
            let count = decayed(3_000, Duration::from_secs(seconds), MINUTE);
            assert!(count <= last);
            last = count;
        }
    }

    #[test]
    fn the_time_told_is_when_the_count_is_down() {
        for count in [1_501, 2_000, 3_000, 10_000, 1_000_000] {
            let time = time_until(count, 1_500, MINUTE);
            assert!(decayed(count, time, MINUTE) <= 1_500, "{count}");
            let before = time.saturating_sub(Duration::from_millis(200));
            assert!(decayed(count, before, MINUTE) > 1_500, "{count}");
        }
        assert_eq!(time_until(1_500, 1_500, MINUTE), Duration::ZERO);
        assert!(time_until(5, 0, MINUTE) < MINUTE * 10);
    }

    #[test]
    fn three_turns_in_a_row_make_it_flap_until_half_of_the_limit_is_left() {
        let policy = HealthPolicy::default();
        let mut seen = ServerMemory::default();
        let mut now = Time::ZERO;
        for turn in 1..=3 {
            update(&mut seen, &policy, now, true);
            // Decay between the turns is not enough to stay below the limit of three.
            assert_eq!(seen.flapping, turn == 3, "{seen:?}");
            now = now + Duration::from_nanos(1);
        }
        let until = until(&seen, &policy).unwrap();
        assert!(until > now + policy.flap_half_life / 2);
        update(&mut seen, &policy, until - Duration::from_secs(1), false);
        assert!(seen.flapping);
        update(&mut seen, &policy, until, false);
        assert!(!seen.flapping);
        assert_eq!(super::until(&seen, &policy), None);
    }
}

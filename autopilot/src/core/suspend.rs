//! When what the leader sees must not be trusted with taking anything away.
//!
//! A leader that stood still for a while, or whose network failed, finds everybody silent, and it is itself the one
//! that is ill. It waits until it has looked around again.

use raft_types::Time;

use super::compose::Tally;
use super::inputs::Inputs;
use super::mutant::{Mutant, mutated};
use crate::model::{Config, HealthReason, Reason, ServerState, State, Suspension, SuspensionCause};

/// The suspension that holds from this round on, if any.
pub(super) fn judge(inputs: &Inputs, config: &Config, state: &State, tally: &Tally) -> Option<Suspension> {
    let span = config.health.suspension;
    if span.is_zero() {
        return None;
    }
    let before = inputs.memory.suspended.filter(|suspension| suspension.until > inputs.now);
    let cause = if stood_still(inputs) && !mutated(Mutant::StandingStillIsNoDoubt) {
        SuspensionCause::TimeGap
    } else if inputs.view.is_leader && cut_off(state, tally) && !mutated(Mutant::CutOffIsNoDoubt) {
        SuspensionCause::CutOff
    } else {
        return before;
    };
    let new = Suspension { until: inputs.now + span, cause };
    Some(before.filter(|before| before.until >= new.until).unwrap_or(new))
}

/// Between two looks lies more time than a measurement may be old, or time went backwards.
fn stood_still(inputs: &Inputs) -> bool {
    inputs
        .memory
        .last_state_at
        .is_some_and(|last| inputs.now < last || inputs.now.since(last) > inputs.stats_age_max)
}

/// Too few voters are in contact for a quorum, or most of the other members fell silent lately.
fn cut_off(state: &State, tally: &Tally) -> bool {
    let others = state.servers.len().saturating_sub(1);
    tally.hearing < state.quorum || tally.silent * 2 > others
}

/// Whether the leader hears from it.
pub(super) fn in_contact(inputs: &Inputs, config: &Config, server: &ServerState) -> bool {
    server.stats.last_contact.is_some_and(|contact| contact <= config.last_contact_threshold)
        && server.stats_at.is_some_and(|at| inputs.now.since(at) <= inputs.stats_age_max)
}

/// Whether another server than this one fell silent within the span of a suspension.
pub(super) fn fell_silent(inputs: &Inputs, config: &Config, server: &ServerState) -> bool {
    let health = &server.health;
    let recently = inputs.now.since(health.stable_since) < config.health.suspension;
    recently && health.reasons.iter().any(is_silence) && server.id != inputs.view.id
}

const fn is_silence(reason: &HealthReason) -> bool {
    matches!(
        reason,
        HealthReason::NoStats { .. } | HealthReason::NoContact | HealthReason::LastContact { .. }
    )
}

/// Why nothing may be taken away now.
pub(super) fn reason(suspended: Option<Suspension>, now: Time) -> Option<Reason> {
    let suspension = suspended.filter(|s| s.until > now && !mutated(Mutant::SuspensionIgnored))?;
    Some(Reason::Suspended { cause: suspension.cause, left: suspension.until.since(now) })
}

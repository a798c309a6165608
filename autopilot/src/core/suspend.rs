//! When what the leader sees must not be trusted with taking anything away.
//!
//! A leader that stood still for a while, or whose network failed, finds everybody silent, and it is itself the one
//! that is ill. It waits until it has looked around again.

use std::time::Duration;

use raft_types::Time;

use super::inputs::Inputs;
use crate::model::{Config, HealthReason, Reason, ServerState, State, Suspension, SuspensionCause};

/// The suspension that holds from this round on, if any.
pub(super) fn judge(inputs: &Inputs, config: &Config, state: &State) -> Option<Suspension> {
    let span = config.health.suspension;
    if span.is_zero() {
        return None;
    }
    let before = inputs.memory.suspended.filter(|suspension| suspension.until > inputs.now);
    let cause = if stood_still(inputs) {
        SuspensionCause::TimeGap
    } else if inputs.view.is_leader && cut_off(inputs, config, state, span) {
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

/// Too few voters are in contact for a quorum, or most of the other members fell silent within the last `span`.
fn cut_off(inputs: &Inputs, config: &Config, state: &State, span: Duration) -> bool {
    let limit = config.last_contact_threshold;
    let in_contact = |server: &&ServerState| {
        server.stats.last_contact.is_some_and(|contact| contact <= limit)
            && server.stats_at.is_some_and(|at| inputs.now.since(at) <= inputs.stats_age_max)
    };
    let voters = state.servers.values().filter(|server| server.is_voter());
    if voters.filter(in_contact).count() < state.quorum {
        return true;
    }
    let others = || state.servers.values().filter(|server| server.id != inputs.view.id);
    let fell_silent = |server: &&ServerState| {
        let recently = inputs.now.since(server.health.stable_since) < span;
        !server.health.healthy && recently && server.health.reasons.iter().any(is_silence)
    };
    others().filter(fell_silent).count() * 2 > others().count()
}

const fn is_silence(reason: &HealthReason) -> bool {
    matches!(
        reason,
        HealthReason::NoStats { .. } | HealthReason::NoContact | HealthReason::LastContact { .. }
    )
}

/// Why nothing may be taken away now.
pub(super) fn reason(suspended: Option<Suspension>, now: Time) -> Option<Reason> {
    let suspension = suspended.filter(|suspension| suspension.until > now)?;
    Some(Reason::Suspended { cause: suspension.cause, left: suspension.until.since(now) })
}

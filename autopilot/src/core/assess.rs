//! The health rules: which hold for one server, and since when it has been as it is.

use std::time::Duration;

use raft_types::{EntryId, LogIndex, ServerId, Term, Time};

use super::inputs::{Inputs, ServerMemory};
use super::mutant::{Mutant, mutated};
use crate::model::{Config, HealthReason, NodeStatus, ServerHealth, ServerStats};

/// The newest measurement of a server, with its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) stats: ServerStats,
    pub(super) at: Option<Time>,
}

/// What a healthy log must be close to: the end of the leader's, as measured in this round. `None` without that, and
/// while the leader's log is empty.
pub(super) fn yardstick(inputs: &Inputs) -> Option<EntryId> {
    let view = &inputs.view;
    let last = if view.is_leader {
        view.last
    } else {
        let stats = fresh(inputs, view.leader.as_ref()?)?;
        EntryId { term: stats.last_term, index: stats.last_index }
    };
    (last.term != Term(0) && last.index != LogIndex::ZERO).then_some(last)
}

fn fresh<'a>(inputs: &'a Inputs, id: &ServerId) -> Option<&'a ServerStats> {
    inputs.fetched.as_ref().unwrap_or(&inputs.view.stats).get(id)
}

/// This round's measurement, or else the newest one remembered. The leader knows its own log best.
pub(super) fn sample(inputs: &Inputs, id: &ServerId) -> Sample {
    let view = &inputs.view;
    if view.is_leader && view.id == *id {
        let stats = ServerStats {
            last_contact: Some(Duration::ZERO),
            last_term: view.last.term,
            last_index: view.last.index,
        };
        return Sample { stats, at: Some(inputs.now) };
    }
    if let Some(stats) = fresh(inputs, id) {
        return Sample { stats: *stats, at: Some(inputs.now) };
    }
    inputs.memory.servers.get(id).map_or_else(
        || Sample { stats: ServerStats::default(), at: None },
        |memory| Sample { stats: memory.stats, at: memory.stats_at },
    )
}

fn too_old(inputs: &Inputs, sample: &Sample) -> Option<HealthReason> {
    let limit = inputs.stats_age_max;
    match sample.at.map(|at| inputs.now.since(at)) {
        None => Some(HealthReason::NoStats { age: None, limit }),
        Some(age) if age > limit && !mutated(Mutant::OldStatsKept) => {
            Some(HealthReason::NoStats { age: Some(age), limit })
        }
        Some(_) => None,
    }
}

/// Applies every rule; the server is healthy when no reason comes back.
///
/// The rules are those of hashicorp/raft-autopilot, with an age for measurements and arithmetic that cannot wrap.
pub(super) fn health_reasons(
    inputs: &Inputs,
    config: &Config,
    leader: Option<EntryId>,
    status: NodeStatus,
    sample: &Sample,
) -> Vec<HealthReason> {
    let mut reasons = Vec::new();
    if leader.is_none() {
        reasons.push(HealthReason::NoLeader);
    }
    let taken_for_alive = status == NodeStatus::Unknown && mutated(Mutant::UnknownIsAlive);
    if status != NodeStatus::Alive && !taken_for_alive {
        reasons.push(HealthReason::NotAlive { status });
    }
    if let Some(reason) = too_old(inputs, sample) {
        reasons.push(reason);
        return reasons;
    }
    let stats = &sample.stats;
    let limit = config.last_contact_threshold;
    match stats.last_contact {
        None => reasons.push(HealthReason::NoContact),
        Some(last_contact) if last_contact > limit && !mutated(Mutant::ContactIgnored) => {
            reasons.push(HealthReason::LastContact { last_contact, limit });
        }
        Some(_) => {}
    }
    let Some(leader) = leader else { return reasons };
    if stats.last_term != leader.term {
        reasons.push(HealthReason::LastTerm { term: stats.last_term, leader: leader.term });
    }
    let behind = leader.index.ahead_of(stats.last_index);
    if behind > config.max_trailing_logs && !mutated(Mutant::TrailingLogsIgnored) {
        reasons.push(HealthReason::TrailingLogs { behind, limit: config.max_trailing_logs });
    }
    reasons
}

/// Keeps the time of the last change of health, in either direction.
pub(super) fn with_history(
    reasons: Vec<HealthReason>,
    before: Option<&ServerMemory>,
    now: Time,
) -> ServerHealth {
    let healthy = reasons.is_empty();
    let stable_since = match before {
        Some(before) if before.healthy == healthy || mutated(Mutant::StableSinceSticks) => before.since,
        _ => now,
    };
    ServerHealth { healthy, stable_since, reasons }
}

/// From when on a server counts as stable.
///
/// A new leader has measured nobody for long. Servers that vote already are taken at their word if they are healthy
/// within the first stabilisation time of the run, so that a change of leaders alone unsettles nothing; a server
/// without a vote always has to be watched for the whole time by this leader.
pub(super) fn stable_at(
    health: &ServerHealth,
    votes: bool,
    first_state_at: Time,
    required: Duration,
) -> Time {
    if !health.healthy {
        return Time::NEVER;
    }
    if mutated(Mutant::NoProbation) {
        return health.stable_since;
    }
    if mutated(Mutant::ProbationFromStart) {
        return first_state_at + required;
    }
    let spared = votes || mutated(Mutant::EverybodySparedAtFirst);
    if spared && health.stable_since.since(first_state_at) <= required {
        return health.stable_since;
    }
    health.stable_since + required
}

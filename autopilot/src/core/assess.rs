//! The health rules: which hold for one server, since when it has been as it is, and from when on that counts.
//!
//! What the application says counts at once. What is measured counts once enough of the last measurements agree, and
//! an unhealthy server must do better than one that is healthy. With `HealthPolicy::reference` both are the plain rules
//! of hashicorp/raft-autopilot.

use std::time::Duration;

use raft_types::{EntryId, LogIndex, ServerId, Term, Time};

use super::flaps;
use super::inputs::Inputs;
use super::mutant::{Mutant, mutated};
use crate::model::{Config, HealthPolicy, HealthReason, NodeStatus, ServerHealth, ServerMemory, ServerStats};

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
        let measured = inputs.fetched.as_ref().unwrap_or(&view.stats);
        let stats = measured.get(view.leader.as_ref()?)?;
        EntryId { term: stats.last_term, index: stats.last_index }
    };
    (last.term != Term(0) && last.index != LogIndex::ZERO).then_some(last)
}

/// This round's measurement, or else the newest one remembered. The leader knows its own log best.
pub(super) fn sample(
    inputs: &Inputs,
    is_me: bool,
    measured: Option<&ServerStats>,
    before: Option<&ServerMemory>,
) -> Sample {
    let view = &inputs.view;
    if view.is_leader && is_me {
        let stats = ServerStats {
            last_contact: Some(Duration::ZERO),
            last_term: view.last.term,
            last_index: view.last.index,
        };
        return Sample { stats, at: Some(inputs.now) };
    }
    if let Some(stats) = measured {
        return Sample { stats: *stats, at: Some(inputs.now) };
    }
    let (stats, at) = before.map_or((ServerStats::default(), None), |before| (before.stats, before.stats_at));
    Sample { stats, at }
}

/// Judges one server. `seen` is what was seen of it before, and is brought up to date; `before` tells whether anything
/// was.
pub(super) fn judge(
    inputs: &Inputs,
    config: &Config,
    leader: Option<EntryId>,
    status: NodeStatus,
    sample: &Sample,
    seen: &mut ServerMemory,
    before: bool,
) -> ServerHealth {
    let now = inputs.now;
    let policy = &config.health;
    let was_healthy = before.then_some(seen.healthy);
    let mut reasons = told(inputs, leader, status, sample);
    // An unhealthy server that was measured must do better than a healthy one.
    let percent = if was_healthy == Some(false) { policy.recovery_percent } else { 100 };
    let broken = match reasons.last() {
        Some(HealthReason::NoStats { .. }) => Vec::new(),
        _ => {
            let broken = measured(config, leader, &sample.stats, percent);
            note_sample(seen, policy, inputs, !broken.is_empty());
            broken
        }
    };
    let mut doubts = Vec::new();
    if let Some(reason) = outvoted(seen, policy, was_healthy, broken.is_empty()) {
        reasons.extend(reason);
        reasons.extend(broken);
    } else if reasons.is_empty() {
        doubts = broken;
    } else {
        reasons.extend(broken);
    }
    let healthy = reasons.is_empty();
    let sticks = was_healthy.is_some() && mutated(Mutant::StableSinceSticks);
    if was_healthy != Some(healthy) && !sticks {
        seen.since = now;
        seen.credit = if mutated(Mutant::CreditKept) { seen.credit } else { Duration::ZERO };
    }
    // A leader that has lost its place says nothing about the others.
    let turned_bad =
        was_healthy == Some(true) && !healthy && !matches!(reasons.first(), Some(HealthReason::NoLeader));
    flaps::update(seen, policy, now, turned_bad);
    seen.healthy = healthy;
    seen.proven |= healthy;
    ServerHealth { healthy, stable_since: seen.since, reasons, doubts }
}

/// What counts at once: without a leader, by the word of the application, or without a measurement.
fn told(inputs: &Inputs, leader: Option<EntryId>, status: NodeStatus, sample: &Sample) -> Vec<HealthReason> {
    let mut reasons = Vec::new();
    if leader.is_none() {
        reasons.push(HealthReason::NoLeader);
    }
    let taken_for_alive = status == NodeStatus::Unknown && mutated(Mutant::UnknownIsAlive);
    if status != NodeStatus::Alive && !taken_for_alive {
        reasons.push(HealthReason::NotAlive { status });
    }
    let limit = inputs.stats_age_max;
    match sample.at.map(|at| inputs.now.since(at)) {
        None => reasons.push(HealthReason::NoStats { age: None, limit }),
        Some(age) if age > limit && !mutated(Mutant::OldStatsKept) => {
            reasons.push(HealthReason::NoStats { age: Some(age), limit });
        }
        Some(_) => {}
    }
    reasons
}

/// The rules that this measurement breaks, with a part of the limits in percent.
fn measured(
    config: &Config,
    leader: Option<EntryId>,
    stats: &ServerStats,
    percent: u32,
) -> Vec<HealthReason> {
    let mut reasons = Vec::new();
    let limit = config.last_contact_threshold.saturating_mul(percent) / 100;
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
    let limit = part(config.max_trailing_logs, percent);
    if behind > limit && !mutated(Mutant::TrailingLogsIgnored) {
        reasons.push(HealthReason::TrailingLogs { behind, limit });
    }
    reasons
}

fn part(limit: u64, percent: u32) -> u64 {
    let part = u128::from(limit) * u128::from(percent) / 100;
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// Remembers whether this measurement was good. Looks in quick succession count as one: the newest of them.
fn note_sample(seen: &mut ServerMemory, policy: &HealthPolicy, inputs: &Inputs, bad: bool) {
    // A measurement may be three update intervals old, so this is half an interval.
    let apart = inputs.stats_age_max / 6;
    let quick = seen.sampled_at.is_some_and(|at| inputs.now.since(at) < apart);
    if quick {
        seen.samples &= !1;
    } else {
        seen.samples <<= 1;
        seen.sampled_at = Some(inputs.now);
    }
    let mask = u32::MAX >> (32 - policy.samples.clamp(1, 32));
    seen.samples = (seen.samples | u32::from(bad)) & mask;
}

/// Whether the last measurements make the server unhealthy, and what is to be said if the newest is good.
fn outvoted(
    seen: &ServerMemory,
    policy: &HealthPolicy,
    was_healthy: Option<bool>,
    good: bool,
) -> Option<Option<HealthReason>> {
    let bad = seen.samples.count_ones();
    let enough = bad >= policy.bad_samples;
    match was_healthy {
        // Nothing is known about it yet: what is seen counts.
        None => (!good).then_some(None),
        Some(true) if !enough => None,
        Some(false) if good && !enough => None,
        Some(_) if good => {
            Some(Some(HealthReason::RecentMisses { bad, of: policy.samples, limit: policy.bad_samples }))
        }
        Some(_) => Some(None),
    }
}

/// Until when the server counts as joining: a member without a vote that was never seen healthy, as long as entries
/// arrive, or a snapshot is on its way and it answers.
pub(super) fn joining_until(
    inputs: &Inputs,
    policy: &HealthPolicy,
    id: &ServerId,
    votes: bool,
    before: Option<LogIndex>,
    seen: &mut ServerMemory,
) -> Option<Time> {
    if votes || seen.proven || policy.joining.is_zero() {
        return None;
    }
    let arrived = before.is_none_or(|before| seen.stats.last_index > before);
    // The leader sends a snapshot again and again, also to one that is dead.
    let answers = seen.stats.last_contact.is_some_and(|contact| contact <= policy.joining);
    if arrived || (answers && inputs.view.installing.contains(id)) {
        seen.progress_at = Some(inputs.now);
    }
    seen.progress_at.map(|at| at + policy.joining).filter(|until| *until > inputs.now)
}

/// From when on a server counts as stable.
///
/// A new leader has measured nobody for long. Servers that vote already are taken at their word if they are healthy
/// within the first stabilisation time of the run, so that a change of leaders alone unsettles nothing; a server
/// without a vote has to be watched for the whole time, by this leader or by one whose ledger it has taken over.
pub(super) fn stable_at(
    seen: &ServerMemory,
    policy: &HealthPolicy,
    votes: bool,
    first_state_at: Time,
    required: Duration,
) -> Time {
    if !seen.healthy {
        return Time::NEVER;
    }
    if mutated(Mutant::NoProbation) {
        return seen.since;
    }
    if mutated(Mutant::ProbationFromStart) {
        return first_state_at + required;
    }
    let spared = votes || mutated(Mutant::EverybodySparedAtFirst);
    let steady = if spared && seen.since.since(first_state_at) <= required {
        seen.since
    } else {
        seen.since + required.saturating_sub(seen.credit)
    };
    flaps::until(seen, policy)
        .filter(|_| !mutated(Mutant::FlapsIgnored))
        .map_or(steady, |until| until.max(steady))
}

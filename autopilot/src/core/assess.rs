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

/// What every server is judged by in one round, worked out once.
pub(super) struct Yardstick<'a> {
    inputs: &'a Inputs,
    policy: &'a HealthPolicy,
    /// What a healthy log must be close to.
    pub(super) leader: Option<EntryId>,
    limits: Limits,
    /// The limits for those who were unhealthy, and must do better.
    recovery: Limits,
    /// Looks in quicker succession are one measurement.
    apart: Duration,
    /// Which of the remembered measurements count.
    mask: u32,
}

/// How far a server may be from the leader.
#[derive(Clone, Copy)]
struct Limits {
    last_contact: Duration,
    behind: u64,
}

impl Limits {
    /// A part of the configured limits, in percent.
    fn of(config: &Config, percent: u32) -> Self {
        let behind = u128::from(config.max_trailing_logs) * u128::from(percent) / 100;
        Self {
            last_contact: config.last_contact_threshold.saturating_mul(percent) / 100,
            behind: u64::try_from(behind).unwrap_or(u64::MAX),
        }
    }
}

impl<'a> Yardstick<'a> {
    pub(super) fn new(inputs: &'a Inputs, config: &'a Config) -> Self {
        let policy = &config.health;
        Self {
            inputs,
            policy,
            leader: leader_log(inputs),
            limits: Limits::of(config, 100),
            recovery: Limits::of(config, policy.recovery_percent),
            // A measurement may be three update intervals old, so this is half an interval.
            apart: inputs.stats_age_max / 6,
            mask: u32::MAX >> (32 - policy.samples.clamp(1, 32)),
        }
    }
}

/// The end of the leader's log, as measured in this round. `None` without that, and while that log is empty.
fn leader_log(inputs: &Inputs) -> Option<EntryId> {
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

/// Judges one server, into `health`. `seen` is what was seen of it before, and is brought up to date; `before` tells
/// whether anything was.
pub(super) fn judge(
    by: &Yardstick<'_>,
    status: NodeStatus,
    sample: &Sample,
    seen: &mut ServerMemory,
    before: bool,
    health: &mut ServerHealth,
) {
    let (now, policy) = (by.inputs.now, by.policy);
    let was_healthy = before.then_some(seen.healthy);
    let ServerHealth { reasons, doubts, .. } = health;
    told(by, status, sample, reasons);
    doubts.clear();
    if !matches!(reasons.last(), Some(HealthReason::NoStats { .. })) {
        let limits = if was_healthy == Some(false) { by.recovery } else { by.limits };
        measured(by.leader, limits, &sample.stats, doubts);
        note_sample(by, seen, !doubts.is_empty());
    }
    let outvoted = outvoted(seen, policy, was_healthy, doubts.is_empty());
    // Beside another reason there is no doubt left.
    if outvoted.is_some() || !reasons.is_empty() {
        reasons.extend(outvoted.flatten());
        reasons.append(doubts);
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
    (health.healthy, health.stable_since) = (healthy, seen.since);
}

/// What counts at once: without a leader, by the word of the application, or without a measurement.
fn told(by: &Yardstick<'_>, status: NodeStatus, sample: &Sample, reasons: &mut Vec<HealthReason>) {
    reasons.clear();
    if by.leader.is_none() {
        reasons.push(HealthReason::NoLeader);
    }
    let taken_for_alive = status == NodeStatus::Unknown && mutated(Mutant::UnknownIsAlive);
    if status != NodeStatus::Alive && !taken_for_alive {
        reasons.push(HealthReason::NotAlive { status });
    }
    let limit = by.inputs.stats_age_max;
    match sample.at.map(|at| by.inputs.now.since(at)) {
        None => reasons.push(HealthReason::NoStats { age: None, limit }),
        Some(age) if age > limit && !mutated(Mutant::OldStatsKept) => {
            reasons.push(HealthReason::NoStats { age: Some(age), limit });
        }
        Some(_) => {}
    }
}

/// The rules that this measurement breaks.
fn measured(leader: Option<EntryId>, limits: Limits, stats: &ServerStats, reasons: &mut Vec<HealthReason>) {
    let limit = limits.last_contact;
    match stats.last_contact {
        None => reasons.push(HealthReason::NoContact),
        Some(last_contact) if last_contact > limit && !mutated(Mutant::ContactIgnored) => {
            reasons.push(HealthReason::LastContact { last_contact, limit });
        }
        Some(_) => {}
    }
    let Some(leader) = leader else { return };
    if stats.last_term != leader.term {
        reasons.push(HealthReason::LastTerm { term: stats.last_term, leader: leader.term });
    }
    let behind = leader.index.ahead_of(stats.last_index);
    let limit = limits.behind;
    if behind > limit && !mutated(Mutant::TrailingLogsIgnored) {
        reasons.push(HealthReason::TrailingLogs { behind, limit });
    }
}

/// Remembers whether this measurement was good. Looks in quick succession count as one: the newest of them.
fn note_sample(by: &Yardstick<'_>, seen: &mut ServerMemory, bad: bool) {
    let now = by.inputs.now;
    let quick = seen.sampled_at.is_some_and(|at| now.since(at) < by.apart);
    if quick {
        seen.samples &= !1;
    } else {
        seen.samples <<= 1;
        seen.sampled_at = Some(now);
    }
    seen.samples = (seen.samples | u32::from(bad)) & by.mask;
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
    by: &Yardstick<'_>,
    id: &ServerId,
    votes: bool,
    before: Option<LogIndex>,
    seen: &mut ServerMemory,
) -> Option<Time> {
    let Yardstick { inputs, policy, .. } = by;
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

//! Chooses at most one of the judged candidates and tells what became of the others.

use std::collections::BTreeMap;

use raft_types::{ServerId, Time};

use super::candidates::Candidate;
use super::inputs::{CoolDown, Inputs, Mode};
use super::mutant::{Mutant, mutated};
use super::policy::Policy;
use super::safety::Safety;
use super::{limits, orders};
use crate::model::{
    Action, BlockedBy, Config, Decision, Plan, PlannedStep, RaftState, Reason, ServerState, State, Verdict,
};

/// What is considered, in this order.
pub(super) struct Considered {
    /// A vote that changes hands, orders, and the promoter's wishes.
    pub(super) wishes: Vec<Candidate>,
    /// Dead members.
    pub(super) removals: Vec<Candidate>,
}

/// Considers the wishes first, then the removals; the first that may be done is done.
pub(super) fn plan(
    inputs: &Inputs,
    config: &Config,
    state: &State,
    considered: Considered,
    suspended: Option<&Reason>,
    policy: &Policy<'_>,
) -> Plan {
    let mut plan = Plan {
        at: inputs.now,
        term: inputs.term,
        configuration_index: state.configuration_index,
        step: None,
        decisions: Vec::new(),
    };
    if let (Some(reason), Some(leader)) = (policy.fault(), &state.leader) {
        // A fault is about no server in particular; the leader is the one that runs the promoter.
        let (server, action) = (leader.clone(), Action::Promote);
        plan.decisions.push(Decision { server, action, verdict: Verdict::Refused, reason });
    }
    let gate = gate(inputs);
    let unasked = gate.clone().or_else(|| unasked_gate(inputs, config));
    let for_wishes = unasked.or(match inputs.mode {
        Mode::Watch | Mode::Prune => Some(Reason::NextRound),
        Mode::Reconcile => None,
    });
    let for_removals = match inputs.mode {
        Mode::Prune => gate,
        Mode::Watch | Mode::Reconcile => for_wishes.clone(),
    };
    for candidate in considered.wishes {
        consider(inputs, &mut plan, candidate, for_wishes.as_ref(), suspended);
    }
    for candidate in considered.removals {
        consider(inputs, &mut plan, candidate, for_removals.as_ref(), suspended);
    }
    plan
}

/// Why nothing may be changed without being asked.
fn unasked_gate(inputs: &Inputs, config: &Config) -> Option<Reason> {
    if !inputs.reconciliation_enabled && !mutated(Mutant::SwitchIgnored) {
        return Some(Reason::ReconciliationDisabled);
    }
    orders::gate(inputs).or_else(|| limits::rate(inputs, config))
}

/// Why nobody may change members in this round, requests included.
fn gate(inputs: &Inputs) -> Option<Reason> {
    let view = &inputs.view;
    if !view.is_leader || view.term != inputs.term {
        return Some(Reason::NotLeader);
    }
    if let Some(error) = &inputs.orders_unread {
        return Some(Reason::OrdersUnread { error: error.clone() });
    }
    if inputs.config.is_none() && !mutated(Mutant::ActsWithoutConfig) {
        return Some(Reason::NoConfig);
    }
    if !view.ready {
        return Some(Reason::LeaderNotReady);
    }
    let changing = !view.configuration_committed || view.configuration.is_joint();
    if changing && !mutated(Mutant::ActsWhileChanging) {
        return Some(Reason::ChangeInProgress { index: view.configuration_index });
    }
    None
}

fn consider(
    inputs: &Inputs,
    plan: &mut Plan,
    candidate: Candidate,
    gate: Option<&Reason>,
    suspended: Option<&Reason>,
) {
    let Candidate { server, action, judged } = candidate;
    let (verdict, reason) = match judged {
        // Only time stands in the way.
        Err(reason) if reason.left().is_some() => (Verdict::Deferred, reason),
        Err(reason) => (Verdict::Refused, reason),
        Ok((step, reason)) => {
            let gate = gate.or(suspended.filter(|_| step.loser().is_some()));
            let cooling = inputs.cool_down.as_ref().filter(|cool| cool.step == step);
            match (gate, &plan.step, cooling) {
                (Some(gate), _, _) => (Verdict::Deferred, gate.clone()),
                (None, Some(first), _) => {
                    (Verdict::Deferred, Reason::OneStepAtATime { first: first.step.id().clone() })
                }
                (None, None, Some(cool)) if cool.until > inputs.now => {
                    (Verdict::Deferred, cooling_down(inputs, cool))
                }
                (None, None, _) => {
                    plan.step = Some(PlannedStep { step, reason: reason.clone() });
                    (Verdict::Chosen, reason)
                }
            }
        }
    };
    plan.decisions.push(Decision { server, action, verdict, reason });
}

fn cooling_down(inputs: &Inputs, cool: &CoolDown) -> Reason {
    Reason::CoolDown { left: cool.until.since(inputs.now), error: cool.error.clone() }
}

/// Writes down why each server does not vote yet; returns when the first of them may, by the passing of time.
pub(super) fn blocked(
    inputs: &Inputs,
    servers: &mut BTreeMap<ServerId, ServerState>,
    safety: &Safety<'_>,
    plan: &Plan,
    policy: &mut Policy<'_>,
) -> Option<Time> {
    let promotions = plan.decisions.iter().filter(|decision| decision.action == Action::Promote);
    // The first decision about a server stands; a repeated name is only a complaint.
    let decided: BTreeMap<&ServerId, &Decision> = promotions.rev().map(|d| (&d.server, d)).collect();
    let mut first = None;
    for server in servers.values_mut().filter(|server| !server.is_voter()) {
        server.blocked_by = blocked_by(inputs, safety, decided.get(&server.id).copied(), policy, server);
        let earliest = server.blocked_by.as_ref().and_then(|blocked| blocked.earliest);
        first = first.into_iter().chain(earliest.filter(|at| *at > inputs.now)).min();
    }
    first
}

fn blocked_by(
    inputs: &Inputs,
    safety: &Safety<'_>,
    decided: Option<&Decision>,
    policy: &mut Policy<'_>,
    server: &ServerState,
) -> Option<BlockedBy> {
    if server.is_voter() {
        return None;
    }
    let without_time = |reason| Some(BlockedBy { reason, earliest: None });
    if server.raft_state == RaftState::Staging {
        return without_time(Reason::IsStaging);
    }
    if let Some(absence) = policy.absence() {
        return without_time(absence);
    }
    if !policy.may_vote(server) {
        let (promoter, node_type) = (policy.name().clone(), server.node_type.clone());
        return without_time(Reason::NeverVotes { promoter, node_type });
    }
    if let Some(reason) = server.health.reasons.first() {
        return without_time(Reason::Health(reason.clone()));
    }
    if !server.is_stable(inputs.now) {
        let reason = safety.probation(server);
        return Some(BlockedBy { reason, earliest: Some(server.stable_at) });
    }
    let Some(decided) = decided else {
        return without_time(Reason::NotWanted { promoter: policy.name().clone() });
    };
    let reason = match (&decided.verdict, &decided.reason) {
        (Verdict::Chosen, _) => Reason::NextRound,
        // The step that comes first gives it the vote of another.
        (_, Reason::OneStepAtATime { first }) if *first == server.id => Reason::NextRound,
        (Verdict::Deferred | Verdict::Refused, reason) => reason.clone(),
    };
    let earliest = match &reason {
        Reason::NextRound => inputs.next_reconcile,
        reason => reason.left().map(|left| inputs.now + left),
    };
    Some(BlockedBy { reason, earliest })
}

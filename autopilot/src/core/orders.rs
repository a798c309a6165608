//! What was ordered: pauses, maintenance, cordons and drains.

use raft_types::ServerId;

use super::candidates::Candidate;
use super::inputs::Inputs;
use super::mutant::{Mutant, mutated};
use super::safety::Safety;
use crate::model::{Action, Order, Reason, ServerState, State, Step, server_order};

/// Why nothing may be changed without being asked: a pause, or maintenance of the whole cluster.
pub(super) fn gate(inputs: &Inputs) -> Option<Reason> {
    let now = inputs.now;
    if let Some(pause) =
        inputs.hand.paused.as_ref().filter(|pause| pause.until > now && !mutated(Mutant::PauseIgnored))
    {
        let (by, why) = (pause.order.by.clone(), pause.order.why.clone());
        return Some(Reason::Paused { by, why, left: pause.until.since(now) });
    }
    maintenance(inputs, None)
}

/// Why this server, or the whole cluster, is to be left alone.
pub(super) fn maintenance(inputs: &Inputs, server: Option<&ServerId>) -> Option<Reason> {
    let now = inputs.now;
    let open = inputs.hand.windows.iter().filter(|w| w.server.as_ref() == server && w.is_open(now));
    let last = open.max_by_key(|window| window.until).filter(|_| !mutated(Mutant::MaintenanceIgnored))?;
    let (by, why) = (last.order.by.clone(), last.order.why.clone());
    Some(Reason::Maintenance { by, why, left: last.until.since(now) })
}

/// Why this server must get neither a vote nor leadership.
pub(super) fn held_back(inputs: &Inputs, server: &ServerId) -> Option<Reason> {
    let hand = &inputs.hand;
    if let Some(Order { by, why, .. }) =
        hand.drained.get(server).filter(|_| !mutated(Mutant::DrainedVotesAgain))
    {
        return Some(Reason::Drained { by: by.clone(), why: why.clone() });
    }
    if let Some(Order { by, why, .. }) = hand.cordoned.get(server).filter(|_| !mutated(Mutant::CordonIgnored))
    {
        return Some(Reason::Cordoned { by: by.clone(), why: why.clone() });
    }
    maintenance(inputs, Some(server))
}

/// Whether a drained server has neither vote nor leadership.
pub(super) fn is_drained(state: &State, server: &ServerId) -> bool {
    state.server(server).is_none_or(|server| !server.is_voter() && !server.is_leader())
}

/// What is left to do for the drained servers: hand leadership over first, then give up the vote.
pub(super) fn drains(inputs: &Inputs, state: &State, safety: &Safety<'_>) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (id, Order { by, why, .. }) in &inputs.hand.drained {
        let Some(server) = state.server(id).filter(|_| !is_drained(state, id)) else { continue };
        if mutated(Mutant::DrainForgotten) {
            continue;
        }
        let reason = Reason::Drained { by: by.clone(), why: why.clone() };
        if server.is_leader() {
            candidates.push(hand_over(inputs, state, safety, reason));
            continue;
        }
        let judged = safety.demotion(server).map(|()| (Step::Demote { id: id.clone() }, reason));
        candidates.push(Candidate { server: id.clone(), action: Action::Demote, judged });
    }
    candidates
}

/// Leadership goes to the voter that has been healthy for longest.
fn hand_over(inputs: &Inputs, state: &State, safety: &Safety<'_>, reason: Reason) -> Candidate {
    let fit =
        |server: &&ServerState| safety.transfer(server).is_ok() && held_back(inputs, &server.id).is_none();
    let successor = state.servers.values().filter(fit).min_by(|a, b| server_order(a, b));
    let action = Action::Transfer;
    match (successor, &state.leader) {
        (Some(server), _) => {
            let id = server.id.clone();
            Candidate { server: id.clone(), action, judged: Ok((Step::Transfer { id }, reason)) }
        }
        (None, leader) => {
            let server = leader.clone().unwrap_or_else(|| inputs.view.id.clone());
            Candidate { server, action, judged: Err(Reason::NoSuccessor) }
        }
    }
}

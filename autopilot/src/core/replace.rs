//! One vote handed on in a single step, so that there is neither one voter too many nor one too few in between.
//!
//! Where the engine cannot change two members at once, the newcomer is promoted first and the dead voter goes next. The
//! number of failures that the cluster survives in between is the same in either order; this one keeps the floor.

use raft_types::ServerId;

use super::candidates::Candidate;
use super::inputs::Inputs;
use super::orders;
use super::removals::Removal;
use super::safety::Safety;
use crate::model::{Action, Config, DeadClass, Reason, ServerState, State, Step};

/// The swap that is due, if the engine can do it: the first who should lose a vote, for the first who may get one.
///
/// First those that are drained, then unfit ones that the promoter wants to demote, then the dead.
pub(super) fn swap(
    inputs: &Inputs,
    config: &Config,
    state: &State,
    safety: &Safety<'_>,
    wishes: &[Candidate],
    removals: &[Removal],
) -> Option<Candidate> {
    if !config.removal.swap || !inputs.capabilities.atomic {
        return None;
    }
    let (id, address) = wishes.iter().find_map(|candidate| match &candidate.judged {
        Ok((Step::Promote { id, address }, _)) => Some((id.clone(), address.clone())),
        _ => None,
    })?;
    let newcomer = state.server(&id)?;
    let losers = drained(inputs, state).chain(unfit(state, wishes)).chain(dead(removals));
    let (out, loser) = losers
        .filter_map(|loser| Some((state.server(loser.id)?, loser)))
        .find(|(out, _)| safety.swap(newcomer, out).is_ok())?;
    let reason = Reason::Replaces { server: out.id.clone(), why: loser.why };
    let step = Step::Swap { id: id.clone(), address, out: out.id.clone(), class: loser.class };
    Some(Candidate { server: id, action: Action::Swap, judged: Ok((step, reason)) })
}

/// Who should lose a vote.
struct Loser<'a> {
    id: &'a ServerId,
    why: String,
    /// If it is dead and should go altogether.
    class: Option<DeadClass>,
}

fn drained<'a>(inputs: &'a Inputs, state: &'a State) -> impl Iterator<Item = Loser<'a>> {
    let votes = |id: &&ServerId| state.server(id).is_some_and(ServerState::is_voter);
    inputs.hand.drained.keys().filter(votes).filter_map(|id| {
        let why = orders::held_back(inputs, id)?.to_string();
        Some(Loser { id, why, class: None })
    })
}

fn unfit<'a>(state: &'a State, wishes: &'a [Candidate]) -> impl Iterator<Item = Loser<'a>> {
    let unfit = |id: &ServerId| state.server(id).is_some_and(|server| !server.health.healthy);
    wishes.iter().filter(move |wish| wish.action == Action::Demote && unfit(&wish.server)).filter_map(
        |wish| {
            let why = match &wish.judged {
                Ok((_, why)) => why,
                // What speaks against it is only that there would be one voter fewer.
                Err(why @ (Reason::MinQuorum { .. } | Reason::QuorumAfter { .. })) => why,
                Err(_) => return None,
            };
            Some(Loser { id: &wish.server, why: why.to_string(), class: None })
        },
    )
}

/// The dead go altogether: they cannot show any more that they understand such a change, as those who stay must.
fn dead(removals: &[Removal]) -> impl Iterator<Item = Loser<'_>> {
    removals.iter().filter_map(|removal| {
        let (class, why) = removal.replaceable.as_ref()?;
        Some(Loser { id: &removal.candidate.server, why: why.to_string(), class: Some(*class) })
    })
}

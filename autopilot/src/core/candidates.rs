//! What the promoter wishes, in the order in which it is considered, each judged.

use std::collections::BTreeSet;

use raft_types::ServerId;

use super::inputs::Inputs;
use super::orders;
use super::policy::Policy;
use super::safety::Safety;
use crate::model::{Action, Reason, ServerState, State, Step};
use crate::promoter::{Changes, PromoterInput, Wish};

/// One considered step.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) server: ServerId,
    pub(super) action: Action,
    /// The step and why it should be taken, or why it must not be.
    pub(super) judged: Result<(Step, Reason), Reason>,
}

impl Candidate {
    pub(super) fn refused(server: &ServerId, action: Action, reason: Reason) -> Self {
        Self { server: server.clone(), action, judged: Err(reason) }
    }
}

/// The promoter's wishes in the order of hashicorp/raft-autopilot: with an odd number of voters one unhealthy voter
/// is demoted first, so that its replacement does not make the number even while one is down; then promotions,
/// demotions, and leadership last.
pub(super) fn wishes(
    inputs: &Inputs,
    input: &PromoterInput<'_>,
    safety: &Safety<'_>,
    policy: &mut Policy<'_>,
) -> Vec<Candidate> {
    let changes = policy.changes(input);
    let Changes { promotions, demotions, leader } = &changes;
    let promotions = judge(input.state, policy, Action::Promote, promotions, |policy, server| {
        if !policy.may_vote(server) {
            let (promoter, node_type) = (policy.name().clone(), server.node_type.clone());
            return Err(Reason::NeverVotes { promoter, node_type });
        }
        free(inputs, server)?;
        safety.promotion(server)?;
        Ok(Step::Promote { id: server.id.clone(), address: server.address.clone() })
    });
    let mut demotions = judge(input.state, policy, Action::Demote, demotions, |_, server| {
        match orders::maintenance(inputs, Some(&server.id)) {
            Some(reason) => return Err(reason),
            None => safety.demotion(server)?,
        }
        Ok(Step::Demote { id: server.id.clone() })
    });
    let transfer = judge(input.state, policy, Action::Transfer, leader.as_slice(), |_, server| {
        free(inputs, server)?;
        safety.transfer(server)?;
        Ok(Step::Transfer { id: server.id.clone() })
    });
    let mut ordered = Vec::new();
    if input.state.voters.len() % 2 == 1 {
        let unhealthy = |id: &ServerId| input.state.server(id).is_some_and(|server| !server.health.healthy);
        // Not by whether it is safe: the order is what is wanted, and safety judges each in its turn.
        let sensible = |candidate: &Candidate| {
            !matches!(
                candidate.judged,
                Err(Reason::IsLeader | Reason::NotVoter | Reason::IsStaging | Reason::PromoterFault { .. })
            )
        };
        if let Some(at) = demotions.iter().position(|c| sensible(c) && unhealthy(&c.server)) {
            ordered.push(demotions.remove(at));
        }
    }
    ordered.extend(promotions);
    ordered.extend(demotions);
    ordered.extend(transfer);
    ordered
}

/// Nobody ordered that the server gets neither vote nor leadership.
fn free(inputs: &Inputs, server: &ServerState) -> Result<(), Reason> {
    orders::held_back(inputs, &server.id).map_or(Ok(()), Err)
}

fn judge(
    state: &State,
    policy: &mut Policy<'_>,
    action: Action,
    wishes: &[Wish],
    mut rule: impl FnMut(&mut Policy<'_>, &ServerState) -> Result<Step, Reason>,
) -> Vec<Candidate> {
    let mut seen = BTreeSet::new();
    let mut candidates = Vec::new();
    for wish in wishes {
        let id = &wish.server;
        if !seen.insert(id) {
            let fault = policy.wrong("it names the server twice");
            candidates.push(Candidate::refused(id, action, fault));
            continue;
        }
        let Some(server) = state.server(id) else {
            let fault = policy.wrong("it names a server that is no member");
            candidates.push(Candidate::refused(id, action, fault));
            continue;
        };
        let why = Reason::Policy { promoter: policy.name().clone(), text: wish.reason.clone() };
        let judged = rule(policy, server).map(|step| (step, why));
        candidates.push(Candidate { server: id.clone(), action, judged });
    }
    candidates
}

//! What could be done, in the order in which it is considered, each judged: the promoter's wishes, then removals.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raft_types::ServerId;

use super::inputs::{Inputs, Mode};
use super::mutant::{Mutant, mutated};
use super::policy::Policy;
use super::safety::Safety;
use crate::model::{Action, DeadClass, NodeStatus, Reason, ServerState, State, Step};
use crate::promoter::{Changes, DeadServers, PromoterInput, Wish};

/// One considered step.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) server: ServerId,
    pub(super) action: Action,
    /// The step and why it should be taken, or why it must not be.
    pub(super) judged: Result<(Step, Reason), Reason>,
}

impl Candidate {
    fn refused(server: &ServerId, action: Action, reason: Reason) -> Self {
        Self { server: server.clone(), action, judged: Err(reason) }
    }
}

/// The promoter's wishes in the order of hashicorp/raft-autopilot: with an odd number of voters one unhealthy voter
/// is demoted first, so that its replacement does not make the number even while one is down; then promotions,
/// demotions, and leadership last.
pub(super) fn wishes(
    input: &PromoterInput<'_>,
    safety: &Safety<'_>,
    policy: &mut Policy<'_>,
) -> Vec<Candidate> {
    let changes = policy.changes(input);
    let Changes { promotions, demotions, leader } = &changes;
    let promotions = judge(input.state, policy, Action::Promote, promotions, |policy, server| {
        if !policy.may_vote(server) {
            let (promoter, node_type) = (policy.name().to_owned(), server.node_type.clone());
            return Err(Reason::NeverVotes { promoter, node_type });
        }
        safety.promotion(server)?;
        Ok(Step::Promote { id: server.id.clone(), address: server.address.clone() })
    });
    let mut demotions = judge(input.state, policy, Action::Demote, demotions, |_, server| {
        safety.demotion(server)?;
        Ok(Step::Demote { id: server.id.clone() })
    });
    let transfer = judge(input.state, policy, Action::Transfer, leader.as_slice(), |_, server| {
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
        let why = Reason::Policy { promoter: policy.name().to_owned(), text: wish.reason.clone() };
        let judged = rule(policy, server).map(|step| (step, why));
        candidates.push(Candidate { server: id.clone(), action, judged });
    }
    candidates
}

/// The dead members: those that the application does not know (stale), and those that it reports as down or gone
/// (failed). A member of which it cannot tell is in neither.
pub(crate) fn dead(state: &State) -> DeadServers {
    let mut dead = DeadServers::new();
    for server in state.servers.values() {
        let is_dead = match server.node_status {
            NodeStatus::Failed | NodeStatus::Left => true,
            NodeStatus::Unknown => mutated(Mutant::UnknownIsDead),
            NodeStatus::Alive => false,
        };
        if is_dead {
            let class = DeadClass::of(server.known, server.suffrage);
            dead.entry(class).or_default().insert(server.id.clone());
        }
    }
    dead
}

/// The removals, in the order of [`DeadClass`], and the reasons why doubtful members stay.
pub(super) fn removals(
    inputs: &Inputs,
    input: &PromoterInput<'_>,
    safety: &Safety<'_>,
    policy: &mut Policy<'_>,
) -> Vec<Candidate> {
    let state = input.state;
    let dead = dead(state);
    let in_general = application_doubt(inputs, state);
    let clean = input.config.cleanup_dead_servers || mutated(Mutant::CleanupSwitchIgnored);
    let switched_off = inputs.mode != Mode::Prune && !clean;
    let keep = policy.keep_failed(input, &dead);
    let mut candidates = Vec::new();
    for (class, ids) in &dead {
        for server in ids.iter().filter_map(|id| state.server(id)) {
            let judged = may_go(in_general.as_ref(), switched_off, keep.as_ref(), server, policy)
                .and_then(|()| safety.removal(server))
                .and_then(|()| grace(inputs, input, server))
                .map(|()| (Step::Remove { id: server.id.clone(), class: *class }, cause(server)));
            candidates.push(Candidate { server: server.id.clone(), action: Action::Remove, judged });
        }
    }
    for server in state.servers.values().filter(|s| s.node_status == NodeStatus::Unknown) {
        candidates.push(Candidate::refused(&server.id, Action::Remove, Reason::StatusUnknown));
    }
    let is_dead = |id: &ServerId| dead.values().any(|ids| ids.contains(id));
    for id in keep.iter().flat_map(|keep| keep.keys()).filter(|id| !is_dead(id)) {
        let fault = policy.wrong("it keeps a server that is not a dead member");
        candidates.push(Candidate::refused(id, Action::Remove, fault));
    }
    candidates
}

fn cause(server: &ServerState) -> Reason {
    if server.known { Reason::Failed { status: server.node_status } } else { Reason::Stale }
}

fn may_go(
    in_general: Option<&Reason>,
    switched_off: bool,
    keep: Option<&BTreeMap<ServerId, String>>,
    server: &ServerState,
    policy: &Policy<'_>,
) -> Result<(), Reason> {
    if server.is_leader() && !mutated(Mutant::LeaderRemoved) {
        return Err(Reason::IsLeader);
    }
    if let Some(reason) = in_general {
        return Err(reason.clone());
    }
    if switched_off {
        return Err(Reason::CleanupDisabled);
    }
    let Some(keep) = keep else {
        return Err(policy.wrong("it panicked when asked whom to keep"));
    };
    match keep.get(&server.id) {
        Some(text) => Err(Reason::KeptByPolicy { promoter: policy.name().to_owned(), text: text.clone() }),
        None => Ok(()),
    }
}

/// A restart, a lost gossip message and a member that the application has yet to hear of all look like death for a
/// moment. Without being asked, autopilot removes only who has been down for as long as a server must be up to count,
/// and has not answered the leader for as long either: an application that is blind, or wrong, for longer must not cost a
/// live server its place. Whoever left on purpose may go at once.
fn grace(inputs: &Inputs, input: &PromoterInput<'_>, server: &ServerState) -> Result<(), Reason> {
    let left_on_purpose =
        (server.known || mutated(Mutant::StaleIsLeft)) && server.node_status == NodeStatus::Left;
    if inputs.mode == Mode::Prune || left_on_purpose || mutated(Mutant::NoGrace) {
        return Ok(());
    }
    let silent_for = silent_for(inputs, server);
    if silent_for <= input.config.last_contact_threshold {
        return Err(Reason::StillAnswers { last_contact: silent_for });
    }
    let (required, down_for) = (input.stabilization(), inputs.now.since(server.health.stable_since));
    match required.saturating_sub(down_for.min(silent_for)) {
        Duration::ZERO => Ok(()),
        left => Err(Reason::Grace { left, required }),
    }
}

/// How long ago it last answered the leader, as the engine saw it and as it was measured; for ever if it never did.
fn silent_for(inputs: &Inputs, server: &ServerState) -> Duration {
    if mutated(Mutant::AnswersIgnored) {
        return Duration::MAX;
    }
    let engine = inputs.view.stats.get(&server.id).and_then(|stats| stats.last_contact);
    let age = |at| inputs.now.since(at);
    let measured =
        server.stats.last_contact.zip(server.stats_at.map(age)).map(|(c, age)| c.saturating_add(age));
    engine.into_iter().chain(measured).min().unwrap_or(Duration::MAX)
}

/// Why what the application says must not be trusted with a removal, if so: what it does not say proves nothing when
/// it did not answer, knows nobody, or misses the one server that is certainly there.
fn application_doubt(inputs: &Inputs, state: &State) -> Option<Reason> {
    if let Some(error) = &inputs.known.error {
        return Some(Reason::ApplicationError { error: error.clone() });
    }
    if mutated(Mutant::BlindApplicationTrusted) {
        return None;
    }
    if inputs.known.servers.is_empty() {
        return Some(Reason::ApplicationKnowsNobody);
    }
    match &state.leader {
        None => Some(Reason::NotLeader),
        Some(leader) if inputs.known.servers.contains_key(leader) => None,
        Some(leader) => Some(Reason::ApplicationMissesLeader { leader: leader.clone() }),
    }
}

//! Which dead members could be removed, and why the others stay.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_types::ServerId;

use super::candidates::Candidate;
use super::inputs::{Inputs, Mode};
use super::mutant::{Mutant, mutated};
use super::policy::Policy;
use super::safety::Safety;
use super::{floor, limits, orders};
use crate::model::{Action, DeadClass, NodeStatus, Reason, ServerState, State, Step};
use crate::promoter::{DeadServers, PromoterInput};

/// One removal that was considered.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    pub(super) candidate: Candidate,
    /// What kind of dead it is and why its vote may be given to another server, if it may.
    pub(super) replaceable: Option<(DeadClass, Reason)>,
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
    somebody_dead: bool,
) -> Vec<Removal> {
    let state = input.state;
    // Nobody has to be looked for where everybody is alive.
    let suspects = state.servers.values().take_while(|_| somebody_dead);
    let dead = if somebody_dead { dead(state) } else { DeadServers::new() };
    let general = General {
        doubt: application_doubt(inputs, state),
        switched_off: inputs.mode != Mode::Prune
            && !input.config.cleanup_dead_servers
            && !mutated(Mutant::CleanupSwitchIgnored),
        keep: policy.keep_failed(input, &dead),
    };
    let mut removals = Vec::new();
    for (class, ids) in &dead {
        for server in ids.iter().filter_map(|id| state.server(id)) {
            removals.push(judge(inputs, input, safety, policy, &general, server, *class));
        }
    }
    for server in suspects.filter(|s| s.node_status == NodeStatus::Unknown) {
        removals.push(refused(&server.id, Reason::StatusUnknown));
    }
    let is_dead = |id: &ServerId| dead.values().any(|ids| ids.contains(id));
    for id in general.keep.iter().flat_map(|keep| keep.keys()).filter(|id| !is_dead(id)) {
        removals.push(refused(id, policy.wrong("it keeps a server that is not a dead member")));
    }
    removals
}

fn refused(server: &ServerId, reason: Reason) -> Removal {
    Removal { candidate: Candidate::refused(server, Action::Remove, reason), replaceable: None }
}

/// What holds for all removals of a round.
struct General {
    doubt: Option<Reason>,
    switched_off: bool,
    /// `None` when the promoter did not say.
    keep: Option<BTreeMap<ServerId, String>>,
}

fn judge(
    inputs: &Inputs,
    input: &PromoterInput<'_>,
    safety: &Safety<'_>,
    policy: &mut Policy<'_>,
    general: &General,
    server: &ServerState,
    class: DeadClass,
) -> Removal {
    let asked = inputs.mode == Mode::Prune;
    // Its own word is enough; nobody has to wonder where it is.
    let trusted = asked || left_on_purpose(server);
    let may_go = may_go(inputs, general, server, policy);
    let numbers = safety.removal(server).and_then(|()| match trusted || !server.is_voter() {
        true => Ok(()),
        false => floor::removal(input.config, input.state),
    });
    let surely_dead = match trusted {
        true => Ok(()),
        false => joining(inputs, server)
            .and_then(|()| corroborated(inputs, input, server))
            .and_then(|()| grace(inputs, input, server, policy)),
    };
    let in_time = surely_dead.and_then(|()| match asked {
        true => Ok(()),
        false => limits::removal(inputs, input.config, server.is_voter()),
    });
    let cause = if server.known { Reason::Failed { status: server.node_status } } else { Reason::Stale };
    let replaceable =
        (server.is_voter() && may_go.is_ok() && in_time.is_ok()).then(|| (class, cause.clone()));
    let step = Step::Remove { id: server.id.clone(), class };
    let judged = may_go.and(numbers).and(in_time).map(|()| (step, cause));
    let candidate = Candidate { server: server.id.clone(), action: Action::Remove, judged };
    Removal { candidate, replaceable }
}

fn left_on_purpose(server: &ServerState) -> bool {
    (server.known || mutated(Mutant::StaleIsLeft)) && server.node_status == NodeStatus::Left
}

fn may_go(
    inputs: &Inputs,
    general: &General,
    server: &ServerState,
    policy: &Policy<'_>,
) -> Result<(), Reason> {
    if server.is_leader() && !mutated(Mutant::LeaderRemoved) {
        return Err(Reason::IsLeader);
    }
    if let Some(reason) = &general.doubt {
        return Err(reason.clone());
    }
    if general.switched_off {
        return Err(Reason::CleanupDisabled);
    }
    let Some(keep) = &general.keep else {
        return Err(policy.wrong("it did not say whom to keep"));
    };
    if let Some(text) = keep.get(&server.id) {
        return Err(Reason::KeptByPolicy { promoter: policy.name().clone(), text: text.clone() });
    }
    // Whoever works on it knows that it is down.
    orders::maintenance(inputs, Some(&server.id)).map_or(Ok(()), Err)
}

fn joining(inputs: &Inputs, server: &ServerState) -> Result<(), Reason> {
    match server.joining_until {
        Some(until) if until > inputs.now => Err(Reason::Joining { left: until.since(inputs.now) }),
        _ => Ok(()),
    }
}

/// Whether enough others agree, where others are to be asked.
fn corroborated(inputs: &Inputs, input: &PromoterInput<'_>, server: &ServerState) -> Result<(), Reason> {
    let required = input.config.health.witnesses;
    let heard = inputs.witnesses.get(&server.id).copied().unwrap_or_default();
    let required = if mutated(Mutant::OneWitnessEnough) { required.min(1) } else { required };
    let contradicted = heard.dead <= heard.alive && !mutated(Mutant::LivingWitnessesIgnored);
    if required == 0 || (heard.dead >= required && !contradicted) || mutated(Mutant::WitnessesIgnored) {
        return Ok(());
    }
    Err(Reason::NotCorroborated { dead: heard.dead, alive: heard.alive, required })
}

/// A restart, a lost gossip message and a member that the application has yet to hear of all look like death for a
/// moment. How long one may last depends on what a return is worth. Whoever has answered the leader within that time is
/// not dead: an application that is blind, or wrong, for longer must not cost a live server its place.
fn grace(
    inputs: &Inputs,
    input: &PromoterInput<'_>,
    server: &ServerState,
    policy: &mut Policy<'_>,
) -> Result<(), Reason> {
    let removal = &input.config.removal;
    let after = match server.is_voter() {
        true => removal.voter_after,
        false if removal.replica_after.is_some() && !policy.may_vote(server) => removal.replica_after,
        false => removal.nonvoter_after,
    };
    let required = after.unwrap_or_else(|| input.stabilization());
    if mutated(Mutant::NoGrace) {
        return Ok(());
    }
    let silent_for = silent_for(inputs, server);
    if silent_for <= input.config.last_contact_threshold {
        return Err(Reason::StillAnswers { last_contact: silent_for });
    }
    let down_for = inputs.now.since(server.health.stable_since);
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

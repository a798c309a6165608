//! V4: where it all ends once the faults are over. And A15: then the report is the truth.

use std::collections::BTreeSet;

use autopilot::{Action, Config, State, Verdict as Decided};
use raft::{Configuration, ServerId, Suffrage};

use crate::check::Verdict;
use crate::pilot::policy::Wilful;
use crate::pilot::{Fleet, Flight, Pilot, Policy};
use crate::server::SimServer;

/// Whether the members are what the policy and the orders want of the machines that are left. Below the number of voters that
/// the run saw stable dead ones may stay.
///
/// # Errors
/// Who is missing, or is there and should not be.
pub fn reached(
    flight: &Flight,
    fleet: &Fleet,
    servers: &[SimServer],
    leader: usize,
    pilot: &Pilot,
) -> Verdict {
    let (size, hand) = (pilot.state.stable_size, &pilot.hand);
    let core = servers[leader].core.as_ref().ok_or("the leader is down")?;
    let configuration = core.configuration();
    if configuration.is_joint() || core.configuration_index() > core.commit_index() {
        return Err("a change is under way".to_owned());
    }
    let gone: BTreeSet<&ServerId> = fleet.gone.iter().map(|node| servers[*node].id()).collect();
    let dead: Vec<_> = configuration.servers().iter().filter(|server| gone.contains(&server.id)).collect();
    let up = |id: &ServerId| servers.iter().any(|server| server.id() == id && server.is_up());
    let witnesses = configuration.servers().iter().filter(|member| up(&member.id)).count() - 1;
    if witnesses >= flight.config.health.witnesses {
        dead_are_out(&flight.config, configuration, &dead, size)?;
    }
    drained_are_done(pilot, configuration, servers[leader].id())?;
    let held = |id: &ServerId| hand.cordoned.contains_key(id) || hand.drained.contains_key(id);
    for (node, server) in servers.iter().enumerate() {
        if fleet.gone.contains(&node) || fleet.kept_out.contains(&node) {
            continue;
        }
        let suffrage = configuration.server(server.id()).map(|member| member.suffrage);
        let wants_vote =
            flight.policy != Policy::Wilful && !flight.policy.is_replica(node) && !held(server.id());
        match suffrage {
            None => return Err(format!("{} lives and is no member", server.id())),
            Some(Suffrage::Nonvoter) if wants_vote => {
                let blocked = pilot.state.server(server.id()).and_then(|server| server.blocked_by.as_ref());
                return Err(format!("{} has no vote: {blocked:?}", server.id()));
            }
            Some(_) => {}
        }
    }
    let (members, votes) = (configuration.servers().len(), configuration.voters_count());
    let free = configuration.servers().iter().filter(|member| !held(&member.id)).count();
    let wanted = members.min(Wilful::VOTERS).min(free.max(1))..=Wilful::VOTERS.max(flight.config.min_quorum);
    if flight.policy == Policy::Wilful && dead.is_empty() && !wanted.contains(&votes) {
        return Err(format!("{votes} of {members} members vote"));
    }
    Ok(())
}

/// Whoever is drained has neither vote nor leadership, or the last round said why not.
fn drained_are_done(pilot: &Pilot, configuration: &Configuration, leader: &ServerId) -> Verdict {
    let takes = [Action::Demote, Action::Transfer];
    for id in pilot.hand.drained.keys() {
        let refused = pilot.plan.decisions.iter().any(|decision| {
            decision.server == *id && decision.verdict == Decided::Refused && takes.contains(&decision.action)
        });
        if (configuration.is_voter(id) || id == leader) && !refused {
            return Err(format!("{id} is drained, still votes or leads, and nobody says why"));
        }
    }
    Ok(())
}

/// Dead voters may stay only where taking them out would leave fewer voters than there should be.
fn dead_are_out(
    config: &Config,
    configuration: &Configuration,
    dead: &[&raft::Server],
    size: Option<usize>,
) -> Verdict {
    if !config.cleanup_dead_servers {
        return Ok(());
    }
    let voters = configuration.voters_count();
    let size = size.unwrap_or_else(|| voters.saturating_sub(1) | 1);
    let floor = match config.removal.only_when_replaced {
        true => size,
        false if config.removal.floor_from_size && config.min_quorum == 0 => size,
        false => 0,
    };
    let needed = voters <= config.min_quorum.max(floor);
    let wrong = dead.iter().find(|server| server.suffrage == Suffrage::Nonvoter || !needed);
    wrong.map_or(Ok(()), |server| Err(format!("{} is gone for good and still a member", server.id)))
}

/// A15: health and tolerance are told as they are.
///
/// # Errors
/// What is told and what is true.
pub fn truth_is_told(state: &State, configuration: &Configuration, servers: &[SimServer]) -> Verdict {
    let up: BTreeSet<&ServerId> = servers.iter().filter(|s| s.is_up()).map(SimServer::id).collect();
    let alive = configuration.voters().filter(|server| up.contains(&server.id)).count();
    let tolerance = alive.saturating_sub(configuration.quorum());
    let healthy = configuration.servers().iter().all(|server| up.contains(&server.id));
    if state.failure_tolerance == tolerance && state.healthy == healthy {
        return Ok(());
    }
    let told: Vec<_> = state.servers.values().map(|s| (&s.id, &s.health.reasons)).collect();
    Err(format!(
        "tolerance {} and health {} are told, {tolerance} and {healthy} are true: {told:?}",
        state.failure_tolerance, state.healthy
    ))
}

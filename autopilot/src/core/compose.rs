//! Puts the state together from what the engine, the application and the promoter say.

use std::collections::BTreeMap;

use raft_types::{EntryId, Server, ServerId, Suffrage, Time};

use super::assess;
use super::inputs::{Inputs, Memory, ServerMemory};
use super::mutant::{Mutant, mutated};
use super::policy::Policy;
use crate::model::{Config, NodeStatus, RaftState, ServerState, Severity, State, server_order};

/// The state without what depends on decisions (`blocked_by`).
pub(super) fn state(inputs: &Inputs, config: &Config, policy: &mut Policy<'_>) -> State {
    let view = &inputs.view;
    let first_state_at = inputs.memory.first_state_at.unwrap_or(inputs.now);
    let leader_log = assess::yardstick(inputs);
    let servers: BTreeMap<ServerId, ServerState> = view
        .configuration
        .servers()
        .iter()
        .map(|member| (member.id.clone(), server(inputs, config, first_state_at, leader_log, member)))
        .collect();
    let mut state = State {
        at: inputs.now,
        first_state_at,
        term: view.term,
        leader: view.leader.clone().filter(|leader| servers.contains_key(leader)),
        last: leader_log.unwrap_or_default(),
        configuration_index: view.configuration_index,
        configuration_committed: view.configuration_committed,
        server_stabilization_time: config.server_stabilization_time,
        promoter: policy.name().to_owned(),
        servers,
        ..State::default()
    };
    summarise(&mut state);
    describe(&mut state, policy);
    state
}

fn server(
    inputs: &Inputs,
    config: &Config,
    first_state_at: Time,
    leader_log: Option<EntryId>,
    member: &Server,
) -> ServerState {
    let known = inputs.known.servers.get(&member.id);
    // A member that the application does not know has left as far as it is concerned.
    let node_status = known.map_or(NodeStatus::Left, |server| server.node_status);
    let sample = assess::sample(inputs, &member.id);
    let reasons = assess::health_reasons(inputs, config, leader_log, node_status, &sample);
    let before = inputs.memory.servers.get(&member.id);
    let health = assess::with_history(reasons, before, inputs.now);
    let votes = member.suffrage == Suffrage::Voter;
    let raft_state = match (inputs.view.leader.as_ref() == Some(&member.id), votes) {
        (true, _) => RaftState::Leader,
        (false, true) => RaftState::Voter,
        (false, false) => RaftState::Nonvoter,
    };
    let required = config.server_stabilization_time;
    ServerState {
        id: member.id.clone(),
        // A member that the application has forgotten keeps its name, so that people know who it was.
        name: known.map(|k| &k.name).or(before.map(|b| &b.name)).cloned().unwrap_or_default(),
        address: member.address.clone(),
        version: known.map(|k| &k.version).or(before.map(|b| &b.version)).cloned().unwrap_or_default(),
        meta: known.map(|server| server.meta.clone()).unwrap_or_default(),
        known: known.is_some(),
        node_status,
        suffrage: member.suffrage,
        raft_state,
        node_type: crate::model::NodeType::VOTER,
        stats: sample.stats,
        stats_at: sample.at,
        stable_at: assess::stable_at(&health, votes, first_state_at, required),
        health,
        blocked_by: None,
        details: BTreeMap::new(),
    }
}

fn summarise(state: &mut State) {
    let mut voters: Vec<&ServerState> = state.servers.values().filter(|server| server.is_voter()).collect();
    voters.sort_by(|a, b| server_order(a, b));
    let alive = |server: &&&ServerState| server.health.healthy || mutated(Mutant::ToleranceCountsTheDead);
    let healthy = voters.iter().filter(alive).count();
    state.quorum = voters.len() / 2 + 1;
    state.failure_tolerance = healthy.saturating_sub(state.quorum);
    let all_voters_healthy = !voters.is_empty() && healthy == voters.len();
    let ids = voters.into_iter().map(|server| server.id.clone()).collect();
    state.voters = ids;
    state.healthy = !state.servers.is_empty() && state.servers.values().all(|server| server.health.healthy);
    state.severity = match (state.healthy, all_voters_healthy) {
        (true, _) => Severity::Healthy,
        (false, true) => Severity::Informational,
        (false, false) if state.failure_tolerance > 0 => Severity::Degraded,
        (false, false) => Severity::QuorumAtRisk,
    };
}

/// What the promoter adds. It sees the state without its own additions, whatever the order of the servers.
fn describe(state: &mut State, policy: &mut Policy<'_>) {
    let described: Vec<_> = state
        .servers
        .values()
        .map(|server| (policy.node_type(server, state), policy.server_details(server, state)))
        .collect();
    for (server, (node_type, details)) in state.servers.values_mut().zip(described) {
        server.node_type = node_type;
        server.details = details;
    }
    state.details = policy.state_details(state);
    state.optimistic_failure_tolerance = policy.optimistic_failure_tolerance(state).unwrap_or_else(|| {
        let standby = |server: &&ServerState| !server.is_voter() && server.health.healthy;
        let standbys = state.servers.values().filter(standby);
        state.failure_tolerance + standbys.filter(|server| policy.may_vote(server)).count()
    });
}

/// What the next round must know. Servers that are no members any more are forgotten.
pub(super) fn memory(state: &State) -> Memory {
    let servers = state.servers.values().map(|server| {
        let memory = ServerMemory {
            name: server.name.clone(),
            version: server.version.clone(),
            healthy: server.health.healthy,
            since: server.health.stable_since,
            stats: server.stats,
            stats_at: server.stats_at,
        };
        (server.id.clone(), memory)
    });
    Memory { first_state_at: Some(state.first_state_at), servers: servers.collect() }
}

//! Puts the state together from what the engine, the application and the promoter say.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

use raft_types::{EntryId, Server, ServerId, Suffrage, Time};

use super::inputs::Inputs;
use super::mutant::{Mutant, mutated};
use super::policy::Policy;
use super::{assess, flaps, floor, orders, tolerance};
use crate::model::{
    Config, KnownServer, Memory, NodeStatus, NodeType, RaftState, ServerMemory, ServerState, ServerStats,
    Severity, State, server_order,
};

/// The state without what depends on decisions (`blocked_by`), and what is remembered of each server.
pub(super) fn state(
    inputs: &Inputs,
    config: &Config,
    policy: &mut Policy<'_>,
) -> (State, BTreeMap<ServerId, ServerMemory>) {
    let view = &inputs.view;
    let first_state_at = inputs.memory.first_state_at.unwrap_or(inputs.now);
    let leader_log = assess::yardstick(inputs);
    let mut sources = Sources::new(inputs);
    let mut members: Vec<&Server> = view.configuration.servers().iter().collect();
    members.sort_by(|a, b| a.id.cmp(&b.id));
    let mut remembered = Vec::with_capacity(members.len());
    let servers = members.into_iter().map(|member| {
        let (server, memory) =
            server(inputs, config, first_state_at, leader_log, member, sources.of(&member.id));
        remembered.push((member.id.clone(), memory));
        (member.id.clone(), server)
    });
    let servers: BTreeMap<ServerId, ServerState> = servers.collect();
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
    state.stable_size = floor::stable_size(inputs, &state);
    describe(inputs, &mut state, policy);
    (state, remembered.into_iter().collect())
}

/// What there is about a server, looked up in step with the ordered members: each list is walked once.
struct Sources<'a> {
    known: Walk<'a, KnownServer>,
    measured: Walk<'a, ServerStats>,
    seen: Walk<'a, ServerMemory>,
}

type Walk<'a, T> = Peekable<btree_map::Iter<'a, ServerId, T>>;
type Found<'a> = (Option<&'a KnownServer>, Option<&'a ServerStats>, Option<&'a ServerMemory>);

impl<'a> Sources<'a> {
    fn new(inputs: &'a Inputs) -> Self {
        Self {
            known: inputs.known.servers.iter().peekable(),
            measured: inputs.fetched.as_ref().unwrap_or(&inputs.view.stats).iter().peekable(),
            seen: inputs.memory.servers.iter().peekable(),
        }
    }

    fn of(&mut self, id: &ServerId) -> Found<'a> {
        (find(&mut self.known, id), find(&mut self.measured, id), find(&mut self.seen, id))
    }
}

fn find<'a, T>(walk: &mut Walk<'a, T>, id: &ServerId) -> Option<&'a T> {
    loop {
        let (at, value) = walk.peek()?;
        match (*at).cmp(id) {
            Ordering::Less => walk.next(),
            // Not passed, for a configuration that was decoded may name a server twice.
            Ordering::Equal => return Some(*value),
            Ordering::Greater => return None,
        };
    }
}

fn server(
    inputs: &Inputs,
    config: &Config,
    first_state_at: Time,
    leader_log: Option<EntryId>,
    member: &Server,
    (known, measured, before): Found<'_>,
) -> (ServerState, ServerMemory) {
    // A member that the application does not know has left as far as it is concerned.
    let node_status = known.map_or(NodeStatus::Left, |server| server.node_status);
    let sample = assess::sample(inputs, &member.id, measured, before);
    let (health, mut seen) = assess::judge(inputs, config, leader_log, node_status, &sample, before.cloned());
    (seen.stats, seen.stats_at) = (sample.stats, sample.at);
    if let Some(known) = known {
        // A member that the application forgets later keeps its name, so that people know who it was.
        seen.name.clone_from(&known.name);
        seen.version.clone_from(&known.version);
    }
    let votes = member.suffrage == Suffrage::Voter;
    let raft_state = match (inputs.view.leader.as_ref() == Some(&member.id), votes) {
        (true, _) => RaftState::Leader,
        (false, true) => RaftState::Voter,
        (false, false) => RaftState::Nonvoter,
    };
    let policy = &config.health;
    let arrived_before = before.map(|before| before.stats.last_index);
    let joining_until = assess::joining_until(inputs, policy, &member.id, votes, arrived_before, &mut seen);
    let required = config.server_stabilization_time;
    let state = ServerState {
        id: member.id.clone(),
        name: seen.name.clone(),
        address: member.address.clone(),
        version: seen.version.clone(),
        meta: known.map(|server| server.meta.clone()).unwrap_or_default(),
        known: known.is_some(),
        node_status,
        suffrage: member.suffrage,
        raft_state,
        joining_until,
        node_type: NodeType::VOTER,
        stats: sample.stats,
        stats_at: sample.at,
        stable_at: assess::stable_at(&seen, policy, votes, first_state_at, required),
        flapping_until: flaps::until(&seen, policy),
        flaps: seen.flaps,
        health,
        blocked_by: None,
        details: BTreeMap::new(),
    };
    (state, seen)
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
fn describe(inputs: &Inputs, state: &mut State, policy: &mut Policy<'_>) {
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
    let standby = |server: &ServerState, policy: &mut Policy<'_>| {
        !server.is_voter()
            && server.health.healthy
            && orders::held_back(inputs, &server.id).is_none()
            && policy.may_vote(server)
    };
    state.optimistic_failure_tolerance = policy.optimistic_failure_tolerance(state).unwrap_or_else(|| {
        let standbys = state.servers.values().filter(|server| standby(server, policy));
        // Without a quorum nobody can be promoted any more.
        let working = state.healthy_voters_count() >= state.quorum;
        state.failure_tolerance + if working { standbys.count() } else { 0 }
    });
    let domains: BTreeMap<&ServerId, String> = state
        .servers
        .values()
        .filter_map(|server| Some((&server.id, policy.failure_domain(server)?)))
        .collect();
    let tolerance =
        tolerance::by_domain(state, |server| domains.get(&server.id).cloned(), |s| standby(s, policy));
    drop(domains);
    state.domain_tolerance = tolerance;
}

/// What the next round must know. Servers that are no members any more are forgotten.
pub(super) fn memory(inputs: &Inputs, state: &State, servers: BTreeMap<ServerId, ServerMemory>) -> Memory {
    let before = &inputs.memory;
    Memory {
        first_state_at: Some(state.first_state_at),
        last_state_at: Some(inputs.now),
        servers,
        voters: state.voters.len(),
        stable_size: state.stable_size,
        suspended: None,
        changes: before.changes.clone(),
        removals: before.removals.clone(),
        voter_removed_at: before.voter_removed_at,
        tombstones: before.tombstones.clone(),
        refused: Vec::new(),
        drained: Vec::new(),
    }
}

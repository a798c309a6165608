//! Puts the state together from what the engine, the application and the promoter say.

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

use raft_types::{Server, ServerId, Suffrage, Time};

use super::inputs::{Inputs, News, Spare};
use super::mutant::{Mutant, mutated};
use super::policy::Policy;
use super::tolerance::Standing;
use super::{assess, flaps, floor, news, suspend};
use crate::model::{
    Config, KnownServer, Memory, Metadata, NodeStatus, NodeType, RaftState, ServerMemory, ServerState,
    ServerStats, Severity, State, same_text, server_order, share,
};

/// The state without what depends on decisions (`blocked_by`), and what is remembered of each server. What is spare is
/// filled again where the members are the same ones.
pub(super) fn state(
    inputs: &Inputs,
    config: &Config,
    policy: &mut Policy<'_>,
    spare: &mut Spare,
) -> (State, BTreeMap<ServerId, ServerMemory>, Tally) {
    let view = &inputs.view;
    let (state, memory) = (std::mem::take(&mut spare.state), std::mem::take(&mut spare.memory));
    let members = in_order(view.configuration.servers(), &state.servers, &mut spare.order);
    let mut servers = same_keys(state.servers, &members, ServerState::blank);
    let mut remembered = same_keys(memory.servers, &members, |_| ServerMemory::default());
    let mut filler = Filler {
        inputs,
        config,
        first_state_at: inputs.memory.first_state_at.unwrap_or(inputs.now),
        yardstick: assess::Yardstick::new(inputs, config),
        sources: Sources::new(inputs),
    };
    // Found once, for to compare an id with each is to read them all.
    let position = |id: &ServerId| members.binary_search_by(|member| member.id.cmp(id)).ok();
    let (me, leader) = (position(&view.id), view.leader.as_ref().and_then(position));
    let mut tally = Tally::default();
    for (at, ((member, server), seen)) in
        members.iter().zip(servers.values_mut()).zip(remembered.values_mut()).enumerate()
    {
        let role = Role { is_me: me == Some(at), leads: leader == Some(at) };
        let before = filler.fill(member, role, server, seen);
        tally.count(inputs, config, server, before);
    }
    let mut state = State {
        at: inputs.now,
        first_state_at: filler.first_state_at,
        term: view.term,
        leader: view.leader.clone().filter(|leader| servers.contains_key(leader)),
        last: filler.yardstick.leader.unwrap_or_default(),
        configuration_index: view.configuration_index,
        configuration_committed: view.configuration_committed,
        server_stabilization_time: config.server_stabilization_time,
        promoter: policy.name().to_string(),
        servers,
        ..State::default()
    };
    summarise(&mut state, &tally);
    state.stable_size = floor::stable_size(inputs, &state);
    describe(inputs, &mut state, policy);
    (state, remembered, tally)
}

/// By id. Of a server that is named twice, as a decoded configuration may, the last entry counts.
///
/// `order` is how an earlier round sorted them. Where the members are those of the spare map, it is right, and nothing has
/// to be sorted, nor an id to be read.
fn in_order<'a>(
    servers: &'a [Server],
    spare: &BTreeMap<ServerId, ServerState>,
    order: &mut Vec<usize>,
) -> Vec<&'a Server> {
    let mut members = Vec::with_capacity(servers.len());
    members.extend(order.iter().filter_map(|at| servers.get(*at)));
    if members.len() == servers.len() && are_keys(&members, spare) {
        return members;
    }
    *order = (0..servers.len()).collect();
    order.sort_by(|a, b| servers[*a].id.cmp(&servers[*b].id));
    order.dedup_by(|next, kept| {
        let same = servers[*next].id == servers[*kept].id;
        if same {
            *kept = *next;
        }
        same
    });
    members.clear();
    members.extend(order.iter().map(|at| &servers[*at]));
    members
}

fn are_keys<T>(members: &[&Server], map: &BTreeMap<ServerId, T>) -> bool {
    map.len() == members.len() && map.keys().zip(members).all(|(id, member)| same_id(id, &member.id))
}

/// The map itself if its keys are these members, and else a new one.
fn same_keys<T>(
    spare: BTreeMap<ServerId, T>,
    members: &[&Server],
    blank: impl Fn(&Server) -> T,
) -> BTreeMap<ServerId, T> {
    if are_keys(members, &spare) {
        return spare;
    }
    members.iter().map(|member| (member.id.clone(), blank(member))).collect()
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

fn same_id(a: &ServerId, b: &ServerId) -> bool {
    same_text(a.as_str(), b.as_str())
}

fn find<'a, T>(walk: &mut Walk<'a, T>, id: &ServerId) -> Option<&'a T> {
    loop {
        let (at, value) = walk.peek()?;
        if same_id(at, id) {
            let value = *value;
            walk.next();
            return Some(value);
        }
        if *at > id {
            return None;
        }
        walk.next();
    }
}

/// Fills in one member after the other, in order.
struct Filler<'a> {
    inputs: &'a Inputs,
    config: &'a Config,
    first_state_at: Time,
    yardstick: assess::Yardstick<'a>,
    sources: Sources<'a>,
}

/// What a member is in this round, beyond what the configuration says.
#[derive(Clone, Copy)]
struct Role {
    is_me: bool,
    leads: bool,
}

impl Filler<'_> {
    /// Fills in one member and tells whether it was healthy before, if it was seen.
    fn fill(
        &mut self,
        member: &Server,
        role: Role,
        server: &mut ServerState,
        seen: &mut ServerMemory,
    ) -> Option<bool> {
        let (known, measured, before) = self.sources.of(&member.id);
        let Self { inputs, config, first_state_at, yardstick, .. } = self;
        match before {
            Some(before) => seen.copy_from(before),
            None => *seen = ServerMemory::default(),
        }
        // A member that the application does not know has left as far as it is concerned.
        let node_status = known.map_or(NodeStatus::Left, |server| server.node_status);
        let sample = assess::sample(inputs, role.is_me, measured, before);
        assess::judge(yardstick, node_status, &sample, seen, before.is_some(), &mut server.health);
        (seen.stats, seen.stats_at) = (sample.stats, sample.at);
        match known {
            Some(known) => {
                // A member that the application forgets later keeps its name, so that people know who it was.
                share(&mut seen.name, &known.name);
                share(&mut seen.version, &known.version);
                share(&mut server.meta, &known.meta);
            }
            None => server.meta = Metadata::default(),
        }
        share(&mut server.name, &seen.name);
        share(&mut server.version, &seen.version);
        if !same_text(server.address.as_str(), member.address.as_str()) {
            server.address = member.address.clone();
        }
        let votes = member.suffrage == Suffrage::Voter;
        server.raft_state = match (role.leads, votes) {
            (true, _) => RaftState::Leader,
            (false, true) => RaftState::Voter,
            (false, false) => RaftState::Nonvoter,
        };
        let policy = &config.health;
        let arrived_before = before.map(|before| before.stats.last_index);
        server.joining_until = assess::joining_until(yardstick, &member.id, votes, arrived_before, seen);
        let required = config.server_stabilization_time;
        server.stable_at = assess::stable_at(seen, policy, votes, *first_state_at, required);
        (server.flapping_until, server.flaps) = (flaps::until(seen, policy), seen.flaps);
        (server.known, server.node_status, server.suffrage) = (known.is_some(), node_status, member.suffrage);
        (server.stats, server.stats_at) = (sample.stats, sample.at);
        // What depends on the promoter and on decisions comes later.
        (server.node_type, server.blocked_by) = (NodeType::VOTER, None);
        if !server.details.is_empty() {
            server.details.clear();
        }
        before.map(|before| before.healthy)
    }
}

/// What is counted while the servers are filled in, so that nobody has to go through all of them again.
#[derive(Debug, Default)]
pub(super) struct Tally {
    voters: Vec<ServerId>,
    unhealthy: usize,
    /// Voters that the leader hears from.
    pub(super) hearing: usize,
    /// Others than the leader that fell silent lately.
    pub(super) silent: usize,
    /// Members that the application does not call alive.
    pub(super) not_alive: usize,
    /// Turns of health.
    pub(super) turns: Vec<News>,
}

impl Tally {
    fn count(&mut self, inputs: &Inputs, config: &Config, server: &ServerState, before: Option<bool>) {
        if server.is_voter() {
            self.voters.push(server.id.clone());
            self.hearing += usize::from(suspend::in_contact(inputs, config, server));
        }
        self.not_alive += usize::from(server.node_status != NodeStatus::Alive);
        if !server.health.healthy {
            self.unhealthy += 1;
            self.silent += usize::from(suspend::fell_silent(inputs, config, server));
        }
        if before.is_some_and(|before| before != server.health.healthy) {
            self.turns.push(news::turn(server));
        }
    }
}

fn summarise(state: &mut State, tally: &Tally) {
    let mut voters: Vec<&ServerState> = tally.voters.iter().filter_map(|id| state.servers.get(id)).collect();
    voters.sort_by(|a, b| server_order(a, b));
    let alive = |server: &&&ServerState| server.health.healthy || mutated(Mutant::ToleranceCountsTheDead);
    let healthy = voters.iter().filter(alive).count();
    state.quorum = voters.len() / 2 + 1;
    state.failure_tolerance = healthy.saturating_sub(state.quorum);
    let all_voters_healthy = !voters.is_empty() && healthy == voters.len();
    let ids = voters.into_iter().map(|server| server.id.clone()).collect();
    state.voters = ids;
    state.healthy = !state.servers.is_empty() && tally.unhealthy == 0;
    state.severity = match (state.healthy, all_voters_healthy) {
        (true, _) => Severity::Healthy,
        (false, true) => Severity::Informational,
        (false, false) if state.failure_tolerance > 0 => Severity::Degraded,
        (false, false) => Severity::QuorumAtRisk,
    };
}

/// What the promoter adds. It sees the state without its own additions, whatever the order of the servers.
fn describe(inputs: &Inputs, state: &mut State, policy: &mut Policy<'_>) {
    let mut standing = Standing::default();
    let mut added = Vec::new();
    for (at, server) in state.servers.values().enumerate() {
        let (node_type, details) = (policy.node_type(server, state), policy.server_details(server, state));
        if node_type == server.node_type && details.is_empty() {
            standing.count(inputs, server, policy);
        } else {
            added.push((at, node_type, details));
        }
    }
    let last = added.last().map_or(0, |(at, ..)| at + 1);
    let mut added = added.into_iter().peekable();
    for (at, server) in state.servers.values_mut().enumerate().take(last) {
        if let Some((_, node_type, details)) = added.next_if(|(next, ..)| *next == at) {
            (server.node_type, server.details) = (node_type, details);
            standing.count(inputs, server, policy);
        }
    }
    state.details = policy.state_details(state);
    let standbys = standing.standbys;
    state.domain_tolerance = standing.by_domain(state);
    state.optimistic_failure_tolerance = policy.optimistic_failure_tolerance(state).unwrap_or_else(|| {
        // Without a quorum nobody can be promoted any more.
        let working = state.healthy_voters_count() >= state.quorum;
        state.failure_tolerance + if working { standbys } else { 0 }
    });
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

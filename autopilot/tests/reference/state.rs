//! Computing the next state from the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use autopilot::core::KnownServers;
use autopilot::testing::Situation;
use autopilot::{
    Changes, Configuration, EntryId, Inputs, KnownServer, Memory, Mode, NodeStatus, NodeType, Promoter,
    PromoterInput, Round, ServerId, ServerMemory, ServerState, State, Time,
};
use serde_json::Value;

use super::{config, members, raft_state, replay, stats, text, texts, time};

/// Says what servers are meant to be, and wants nothing.
struct Types(BTreeMap<ServerId, NodeType>);

impl Promoter for Types {
    fn name(&self) -> &str {
        "types"
    }

    fn changes(&self, _: &PromoterInput<'_>) -> Changes {
        Changes::default()
    }

    fn node_type(&self, server: &ServerState, _: &State) -> NodeType {
        self.0.get(&server.id).cloned().unwrap_or_else(|| NodeType::new(""))
    }
}

fn known(step: &Value) -> KnownServers {
    let known = step["known_servers"].as_object().unwrap().values().map(|server| KnownServer {
        name: text(&server["name"]).into(),
        version: server["version"].as_str().unwrap_or_default().into(),
        node_status: serde_json::from_value(server["node_status"].clone()).unwrap(),
        ..KnownServer::alive(text(&server["id"]), text(&server["address"]))
    });
    known.collect()
}

fn inputs(step: &Value, memory: Memory) -> Inputs {
    let mut inputs = Situation::new("elsewhere").inputs;
    inputs.now = time(&step["now"]);
    inputs.config = Some(config(&step["config"]));
    inputs.known = known(step);
    inputs.mode = Mode::Watch;
    // There, old measurements are kept for ever.
    inputs.stats_age_max = Duration::from_secs(u64::from(u32::MAX));
    inputs.memory = memory;
    inputs.memory.first_state_at = Some(time(&step["first_state_time"]));
    let view = &mut inputs.view;
    let leader = text(&step["leader_id"]);
    view.leader = (!leader.is_empty()).then(|| leader.into());
    view.is_leader = step["is_leader"].as_bool().unwrap();
    view.last = EntryId::new(step["last_term"].as_u64().unwrap(), step["latest_index"].as_u64().unwrap());
    view.configuration = Configuration::new(members(&step["raft_config"]));
    let fetched = step["fetched_stats"].as_object().unwrap();
    view.stats = fetched.iter().map(|(id, value)| (id.as_str().into(), stats(value))).collect();
    inputs
}

fn remembered(initial: &Value) -> Memory {
    let servers = initial["servers"].as_object().into_iter().flatten().map(|(id, server)| {
        let memory = ServerMemory {
            name: text(&server["name"]).into(),
            version: server["version"].as_str().unwrap_or_default().into(),
            healthy: server["healthy"].as_bool().unwrap(),
            since: time(&server["stable_since"]),
            stats: stats(&server["stats"]),
            stats_at: Some(Time::ZERO + Duration::from_secs(946_684_800)),
            ..ServerMemory::default()
        };
        (id.as_str().into(), memory)
    });
    Memory { servers: servers.collect(), ..Memory::default() }
}

#[test]
fn states_are_computed_as_documented_there() {
    replay("state", |case| {
        let mut rules = BTreeSet::new();
        let mut memory = remembered(&case["initial_state"]);
        // Servers whose health came out differently by the rule about overflow; it reaches into later steps.
        let mut overflown = BTreeSet::new();
        let mut types = BTreeMap::new();
        for (id, server) in case["initial_state"]["servers"].as_object().into_iter().flatten() {
            types.insert(ServerId::from(id.as_str()), NodeType::new(text(&server["node_type"]).to_owned()));
        }
        for (number, step) in case["chain"].as_array().unwrap().iter().enumerate() {
            let name = format!("{} step {number}", text(&case["case"]));
            name_types(step, &mut types);
            let round = Round::run(&inputs(step, memory), &Types(types.clone()));
            servers(&name, step, &round.state, &mut overflown, &mut rules);
            summary(&name, step, &round.state, &overflown, &mut rules);
            memory = round.memory;
        }
        rules
    });
}

/// There, the application names types and the promoter replaces some of them, or all with "voter".
fn name_types(step: &Value, types: &mut BTreeMap<ServerId, NodeType>) {
    let of = |text: &str| NodeType::new(text.to_owned());
    for (id, server) in step["known_servers"].as_object().into_iter().flatten() {
        types.insert(id.as_str().into(), of(text(&server["node_type"])));
    }
    match step["promoter_node_types"].as_object() {
        None => types.extend(members(&step["raft_config"]).into_iter().map(|m| (m.id, NodeType::VOTER))),
        Some(named) => types.extend(named.iter().map(|(id, t)| (id.as_str().into(), of(text(t))))),
    }
}

fn servers(
    name: &str,
    step: &Value,
    state: &State,
    overflown: &mut BTreeSet<String>,
    rules: &mut BTreeSet<&'static str>,
) {
    let since: BTreeMap<&str, Time> = step["documented"]["stable_since"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(id, at)| (id.as_str(), time(at)))
        .collect();
    let limit = config(&step["config"]).max_trailing_logs;
    let expected = step["expected"]["servers"].as_object().unwrap();
    assert_eq!(state.servers.len(), expected.len(), "{name}");
    for (id, server) in expected {
        let ours = &state.servers[&ServerId::from(id.as_str())];
        if ours.health.healthy != server["healthy"].as_bool().unwrap() {
            // There, the sum wraps around and a good server is called unhealthy.
            let wraps = ours.stats.last_index.0.checked_add(limit).is_none();
            assert!(overflown.contains(id) || wraps, "{name}: {ours:#?}");
            assert!(!wraps || ours.health.healthy, "{name}: {ours:#?}");
            overflown.insert(id.clone());
            rules.insert("overflow");
        }
        if !overflown.contains(id) {
            let since = since.get(id.as_str()).copied().unwrap_or_else(|| time(&server["stable_since"]));
            assert_eq!(ours.health.stable_since, since, "{name}: {id}");
        }
        staging_or_same(name, id, server, ours, rules);
        let status: NodeStatus = serde_json::from_value(server["node_status"].clone()).unwrap();
        assert_eq!(ours.node_status, status, "{name}: {id}");
        assert_eq!(ours.address.as_str(), text(&server["address"]), "{name}: {id}");
        assert_eq!(&*ours.name, text(&server["name"]), "{name}: {id}");
        assert_eq!(&*ours.version, server["version"].as_str().unwrap_or_default(), "{name}: {id}");
        assert_eq!(ours.node_type.as_str(), text(&server["node_type"]), "{name}: {id}");
        assert_eq!(ours.stats.last_index, stats(&server["stats"]).last_index, "{name}: {id}");
        assert_eq!(ours.stats.last_term, stats(&server["stats"]).last_term, "{name}: {id}");
        let contact = ours.stats.last_contact.unwrap_or_default();
        assert_eq!(contact, stats(&server["stats"]).last_contact.unwrap_or_default(), "{name}: {id}");
        if ours.is_leader() != server["is_leader"].as_bool().unwrap() {
            // There, a flag that the application sets and nobody clears; here, what the engine says.
            assert_eq!(ours.is_leader(), step["leader_id"] == id.as_str(), "{name}: {id}");
            rules.insert("leader-flag");
        }
    }
}

fn staging_or_same(
    name: &str,
    id: &str,
    server: &Value,
    ours: &ServerState,
    rules: &mut BTreeSet<&'static str>,
) {
    let theirs = raft_state(&server["state"]);
    if theirs == autopilot::RaftState::Staging {
        assert_eq!(ours.raft_state, autopilot::RaftState::Nonvoter, "{name}: {id}");
        rules.insert("staging");
    } else {
        assert_eq!(ours.raft_state, theirs, "{name}: {id}");
    }
}

fn summary(
    name: &str,
    step: &Value,
    state: &State,
    overflown: &BTreeSet<String>,
    rules: &mut BTreeSet<&'static str>,
) {
    let expected = &step["expected"];
    let leader = state.leader.as_ref().map_or("", ServerId::as_str);
    assert_eq!(leader, text(&expected["leader"]), "{name}");
    if state.servers.is_empty() {
        // There, a cluster without members is healthy.
        assert!(!state.healthy, "{name}");
        rules.insert("empty-state");
        return;
    }
    let mut voters = texts(step["documented"].get("voters").unwrap_or(&expected["voters"]));
    let ours: Vec<_> = state.voters.iter().map(ServerId::as_str).collect();
    let mut tolerance = expected["failure_tolerance"].as_u64().unwrap();
    let leads_without_vote = state.leader.as_ref().filter(|id| !state.servers[*id].is_voter());
    if let Some(id) = leads_without_vote {
        voters.retain(|voter| *voter != id.as_str());
        let servers = &expected["servers"];
        let healthy = voters.iter().filter(|voter| servers[*voter]["healthy"] == true).count();
        tolerance = u64::try_from(healthy.saturating_sub(voters.len() / 2 + 1)).unwrap();
        rules.insert("leader-suffrage");
    }
    if overflown.is_empty() {
        assert_eq!(ours, voters, "{name}");
        assert_eq!(u64::try_from(state.failure_tolerance).unwrap(), tolerance, "{name}");
        assert_eq!(state.healthy, expected["healthy"].as_bool().unwrap(), "{name}");
    } else {
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(set(&ours), set(&voters), "{name}");
    }
}

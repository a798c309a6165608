//! What hashicorp/raft-autopilot decides, replayed. Where ours differs on purpose, the case says which way.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use autopilot::core::{AddPlan, AddRefusal, KnownServers, Memory, Mode, ServerMemory, plan_add};
use autopilot::testing::Situation;
use autopilot::{
    Config, Configuration, EntryId, Inputs, KnownServer, LogIndex, NodeStatus, Promoter as _, PromoterInput,
    RaftState, Round, Server, ServerId, ServerState, ServerStats, StablePromoter, State, Suffrage, Term,
    Time, server_order,
};
use serde_json::Value;

fn cases(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn time(value: &Value) -> Time {
    let since = humantime::parse_rfc3339(text(value)).unwrap().duration_since(UNIX_EPOCH).unwrap();
    Time::ZERO + since
}

fn duration(value: &Value) -> Duration {
    Duration::from_nanos(value.as_u64().unwrap())
}

fn config(value: &Value) -> Config {
    Config {
        cleanup_dead_servers: value["cleanup_dead_servers"].as_bool().unwrap(),
        last_contact_threshold: duration(&value["last_contact_threshold"]),
        max_trailing_logs: value["max_trailing_logs"].as_u64().unwrap(),
        min_quorum: usize::try_from(value["min_quorum"].as_u64().unwrap()).unwrap(),
        server_stabilization_time: duration(&value["server_stabilization_time"]),
    }
}

fn raft_state(value: &Value) -> RaftState {
    serde_json::from_value(value.clone()).unwrap()
}

fn stats(value: &Value) -> ServerStats {
    ServerStats {
        last_contact: Some(duration(&value["last_contact"])),
        last_term: Term(value["last_term"].as_u64().unwrap()),
        last_index: LogIndex(value["last_index"].as_u64().unwrap()),
    }
}

/// A member of which only what the family records matters.
fn member(id: &str, recorded: &Value) -> ServerState {
    let mut server = Situation::new(id).state(&StablePromoter).servers.remove(&ServerId::from(id)).unwrap();
    server.raft_state = raft_state(&recorded["state"]);
    server.suffrage = match server.raft_state {
        RaftState::Leader | RaftState::Voter => Suffrage::Voter,
        RaftState::None | RaftState::Nonvoter | RaftState::Staging => Suffrage::Nonvoter,
    };
    server.health.healthy = recorded["healthy"].as_bool().unwrap();
    server.health.stable_since = time(&recorded["stable_since"]);
    server
}

#[test]
fn servers_are_sorted_as_there() {
    for case in cases(include_str!("../testdata/reference/sort.jsonl")) {
        let recorded = case["servers"].as_array().unwrap();
        let mut servers: Vec<_> = recorded.iter().map(|server| member(text(&server["id"]), server)).collect();
        servers.sort_by(server_order);
        let ids: Vec<_> = servers.iter().map(|server| server.id.as_str()).collect();
        let expected: Vec<_> = case["expected"].as_array().unwrap().iter().map(text).collect();
        assert_eq!(ids, expected, "{}", case["case"]);
    }
}

#[test]
fn the_default_promoter_promotes_as_there_once_it_has_run_for_long_enough() {
    let (mut same, mut stricter) = (0, 0);
    for case in cases(include_str!("../testdata/reference/stable_promoter.jsonl")) {
        let config = config(&case["config"]);
        let now = time(&case["now"]);
        let mut state = State::default();
        for (id, recorded) in case["servers"].as_object().unwrap() {
            let mut server = member(id, recorded);
            server.stable_at = if server.health.healthy {
                server.health.stable_since + config.server_stabilization_time
            } else {
                Time::NEVER
            };
            state.servers.insert(id.as_str().into(), server);
        }
        let changes = StablePromoter.changes(&PromoterInput { now, config: &config, state: &state });
        assert!(changes.demotions.is_empty() && changes.leader.is_none());
        let promoted: Vec<_> = changes.promotions.iter().map(|wish| wish.server.as_str()).collect();
        let expected: Vec<_> = case["expected"]["promotions"].as_array().unwrap().iter().map(text).collect();
        let skipped = case["expected"]["effective_stabilization_time"] == 0;
        if skipped && !config.server_stabilization_time.is_zero() {
            // There, no probation at all for a while after an election; here, always for those without a vote.
            assert!(promoted.iter().all(|id| expected.contains(id)), "{}", case["case"]);
            stricter += 1;
        } else {
            assert_eq!(promoted, expected, "{}", case["case"]);
            same += 1;
        }
    }
    assert!(same > 20 && stricter > 5, "{same} the same, {stricter} stricter");
}

#[test]
fn servers_are_added_as_there() {
    let (mut same, mut differ) = (0, 0);
    for case in cases(include_str!("../testdata/reference/add_server.jsonl")) {
        let members = case["raft_config"].as_array().unwrap();
        let staging = members.iter().any(|member| member["suffrage"] == "staging");
        if staging || case["raft_config_error"] == true {
            // Our configurations have no staging members, and reading them is the caller's affair.
            continue;
        }
        let servers = members.iter().map(|member| match text(&member["suffrage"]) {
            "voter" => Server::voter(text(&member["id"]), text(&member["address"])),
            _ => Server::nonvoter(text(&member["id"]), text(&member["address"])),
        });
        let configuration = Configuration::new(servers.collect());
        let server = &case["server"];
        let plan =
            plan_add(&configuration, None, &text(&server["id"]).into(), &text(&server["address"]).into());
        let kind = text(&case["expected"]["error_kind"]);
        if kind == "too_many_removals" && configuration.voters_count() == 0 {
            assert!(plan.is_ok(), "allowed here: {}", case["case"]);
            differ += 1;
            continue;
        }
        let calls = case["expected"]["calls"].as_array().unwrap();
        match plan {
            Err(AddRefusal::TooManyRemovals { .. }) => {
                assert_eq!(kind, "too_many_removals", "{}", case["case"]);
            }
            Err(other) => panic!("{other:?}: {}", case["case"]),
            Ok(AddPlan::Unchanged) => assert!(calls.is_empty(), "{}", case["case"]),
            Ok(AddPlan::Change { removals, as_voter, .. }) => {
                let add = if as_voter { "add_voter" } else { "add_nonvoter" };
                let mut ours: Vec<(&str, &str)> =
                    removals.iter().map(|id| ("remove_server", id.as_str())).collect();
                ours.push((add, text(&server["id"])));
                let theirs: Vec<_> =
                    calls.iter().map(|call| (text(&call["op"]), text(&call["id"]))).collect();
                // There, a call that fails is the last one.
                assert_eq!(ours[..theirs.len().min(ours.len())], theirs, "{}", case["case"]);
                assert!(kind != "none" || ours.len() == theirs.len(), "{}", case["case"]);
            }
        }
        same += 1;
    }
    assert!(same > 25 && differ > 0, "{same} the same, {differ} differ");
}

fn known(step: &Value) -> KnownServers {
    let known = step["known_servers"].as_object().unwrap().values().map(|server| KnownServer {
        name: text(&server["name"]).to_owned(),
        version: server["version"].as_str().unwrap_or_default().to_owned(),
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
    let members = step["raft_config"].as_array().unwrap().iter().map(|server| Server {
        id: text(&server["id"]).into(),
        address: text(&server["address"]).into(),
        suffrage: if server["suffrage"] == "voter" { Suffrage::Voter } else { Suffrage::Nonvoter },
    });
    view.configuration = Configuration::new(members.collect());
    let fetched = step["fetched_stats"].as_object().unwrap();
    view.stats = fetched.iter().map(|(id, value)| (id.as_str().into(), stats(value))).collect();
    inputs
}

fn remembered(initial: &Value) -> Memory {
    let servers = initial["servers"].as_object().into_iter().flatten().map(|(id, server)| {
        let memory = ServerMemory {
            healthy: server["healthy"].as_bool().unwrap(),
            since: time(&server["stable_since"]),
            stats: stats(&server["stats"]),
            stats_at: Some(Time::ZERO + Duration::from_secs(946_684_800)),
        };
        (id.as_str().into(), memory)
    });
    Memory { first_state_at: None, servers: servers.collect() }
}

#[test]
fn states_are_computed_as_documented_there() {
    let mut steps = 0;
    for case in cases(include_str!("../testdata/reference/state.jsonl")) {
        let mut memory = remembered(&case["initial_state"]);
        for (number, step) in case["chain"].as_array().unwrap().iter().enumerate() {
            let name = format!("{} step {number}", case["case"]);
            let round = Round::run(&inputs(step, memory), &StablePromoter);
            let (state, expected) = (&round.state, &step["expected"]);
            let since: BTreeMap<&str, Time> = step["documented"]["stable_since"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(id, at)| (id.as_str(), time(at)))
                .collect();
            for (id, server) in expected["servers"].as_object().unwrap() {
                let ours = &state.servers[&ServerId::from(id.as_str())];
                assert_eq!(ours.health.healthy, server["healthy"].as_bool().unwrap(), "{name}: {ours:#?}");
                let since = since.get(id.as_str()).copied().unwrap_or_else(|| time(&server["stable_since"]));
                assert_eq!(ours.health.stable_since, since, "{name}: {id}");
                assert_eq!(ours.raft_state, raft_state(&server["state"]), "{name}: {id}");
                let status: NodeStatus = serde_json::from_value(server["node_status"].clone()).unwrap();
                assert_eq!(ours.node_status, status, "{name}: {id}");
                assert_eq!(ours.address.as_str(), text(&server["address"]), "{name}: {id}");
            }
            assert_eq!(state.servers.len(), expected["servers"].as_object().unwrap().len(), "{name}");
            let voters = step["documented"].get("voters").unwrap_or(&expected["voters"]);
            let voters: Vec<_> = voters.as_array().into_iter().flatten().map(text).collect();
            assert_eq!(state.voters.iter().map(ServerId::as_str).collect::<Vec<_>>(), voters, "{name}");
            let tolerance = expected["failure_tolerance"].as_u64().unwrap();
            assert_eq!(u64::try_from(state.failure_tolerance).unwrap(), tolerance, "{name}");
            if !state.servers.is_empty() {
                assert_eq!(state.healthy, expected["healthy"].as_bool().unwrap(), "{name}");
            }
            memory = round.memory;
            steps += 1;
        }
    }
    assert!(steps > 60, "{steps} steps");
}

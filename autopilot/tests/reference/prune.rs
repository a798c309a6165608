//! Removing dead servers: what goes when each removal is fed back until nothing more may go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use autopilot::testing::Situation;
use autopilot::{
    Action, Changes, Configuration, DeadClass, DeadServers, Inputs, KnownServer, Mode, NodeStatus, Plan,
    Promoter, PromoterInput, Reason, Round, ServerId, ServerState, Step,
};
use serde_json::Value;

use super::{config, members, replay, text, texts};

/// Keeps whom it is told to keep, and notes who is dead.
struct Keeper {
    keep: BTreeSet<ServerId>,
    voting: BTreeMap<ServerId, bool>,
    dead: Mutex<DeadServers>,
}

impl Promoter for Keeper {
    fn name(&self) -> &str {
        "keeper"
    }

    fn changes(&self, _: &PromoterInput<'_>) -> Changes {
        Changes::default()
    }

    fn may_vote(&self, server: &ServerState) -> bool {
        self.voting.get(&server.id).copied().unwrap_or(false)
    }

    fn keep_failed(&self, _: &PromoterInput<'_>, dead: &DeadServers) -> BTreeMap<ServerId, String> {
        *self.dead.lock().unwrap() = dead.clone();
        let dead = dead.values().flatten().filter(|id| self.keep.contains(*id));
        dead.map(|id| (id.clone(), String::from("recorded"))).collect()
    }
}

fn keeper(case: &Value) -> Keeper {
    let types = texts(&case["potential_voter_types"]);
    let known = case["known_servers"].as_object().into_iter().flatten();
    Keeper {
        keep: texts(&case["filter_drop"]).into_iter().map(ServerId::from).collect(),
        voting: known.map(|(id, s)| (id.as_str().into(), types.contains(&text(&s["node_type"])))).collect(),
        dead: Mutex::default(),
    }
}

fn status(case: &Value, id: &ServerId) -> Option<NodeStatus> {
    let known = case["known_servers"].get(id.as_str())?;
    Some(serde_json::from_value(known["node_status"].clone()).unwrap())
}

/// The recordings know no leader: here it is the first voter that is alive, or else the first voter.
fn inputs(case: &Value) -> Inputs {
    let mut inputs = Situation::new("elsewhere").inputs;
    inputs.config = (!case["config"].is_null()).then(|| config(&case["config"]));
    if let Some(config) = &mut inputs.config {
        // Grace is ours; who goes after it is compared.
        config.server_stabilization_time = Duration::ZERO;
        config.last_contact_threshold = Duration::from_secs(1);
    }
    inputs.mode = Mode::Reconcile;
    inputs.reconciliation_enabled = case["reconciliation_enabled"].as_bool().unwrap();
    inputs.view.configuration = Configuration::new(members(&case["raft_config"]));
    inputs.known = std::iter::empty().collect();
    inputs.view.stats.clear();
    inputs.memory.servers.clear();
    for member in inputs.view.configuration.servers() {
        let alive = status(case, &member.id) == Some(NodeStatus::Alive);
        let stats = autopilot::ServerStats {
            last_contact: Some(if alive { Duration::ZERO } else { Duration::from_secs(60) }),
            last_term: inputs.view.last.term,
            last_index: inputs.view.last.index,
        };
        inputs.view.stats.insert(member.id.clone(), stats);
    }
    for (id, server) in case["known_servers"].as_object().into_iter().flatten() {
        let node_status = serde_json::from_value(server["node_status"].clone()).unwrap();
        let known = KnownServer { node_status, ..KnownServer::alive(id.as_str(), format!("{id}:1")) };
        inputs.known.servers.insert(known.id.clone(), known);
    }
    let voters = || inputs.view.configuration.voters().map(|server| &server.id);
    let leader = voters().find(|id| status(case, id) == Some(NodeStatus::Alive)).or_else(|| voters().next());
    let leader = leader.cloned();
    inputs.view.is_leader = leader.is_some();
    inputs.view.id = leader.clone().unwrap_or_else(|| "elsewhere".into());
    inputs.view.leader = leader;
    inputs
}

/// Who was tried, and what was said in the end about those who stay.
struct Outcome {
    tried: Vec<(ServerId, DeadClass)>,
    last: Plan,
    configuration: Configuration,
}

fn feed_back(case: &Value, inputs: &mut Inputs, keeper: &mut Keeper) -> Outcome {
    let fails = texts(&case["fail_remove"]);
    let mut tried = Vec::new();
    loop {
        let round = Round::run(inputs, keeper);
        let Some(planned) = round.plan.step.clone() else {
            let configuration = inputs.view.configuration.clone();
            return Outcome { tried, last: round.plan, configuration };
        };
        let Step::Remove { id, class } = &planned.step else { panic!("{planned:?}") };
        tried.push((id.clone(), *class));
        assert!(tried.len() <= 100, "{}: no end", case["case"]);
        if fails.contains(&id.as_str()) {
            keeper.keep.insert(id.clone());
            continue;
        }
        check_step(case, inputs, id);
        let servers = inputs.view.configuration.servers().iter().filter(|server| server.id != *id);
        inputs.view.configuration = Configuration::new(servers.cloned().collect());
    }
}

fn alive_voters(case: &Value, configuration: &Configuration) -> usize {
    let alive = |id| status(case, id) == Some(NodeStatus::Alive);
    configuration.voters().filter(|server| alive(&server.id)).count()
}

/// Whether this removal leaves a cluster that works and is large enough, from the recording alone.
fn harmless(case: &Value, configuration: &Configuration, id: &ServerId) -> bool {
    let servers = configuration.servers().iter().filter(|server| server.id != *id).cloned();
    let after = Configuration::new(servers.collect());
    let works = |configuration: &Configuration| {
        alive_voters(case, configuration) >= configuration.quorum() && configuration.voters_count() > 0
    };
    let min_quorum = config(&case["config"]).min_quorum;
    let votes = configuration.is_voter(id);
    works(configuration) && works(&after) && (!votes || after.voters_count() >= min_quorum)
}

fn check_step(case: &Value, inputs: &Inputs, id: &ServerId) {
    assert!(harmless(case, &inputs.view.configuration, id), "{}: {id} was removed", case["case"]);
    assert_ne!(Some(id), inputs.view.leader.as_ref(), "{}", case["case"]);
    assert_ne!(status(case, id), Some(NodeStatus::Alive), "{}: {id}", case["case"]);
    assert_ne!(status(case, id), Some(NodeStatus::Unknown), "{}: {id}", case["case"]);
}

#[test]
fn dead_servers_are_removed_as_there_wherever_that_is_safe() {
    replay("prune", check);
}

fn check(case: &Value) -> BTreeSet<&'static str> {
    let name = text(&case["case"]);
    let calls: Vec<(&str, ServerId)> = case["expected"]["calls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|call| (text(&call["op"]), text(&call["id"]).into()))
        .collect();
    if case["raft_config_error"] == true {
        // Without an answer of the engine there is no round, there as here.
        assert!(calls.is_empty(), "{name}");
        return BTreeSet::new();
    }
    let mut inputs = inputs(case);
    let mut keeper = keeper(case);
    let off = case["config"]["cleanup_dead_servers"] == false;
    let first = Round::run(&inputs, &keeper);
    let mut rules = BTreeSet::new();
    classes(name, case, &keeper.dead.lock().unwrap(), &mut rules);
    if inputs.config.is_none() || !inputs.reconciliation_enabled || off {
        assert!(calls.is_empty() && first.plan.step.is_none(), "{name}: {:#?}", first.plan);
        return rules;
    }
    let start = inputs.view.configuration.clone();
    let outcome = feed_back(case, &mut inputs, &mut keeper);
    let theirs: BTreeSet<&ServerId> = calls.iter().map(|(_, id)| id).collect();
    let ours: BTreeSet<&ServerId> = outcome.tried.iter().map(|(id, _)| id).collect();
    for id in theirs.difference(&ours) {
        rules.insert(kept_by(case, name, &outcome, id));
    }
    let failed = calls.iter().any(|(_, id)| texts(&case["fail_remove"]).contains(&id.as_str()));
    for id in ours.difference(&theirs) {
        rules.insert(match start.is_voter(id) {
            false if !failed => "nonvoters-are-free",
            true if !failed => "one-budget",
            _ => "later-phases",
        });
    }
    for (id, class) in &outcome.tried {
        // The application is told of the same servers.
        if let Some((op, _)) = calls.iter().find(|(_, called)| called == id) {
            assert_eq!(*op == "remove_failed_server", class.is_failed(), "{name}: {id}");
        }
    }
    rules
}

/// Who is dead, and how: the same but for servers of which the application cannot tell.
fn classes(name: &str, case: &Value, dead: &DeadServers, rules: &mut BTreeSet<&'static str>) {
    let classified = &case["expected"]["classified"];
    for (key, class) in [
        ("stale_non_voters", DeadClass::StaleNonvoter),
        ("stale_voters", DeadClass::StaleVoter),
        ("failed_non_voters", DeadClass::FailedNonvoter),
        ("failed_voters", DeadClass::FailedVoter),
    ] {
        let (unknown, theirs): (BTreeSet<ServerId>, BTreeSet<ServerId>) = texts(&classified[key])
            .into_iter()
            .map(ServerId::from)
            .partition(|id| status(case, id) == Some(NodeStatus::Unknown));
        if !unknown.is_empty() {
            rules.insert("status-unknown");
        }
        assert_eq!(dead.get(&class).cloned().unwrap_or_default(), theirs, "{name}: {key}");
    }
}

/// The rule by which a server stays that is removed there, checked against the recording.
fn kept_by(case: &Value, name: &str, outcome: &Outcome, id: &ServerId) -> &'static str {
    let decision = outcome.last.decisions.iter().find(|d| d.action == Action::Remove && d.server == *id);
    let decision = decision.unwrap_or_else(|| panic!("{name}: nothing is said about {id}"));
    match &decision.reason {
        Reason::IsLeader => "leader-removed",
        Reason::NotLeader => {
            assert_eq!(outcome.configuration.voters_count(), 0, "{name}");
            "no-leader"
        }
        Reason::StatusUnknown => {
            assert_eq!(status(case, id), Some(NodeStatus::Unknown), "{name}");
            "status-unknown"
        }
        Reason::ApplicationKnowsNobody => {
            assert!(case["known_servers"].as_object().is_none_or(serde_json::Map::is_empty), "{name}");
            "doubtful-application"
        }
        Reason::ApplicationMissesLeader { leader } => {
            assert_eq!(status(case, leader), None, "{name}");
            "doubtful-application"
        }
        Reason::NoQuorum { .. } | Reason::QuorumAfter { .. } | Reason::MinQuorum { .. } => {
            assert!(!harmless(case, &outcome.configuration, id), "{name}: {id} could have gone");
            "budget"
        }
        other => panic!("{name}: {id} stays because {other}"),
    }
}

//! The promoter's wishes, in the order in which they are considered, before safety and before "one step at a time".

use std::collections::BTreeSet;
use std::time::Duration;

use autopilot::testing::Situation;
use autopilot::{
    Action, Changes, Configuration, Decision, Inputs, KnownServer, Memory, NodeStatus, Promoter,
    PromoterInput, RaftState, Reason, Round, Server, ServerId, ServerMemory, Suffrage, Time, Verdict,
};
use serde_json::Value;

use super::{config, has_tag, raft_state, replay, text, texts, time};

/// Wants what it is told to want.
struct Told(Changes);

impl Promoter for Told {
    fn name(&self) -> &str {
        "told"
    }

    fn changes(&self, _: &PromoterInput<'_>) -> Changes {
        self.0.clone()
    }
}

/// A cluster in which everybody is what the recorded state says: health comes from silence here.
fn inputs(case: &Value) -> Inputs {
    let state = &case["state"];
    let mut inputs = Situation::new("elsewhere").inputs;
    let servers = state["servers"].as_object().unwrap();
    let times = servers.values().map(|server| time(&server["stable_since"]));
    inputs.now = times.max().unwrap_or(Time::ZERO) + Duration::from_secs(3_600);
    inputs.config = (!case["config"].is_null()).then(|| config(&case["config"]));
    if let Some(config) = &mut inputs.config {
        // Probation is safety's affair, and dead servers are another family's.
        config.server_stabilization_time = Duration::ZERO;
        config.cleanup_dead_servers = false;
        config.last_contact_threshold = Duration::from_secs(1);
    }
    inputs.reconciliation_enabled = case["reconciliation_enabled"].as_bool().unwrap();
    let leader = text(&state["leader"]);
    let mut members = Vec::new();
    inputs.memory = Memory { first_state_at: inputs.memory.first_state_at, ..Memory::default() };
    inputs.known = std::iter::empty().collect();
    inputs.view.stats.clear();
    for (id, recorded) in servers {
        let id = ServerId::from(id.as_str());
        let address = text(&recorded["address"]);
        let votes = matches!(raft_state(&recorded["state"]), RaftState::Leader | RaftState::Voter);
        let suffrage = if votes { Suffrage::Voter } else { Suffrage::Nonvoter };
        members.push(Server { suffrage, ..Server::voter(id.clone(), address) });
        let healthy = recorded["healthy"].as_bool().unwrap();
        let stats = autopilot::ServerStats {
            last_contact: Some(if healthy { Duration::ZERO } else { Duration::from_secs(60) }),
            last_term: inputs.view.last.term,
            last_index: inputs.view.last.index,
        };
        inputs.view.stats.insert(id.clone(), stats);
        // A leader hears itself; it can be unhealthy only by what the application says.
        let status = if healthy { NodeStatus::Alive } else { NodeStatus::Failed };
        let known = KnownServer { node_status: status, ..KnownServer::alive(id.clone(), address) };
        inputs.known.servers.insert(id.clone(), known);
        let since = time(&recorded["stable_since"]);
        let stats_at = Some(inputs.now);
        let seen = ServerMemory { healthy, since, stats, stats_at, ..ServerMemory::default() };
        inputs.memory.servers.insert(id, seen);
    }
    inputs.view.configuration = Configuration::new(members);
    inputs.view.leader = (!leader.is_empty()).then(|| leader.into());
    inputs.view.id = if leader.is_empty() { "elsewhere".into() } else { leader.into() };
    inputs.view.is_leader = !leader.is_empty();
    inputs
}

fn promoter(case: &Value) -> Told {
    let mut changes = Changes::default();
    texts(&case["changes"]["promotions"]).iter().for_each(|id| changes.promote(&(*id).into(), "recorded"));
    texts(&case["changes"]["demotions"]).iter().for_each(|id| changes.demote(&(*id).into(), "recorded"));
    let leader = text(&case["changes"]["leader"]);
    if !leader.is_empty() {
        changes.transfer_to(&leader.into(), "recorded");
    }
    Told(changes)
}

type Call = (&'static str, String);

/// What ours would do one after the other: what is chosen, what waits its turn, and what safety alone stands against.
fn wanted(decision: &Decision) -> Option<Call> {
    let op = match decision.action {
        Action::Promote => "add_voter",
        Action::Demote => "demote_voter",
        Action::Transfer => "leadership_transfer",
        _ => return None,
    };
    let by_safety = matches!(
        decision.reason,
        Reason::NoQuorum { .. } | Reason::QuorumAfter { .. } | Reason::MinQuorum { .. }
    );
    (decision.verdict != Verdict::Refused || by_safety).then(|| (op, decision.server.to_string()))
}

#[test]
fn wishes_are_considered_in_the_order_in_which_they_are_granted_there() {
    replay("reconcile", check);
}

fn check(case: &Value) -> BTreeSet<&'static str> {
    let name = text(&case["case"]);
    let inputs = inputs(case);
    let round = Round::run(&inputs, &promoter(case));
    let calls: Vec<(&str, &str)> = case["expected"]["calls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|call| (text(&call["op"]), text(&call["id"])))
        .collect();
    let gated = inputs.config.is_none() || !inputs.reconciliation_enabled || inputs.view.leader.is_none();
    if gated {
        assert!(calls.is_empty() && round.plan.step.is_none(), "{name}: {:#?}", round.plan);
        return BTreeSet::new();
    }
    for (id, recorded) in case["state"]["servers"].as_object().unwrap() {
        let ours = &round.state.servers[&ServerId::from(id.as_str())];
        assert_eq!(ours.health.healthy, recorded["healthy"].as_bool().unwrap(), "{name}: the set-up of {id}");
    }
    let mut rules = BTreeSet::new();
    let mut theirs = sensible(case, &calls, &mut rules);
    let ours: Vec<Call> = round.plan.decisions.iter().filter_map(wanted).collect();
    if let (Some(first), Some((op, id))) = (ours.first(), calls.first())
        && first.0 == "demote_voter"
        && *op == "demote_voter"
        && first.1 != *id
        && !rules.is_empty()
        && round.state.voters.len() % 2 == 1
        && !round.state.servers[&ServerId::from(first.1.as_str())].health.healthy
    {
        // There, the one unhealthy demotion that comes first was wasted on a server that cannot be demoted.
        theirs.retain(|call| call != first);
        theirs.insert(0, first.clone());
    }
    assert!(ours.len() >= theirs.len(), "{name}: {ours:?}, there {theirs:?}");
    let (done, left) = ours.split_at(theirs.len());
    assert_eq!(done, theirs, "{name}");
    if case["expected"]["error"] == true && !has_tag(case, "error-unknown_transfer_target") {
        // There, the first call that fails is the last one.
        return rules;
    }
    // There, the phases after one that did something are left for the next round, which is when ours get there too.
    let later: &[&str] = match calls.last() {
        None => &[],
        Some(("add_voter", _)) => &["demote_voter", "leadership_transfer"],
        Some(("demote_voter", _)) => &["leadership_transfer"],
        Some(_) => &[],
    };
    assert!(left.iter().all(|(op, _)| later.contains(op)), "{name}: {left:?} after {calls:?}");
    rules
}

/// Their calls without those that nobody should make.
fn sensible(case: &Value, calls: &[(&str, &str)], rules: &mut BTreeSet<&'static str>) -> Vec<Call> {
    let state = &case["state"];
    let server = |id: &str| &state["servers"][id];
    let mut kept: Vec<Call> = Vec::new();
    for (op, id) in calls {
        let votes = matches!(text(&server(id)["state"]), "voter" | "leader");
        let rule = match *op {
            "demote_voter" if server(id)["state"] == "leader" => Some("leader-demoted"),
            "demote_voter" if !votes => Some("not-a-voter"),
            "leadership_transfer" if !votes || server(id)["healthy"] != true => Some("transfer-unfit"),
            _ if kept.iter().any(|call| call.0 == *op && call.1 == *id) => Some("twice"),
            _ => None,
        };
        let op = match *op {
            "add_voter" => "add_voter",
            "demote_voter" => "demote_voter",
            "leadership_transfer" => "leadership_transfer",
            other => panic!("{other} is not expected here"),
        };
        match rule {
            Some(rule) => _ = rules.insert(rule),
            None => kept.push((op, (*id).to_owned())),
        }
    }
    kept
}

//! What hashicorp/raft-autopilot decides, replayed from recordings. Where ours differs on purpose, a rule of this test
//! says which way, and `docs/autopilot.md` says why; any other difference fails.
//!
//! The recordings are those in `autopilot/testdata/reference`, or all of those in the folder that `AUTOPILOT_VECTORS`
//! names. `cargo test -p autopilot --test reference -- --nocapture` prints how many cases are the same.

mod add_server;
mod prune;
mod reconcile;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use autopilot::testing::Situation;
use autopilot::{
    Config, LogIndex, Promoter as _, PromoterInput, RaftState, Server, ServerId, ServerState, ServerStats,
    StablePromoter, State, Suffrage, Term, Time, server_order,
};
use serde_json::Value;

/// Every rule by which ours may differ, each a row of the table in `docs/autopilot.md`.
const RULES: &[&str] = &[
    "budget",
    "doubtful-application",
    "empty-state",
    "later-phases",
    "leader-demoted",
    "leader-flag",
    "leader-removed",
    "leader-suffrage",
    "no-leader",
    "no-voters",
    "nonvoters-are-free",
    "not-a-voter",
    "one-budget",
    "overflow",
    "probation",
    "staging",
    "status-unknown",
    "transfer-unfit",
    "twice",
];

/// How many cases of a family came out the same, and how many differ by which rule.
struct Tally {
    family: &'static str,
    same: usize,
    differ: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn new(family: &'static str) -> Self {
        Self { family, same: 0, differ: BTreeMap::new() }
    }

    fn count(&mut self, rules: &BTreeSet<&'static str>) {
        self.same += usize::from(rules.is_empty());
        for rule in rules {
            assert!(RULES.contains(rule), "{rule} is no rule");
            *self.differ.entry(rule).or_default() += 1;
        }
    }
}

/// Replays a family: `check` fails on a difference that no rule allows and returns the rules that it needed.
fn replay(family: &'static str, mut check: impl FnMut(&Value) -> BTreeSet<&'static str>) -> Tally {
    let folder = std::env::var_os("AUTOPILOT_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/reference"), PathBuf::from);
    let path = folder.join(format!("{family}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut tally = Tally::new(family);
    let mut cases = 0;
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        tally.count(&check(&case));
        cases += 1;
    }
    println!("{}: {cases} cases, {} the same, by rule: {:?}", tally.family, tally.same, tally.differ);
    assert!(cases >= 60, "{family}: only {cases} cases");
    // A rule that swallowed everything would pass the rest.
    assert!(tally.same * 3 > cases, "{family}: only {} of {cases} are the same", tally.same);
    tally
}

#[test]
fn every_rule_is_a_row_of_the_documentation() {
    let docs = include_str!("../../../docs/autopilot.md");
    for rule in RULES {
        assert!(docs.contains(&format!("\n| `{rule}` |")), "docs/autopilot.md has no row for {rule}");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn has_tag(case: &Value, tag: &str) -> bool {
    texts(&case["tags"]).contains(&tag)
}

/// There are no members here that the engine catches up on its own; they are members without a vote.
fn members(recorded: &Value) -> Vec<Server> {
    let members = recorded.as_array().into_iter().flatten();
    members
        .map(|member| Server {
            id: text(&member["id"]).into(),
            address: text(&member["address"]).into(),
            suffrage: if member["suffrage"] == "voter" { Suffrage::Voter } else { Suffrage::Nonvoter },
            incarnation: raft_types::Incarnation::FOUNDER,
        })
        .collect()
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
        ..Config::reference()
    }
}

fn raft_state(value: &Value) -> RaftState {
    serde_json::from_value(value.clone()).unwrap()
}

fn stats(value: &Value) -> ServerStats {
    ServerStats {
        // A negative one is no contact at all.
        last_contact: value["last_contact"].as_u64().map(Duration::from_nanos),
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
    replay("sort", |case| {
        let recorded = case["servers"].as_array().unwrap();
        let mut servers: Vec<_> = recorded.iter().map(|server| member(text(&server["id"]), server)).collect();
        servers.sort_by(server_order);
        let ids: Vec<_> = servers.iter().map(|server| server.id.as_str()).collect();
        assert_eq!(ids, texts(&case["expected"]), "{}", case["case"]);
        BTreeSet::new()
    });
}

#[test]
fn the_default_promoter_promotes_as_there_once_it_has_run_for_long_enough() {
    replay("stable_promoter", |case| {
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
        let theirs = texts(&case["expected"]["promotions"]);
        // There, no probation at all for a while after an election; here, always for those without a vote.
        let early = |id: &&&str| !promoted.contains(*id);
        for id in theirs.iter().filter(early) {
            assert_eq!(case["expected"]["effective_stabilization_time"], 0, "{}: {id}", case["case"]);
            assert!(state.servers[&ServerId::from(*id)].stable_at > now, "{}: {id}", case["case"]);
        }
        assert!(promoted.iter().all(|id| theirs.contains(id)), "{}", case["case"]);
        theirs.iter().filter(early).map(|_| "probation").collect()
    });
}

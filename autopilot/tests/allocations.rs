//! A round in which nothing changes allocates nothing for any server: so many times, however many servers there are.

use autopilot::testing::Situation;
use autopilot::{Changes, Inputs, Mode, NodeType, Promoter, PromoterInput, Round, ServerState, Spare, State};

/// Wants nothing, and says of everybody what can be said without allocating.
struct Watcher {
    replicas: bool,
}

impl Promoter for Watcher {
    fn name(&self) -> &str {
        "watcher"
    }

    fn changes(&self, _: &PromoterInput<'_>) -> Changes {
        Changes::default()
    }

    fn may_vote(&self, server: &ServerState) -> bool {
        server.is_voter() || !self.replicas
    }

    fn node_type(&self, server: &ServerState, _: &State) -> NodeType {
        if self.may_vote(server) { NodeType::VOTER } else { NodeType::READ_REPLICA }
    }
}

/// Five voters, the others without a vote, in another order than that of their ids. Of the others every `silent`th does not
/// answer the leader.
fn cluster(servers: usize, silent: usize) -> Inputs {
    let mut situation = Situation::new("n00000");
    let mut members = situation.inputs.view.configuration.servers().to_vec();
    for number in 1..servers {
        let id = format!("n{number:05}");
        // One configuration in the end, not one for each.
        situation.inputs.view.configuration = autopilot::Configuration::default();
        situation = if number < 5 { situation.voter(&id) } else { situation.nonvoter(&id) };
        members.extend_from_slice(situation.inputs.view.configuration.servers());
        if number >= 5 && number.is_multiple_of(silent) {
            let stats = situation.inputs.view.stats.get_mut(&id.as_str().into()).unwrap();
            stats.last_contact = Some(std::time::Duration::from_secs(60));
        }
    }
    members.reverse();
    let mut inputs = situation.inputs;
    inputs.view.configuration = autopilot::Configuration::new(members);
    inputs.mode = Mode::Watch;
    inputs
}

/// How often a round allocates once the rounds before it have left something to fill again.
fn allocations(servers: usize, silent: usize, promoter: &Watcher) -> u64 {
    let mut inputs = cluster(servers, silent);
    let mut spare = Spare::default();
    let mut last = None;
    for _ in 0..4 {
        let mut round = None;
        let counted = allocation_counter::measure(|| {
            round = Some(Round::run_with(&inputs, promoter, &mut spare));
        });
        let round = round.expect("it has run");
        assert_eq!(round.state.servers.len(), servers);
        inputs.now = inputs.now + std::time::Duration::from_secs(2);
        spare.state = round.state;
        spare.memory = std::mem::replace(&mut inputs.memory, round.memory);
        last = Some(counted.count_total);
    }
    last.expect("there were rounds")
}

#[test]
fn a_steady_round_allocates_as_often_for_ten_thousand_servers_as_for_ten() {
    let plain = Watcher { replicas: false };
    let few = allocations(10, usize::MAX, &plain);
    assert!(few < 32, "{few} allocations");
    for servers in [1_000, 10_000] {
        assert_eq!(allocations(servers, usize::MAX, &plain), few, "for {servers} servers");
    }
}

#[test]
fn who_stays_unhealthy_costs_no_allocation_either() {
    let plain = Watcher { replicas: false };
    assert_eq!(allocations(1_000, 7, &plain), allocations(10, usize::MAX, &plain));
}

#[test]
fn what_a_promoter_says_of_everybody_takes_one_list() {
    let replicas = Watcher { replicas: true };
    let (few, many) = (allocations(1_000, usize::MAX, &replicas), allocations(8_000, usize::MAX, &replicas));
    // The list doubles a few times as it grows.
    assert!(many <= few + 4, "{few} for 1,000 servers, {many} for 8,000");
}

/// The counter counts, and a round that has nothing to fill again allocates for everybody.
#[test]
fn a_first_round_allocates_for_every_server() {
    let inputs = cluster(1_000, usize::MAX);
    let counted = allocation_counter::measure(|| {
        drop(Round::run(&inputs, &Watcher { replicas: false }));
    });
    assert!(counted.count_total > 100, "{}", counted.count_total);
}

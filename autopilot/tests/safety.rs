//! Safety in every small cluster: whatever a promoter wishes and whoever is dead, no step costs the quorum.
//!
//! Every cluster of up to five servers is visited, and every 16th of those of six and seven. All of them:
//! `AUTOPILOT_SAFETY=all cargo test --release -p autopilot --test safety`.

use autopilot::testing::Situation;
use autopilot::{
    Action, Changes, Configuration, NodeStatus, Promoter, PromoterInput, ServerId, StablePromoter, Step,
    Suffrage,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Healthy,
    /// Alive to the application, silent to the leader.
    Silent,
    Failed,
    Stale,
    Unknown,
}

use Condition::{Failed, Healthy, Silent, Stale, Unknown};

type Kind = (Suffrage, Condition);

fn kinds() -> Vec<Kind> {
    let conditions = [Healthy, Silent, Failed, Stale, Unknown];
    [Suffrage::Voter, Suffrage::Nonvoter].iter().flat_map(|s| conditions.map(|c| (*s, c))).collect()
}

/// Wants everything at once, and the opposite too.
struct Reckless;

impl Promoter for Reckless {
    fn name(&self) -> &str {
        "reckless"
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        let mut changes = Changes::default();
        for server in input.state.servers.keys() {
            changes.demote(server, "wild");
            changes.promote(server, "wild");
        }
        let last = input.state.servers.keys().next_back();
        last.into_iter().for_each(|server| changes.transfer_to(server, "wild"));
        changes
    }
}

/// Wants every vote gone.
struct Destroyer;

impl Promoter for Destroyer {
    fn name(&self) -> &str {
        "destroyer"
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        let mut changes = Changes::default();
        input.state.servers.keys().for_each(|server| changes.demote(server, "wild"));
        changes
    }
}

/// Wants what a number says, a different choice for each, servers that do not exist and repetitions included.
struct Wild(u64);

impl Promoter for Wild {
    fn name(&self) -> &str {
        "wild"
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        let mut changes = Changes::default();
        let stranger = ServerId::from("stranger");
        let ids: Vec<_> = input.state.servers.keys().chain([&stranger]).collect();
        let mut number = self.0;
        for id in ids.iter().chain(ids.iter().rev()) {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match number >> 61 {
                0 | 1 => changes.demote(id, "wild"),
                2 | 3 => changes.promote(id, "wild"),
                4 => changes.transfer_to(id, "wild"),
                _ => {}
            }
        }
        changes
    }
}

fn situation(servers: &[Kind], min_quorum: usize) -> Situation {
    let mut situation = Situation::plain("n0").config(|config| config.min_quorum = min_quorum);
    for (number, (suffrage, condition)) in servers.iter().enumerate() {
        let id = format!("n{number}");
        if number > 0 {
            situation = situation.member(&id, *suffrage);
        }
        situation = match condition {
            Healthy => situation,
            Silent => situation.failed(&id).status(&id, NodeStatus::Alive),
            Failed => situation.failed(&id),
            Stale => situation.stale(&id),
            Unknown => situation.failed(&id).status(&id, NodeStatus::Unknown),
        };
    }
    situation
}

/// Judged from the kinds alone, not from what autopilot computed.
fn condition(servers: &[Kind], id: &ServerId) -> Condition {
    let number: usize = id.as_str()[1..].parse().unwrap();
    match (number, servers[number].1) {
        // The leader knows its own log without asking anybody.
        (0, Silent) => Healthy,
        (_, condition) => condition,
    }
}

fn healthy_quorum(servers: &[Kind], configuration: &Configuration) -> bool {
    let healthy = configuration.voters().filter(|server| condition(servers, &server.id) == Healthy).count();
    healthy >= configuration.quorum()
}

/// Checks one step and returns the configuration after it.
fn check(servers: &[Kind], min_quorum: usize, before: &Configuration, step: &Step) -> Configuration {
    let about = || format!("{step:?} with {servers:?}, min_quorum {min_quorum}, in {before:?}");
    let leader = ServerId::from("n0");
    if step.action() == Action::Transfer {
        assert!(before.is_voter(step.id()) && condition(servers, step.id()) == Healthy, "{}", about());
        assert_ne!(*step.id(), leader, "{}", about());
        return before.clone();
    }
    let after = step.apply(before).unwrap_or_else(|error| panic!("{error}: {}", about()));
    assert!(healthy_quorum(servers, before), "no quorum before: {}", about());
    assert!(healthy_quorum(servers, &after), "no quorum after: {}", about());
    assert!(after.is_voter(&leader), "the leader lost its vote: {}", about());
    assert!(before.voters_count().abs_diff(after.voters_count()) <= 1, "{}", about());
    if after.voters_count() < before.voters_count() {
        assert!(after.voters_count() >= min_quorum, "below min_quorum: {}", about());
    }
    let who = condition(servers, step.id());
    match step {
        Step::Promote { .. } => assert_eq!(who, Healthy, "{}", about()),
        Step::Remove { .. } => {
            assert!(matches!(who, Failed | Stale), "a live server removed: {}", about());
            assert_ne!(condition(servers, &leader), Stale, "{}", about());
        }
        Step::Demote { .. } | Step::Swap { .. } | Step::Transfer { .. } => {}
    }
    after
}

/// Follows a cluster until nothing more is done, or the promoter has gone round often enough.
fn follow(servers: &[Kind], min_quorum: usize, promoter: &dyn Promoter) -> (Configuration, bool) {
    let mut situation = situation(servers, min_quorum);
    for _ in 0..servers.len() * 2 {
        let Some(planned) = situation.round(promoter).plan.step else {
            return (situation.inputs.view.configuration, true);
        };
        let view = &mut situation.inputs.view;
        view.configuration = check(servers, min_quorum, &view.configuration, &planned.step);
    }
    (situation.inputs.view.configuration, false)
}

/// Every choice of kinds for `count` further servers. Servers that are alike may change places, so each choice
/// appears once, in order.
fn choices(
    count: usize,
    from: usize,
    kinds: &[Kind],
    chosen: &mut Vec<Kind>,
    visit: &mut impl FnMut(&[Kind]),
) {
    if count == 0 {
        visit(chosen);
        return;
    }
    for (number, kind) in kinds.iter().enumerate().skip(from) {
        chosen.push(*kind);
        choices(count - 1, number, kinds, chosen, visit);
        chosen.pop();
    }
}

/// Everything that can be wished of one cluster.
fn check_cluster(servers: &[Kind], number: u64) {
    for min_quorum in 0..=7 {
        let (end, rested) = follow(servers, min_quorum, &StablePromoter);
        assert!(rested, "no rest with {servers:?}");
        cleaned(servers, min_quorum, &end);
    }
    // The further minima come round with the further clusters.
    let min_quorum = usize::try_from(number % 8).unwrap();
    for promoter in [&Reckless as &dyn Promoter, &Destroyer, &Wild(number)] {
        follow(servers, min_quorum, promoter);
        follow(servers, 0, promoter);
    }
}

/// Visits every `step`th cluster with so many servers besides the leader; returns how many there are.
fn visit(others: usize, step: u64) -> u64 {
    let kinds = kinds();
    let mut clusters = 0;
    for leader in [Healthy, Silent, Failed, Stale, Unknown] {
        choices(others, 0, &kinds, &mut vec![(Suffrage::Voter, leader)], &mut |servers| {
            if clusters % step == 0 {
                check_cluster(servers, clusters);
            }
            clusters += 1;
        });
    }
    clusters
}

#[test]
fn no_step_in_any_cluster_of_up_to_five_servers_costs_the_quorum() {
    let clusters: u64 = (0..=4).map(|others| visit(others, 1)).sum();
    assert_eq!(clusters, 5 * 1_001, "every choice was visited");
}

#[test]
fn no_step_in_a_cluster_of_six_or_seven_servers_costs_the_quorum() {
    let step = if std::env::var_os("AUTOPILOT_SAFETY").is_some() { 1 } else { 16 };
    assert_eq!(visit(5, step), 5 * 2_002);
    assert_eq!(visit(6, step), 5 * 5_005);
}

/// Where it is safe, cleaning up is also done: a guard that refuses everything would pass the rest.
fn cleaned(servers: &[Kind], min_quorum: usize, end: &Configuration) {
    let leader_fit = condition(servers, &"n0".into()) == Healthy;
    let start: Configuration = situation(servers, 0).inputs.view.configuration;
    if min_quorum > 0 || !leader_fit || !healthy_quorum(servers, &start) {
        return;
    }
    let dead = |id: &ServerId| matches!(condition(servers, id), Failed | Stale);
    let left: Vec<_> = end.servers().iter().filter(|server| dead(&server.id)).collect();
    assert!(left.is_empty(), "{left:?} stay with {servers:?}");
    let without_vote = |server: &&autopilot::Server| {
        server.suffrage == Suffrage::Nonvoter && condition(servers, &server.id) == Healthy
    };
    assert_eq!(end.servers().iter().filter(without_vote).count(), 0, "not promoted with {servers:?}");
}

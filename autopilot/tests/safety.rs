//! Safety in every small cluster: whatever a promoter wishes and whoever is dead, no step costs the quorum.
//!
//! Every cluster of up to five servers is visited, and every 16th of those of six and seven. All of them:
//! `AUTOPILOT_SAFETY=all cargo test --release -p autopilot --test safety`.

use std::collections::BTreeSet;

use autopilot::testing::Situation;
use autopilot::{
    Action, Changes, Config, Configuration, NodeStatus, Promoter, PromoterInput, ServerId, StablePromoter,
    Step, Suffrage,
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
        Step::Swap { id, out, class, .. } => {
            assert_eq!(who, Healthy, "{}", about());
            assert!(!before.is_voter(id) && before.is_voter(out), "{}", about());
            assert_eq!(before.voters_count(), after.voters_count(), "{}", about());
            let dead = matches!(condition(servers, out), Failed | Stale);
            assert!(class.is_none() || dead, "a live server replaced: {}", about());
        }
        Step::Demote { .. } | Step::Transfer { .. } => {}
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

/// Who is drained and who is cordoned, and what the engine and the policy are.
#[derive(Clone, Copy, Debug)]
struct Orders {
    drained: u32,
    cordoned: u32,
    atomic: bool,
    min_quorum: usize,
}

impl Orders {
    fn holds(self, number: usize) -> (bool, bool) {
        (self.drained >> number & 1 == 1, self.cordoned >> number & 1 == 1)
    }

    fn apply(self, servers: &[Kind]) -> Situation {
        let ours = Config { min_quorum: self.min_quorum, ..Config::default() };
        let mut situation = situation(servers, 0).config(|config| *config = ours);
        situation.inputs.capabilities.atomic = self.atomic;
        for number in 0..servers.len() {
            let id = format!("n{number}");
            let (drained, cordoned) = self.holds(number);
            situation = if drained { situation.drained(&id) } else { situation };
            situation = if cordoned { situation.cordoned(&id) } else { situation };
        }
        situation
    }
}

/// Whom a step gives something that it did not have.
fn gains(step: &Step) -> Option<&ServerId> {
    match step {
        Step::Promote { id, .. } | Step::Swap { id, .. } | Step::Transfer { id } => Some(id),
        Step::Demote { .. } | Step::Remove { .. } => None,
    }
}

/// Follows a cluster under orders, with all rules on, and checks what the orders and the floor demand of each step.
/// Tells which kinds of steps were taken.
fn follow_orders(servers: &[Kind], orders: Orders, promoter: &dyn Promoter) -> BTreeSet<Action> {
    let mut situation = orders.apply(servers);
    let mut taken = BTreeSet::new();
    for _ in 0..servers.len() * 3 {
        let Some(planned) = situation.round(promoter).plan.step else { return taken };
        let step = &planned.step;
        let about = || format!("{step:?} with {servers:?} under {orders:?}");
        let view = &mut situation.inputs.view;
        let before = view.configuration.clone();
        let after = check(servers, orders.min_quorum, &before, step);
        if let Some(id) = gains(step) {
            let number = id.as_str()[1..].parse().unwrap();
            assert_eq!(orders.holds(number), (false, false), "against orders: {}", about());
        }
        if let (Step::Remove { class, .. }, 0) = (step, orders.min_quorum) {
            // Nothing was seen stable here, so only an even number of voters may shrink.
            let floor = (before.voters_count() - 1) | 1;
            assert!(!class.is_voter() || after.voters_count() >= floor, "below the floor: {}", about());
        }
        if let Step::Swap { class: None, out, .. } = step {
            let number = out.as_str()[1..].parse().unwrap();
            let wanted = orders.holds(number).0 || condition(servers, out) != Healthy;
            assert!(wanted, "a fit voter lost its vote: {}", about());
        }
        view.configuration = after;
        taken.insert(step.action());
        if step.action() == Action::Transfer {
            // The next leader decides on.
            return taken;
        }
    }
    assert_ne!(promoter.name(), "stable", "no rest with {servers:?} under {orders:?}");
    taken
}

#[test]
fn no_order_and_no_replacement_costs_the_quorum() {
    let mut taken = BTreeSet::new();
    let mut number = 0_u64;
    for others in 0..=4 {
        let kinds = kinds();
        for leader in [Healthy, Silent, Failed, Stale, Unknown] {
            choices(others, 0, &kinds, &mut vec![(Suffrage::Voter, leader)], &mut |servers| {
                number += 1;
                if others == 4 && !number.is_multiple_of(8) {
                    return;
                }
                let all = (1 << servers.len()) - 1;
                let one_each = (0..servers.len()).map(|at| 1 << at);
                let choices = one_each.flat_map(|one: u32| [(one, 0), (0, one), (one, (one << 1) & all)]);
                for (drained, cordoned) in choices.chain([(0, 0), (all, 0)]) {
                    for (atomic, min_quorum) in [(true, 0), (true, 3), (false, 0), (false, 3)] {
                        let orders = Orders { drained, cordoned, atomic, min_quorum };
                        taken.append(&mut follow_orders(servers, orders, &StablePromoter));
                        if number.is_multiple_of(16) {
                            follow_orders(servers, orders, &Wild(number));
                            follow_orders(servers, orders, &Reckless);
                        }
                    }
                }
            });
        }
    }
    // A check of steps that are never taken proves nothing.
    use Action::{Demote, Promote, Remove, Swap, Transfer};
    assert_eq!(taken, BTreeSet::from([Promote, Demote, Remove, Transfer, Swap]));
}

//! Safety in every small cluster: whatever a promoter wishes and whoever is dead, no step costs the quorum.
//!
//! Every cluster of up to seven servers is visited: each of them a voter or not, and healthy, silent, failed, stale or of
//! unknown status, the leader too. Servers that are alike may change places, so each choice of kinds is visited once. In each
//! cluster:
//!
//! * autopilot goes on by itself until it rests, with every `min_quorum` that there can be a difference between;
//! * a promoter wishes every single thing about every server and about a stranger; a demotion with each `min_quorum` that is
//!   none, just met or just missed;
//! * of up to four servers, it wishes every two things at once, the same one twice included;
//! * it wishes everything at once, everything wrong, and what a number says, and the cluster is followed through that.
//!
//! A plan takes one step, so what a promoter wishes beside it can only matter by its place in the order. Where nothing else is
//! said, `min_quorum` changes from one wish to the next.
//!
//! With orders and with all rules on, every cluster of up to four servers, each of them drained, cordoned or neither, and
//! every 16th of those of five: all of them with `AUTOPILOT_SAFETY=all`.

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

/// One thing to wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Promote,
    Demote,
    Transfer,
}

const THINGS: [Thing; 3] = [Thing::Promote, Thing::Demote, Thing::Transfer];

/// Wishes a few things about servers by their number; one beyond the servers is a stranger.
struct Few(Vec<(Thing, usize)>);

impl Promoter for Few {
    fn name(&self) -> &str {
        "few"
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        let mut changes = Changes::default();
        let stranger = ServerId::from("stranger");
        for (thing, number) in &self.0 {
            let server = input.state.servers.keys().nth(*number).unwrap_or(&stranger);
            match thing {
                Thing::Promote => changes.promote(server, "few"),
                Thing::Demote => changes.demote(server, "few"),
                Thing::Transfer => changes.transfer_to(server, "few"),
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
fn follow(
    servers: &[Kind],
    start: &Situation,
    min_quorum: usize,
    promoter: &dyn Promoter,
) -> (Configuration, bool) {
    let mut situation = start.clone().config(|config| config.min_quorum = min_quorum);
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
fn choices<T: Copy>(
    count: usize,
    from: usize,
    kinds: &[T],
    chosen: &mut Vec<T>,
    visit: &mut impl FnMut(&[T]),
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
fn check_cluster(servers: &[Kind], number: usize) {
    let mut start = situation(servers, 0);
    for min_quorum in 0..=servers.len() {
        let (end, rested) = follow(servers, &start, min_quorum, &StablePromoter);
        assert!(rested, "no rest with {servers:?}");
        cleaned(servers, min_quorum, &start, &end);
    }
    let voters = start.inputs.view.configuration.voters_count();
    let mut min_quorum = number;
    for candidate in representatives(servers, 1) {
        for min_quorum in [0, voters - 1, voters, voters + 1] {
            check_wishes(servers, &mut start, min_quorum, vec![(Thing::Demote, candidate)]);
        }
        for thing in [Thing::Promote, Thing::Transfer] {
            min_quorum += 1;
            check_wishes(servers, &mut start, min_quorum, vec![(thing, candidate)]);
        }
    }
    if servers.len() <= 4 {
        for wishes in pairs(&representatives(servers, 2)) {
            min_quorum += 1;
            check_wishes(servers, &mut start, min_quorum, wishes);
        }
    }
    let seed = u64::try_from(number).unwrap();
    for promoter in [&Reckless as &dyn Promoter, &Destroyer, &Wild(seed)] {
        follow(servers, &start, number % (servers.len() + 1), promoter);
    }
}

/// So many of each kind, for more that are alike add nothing, the leader, and a stranger.
fn representatives(servers: &[Kind], of_each: usize) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    for (number, kind) in servers.iter().enumerate().skip(1) {
        if chosen.iter().filter(|other| servers[**other] == *kind).count() < of_each {
            chosen.push(number);
        }
    }
    chosen.extend([0, servers.len()]);
    chosen
}

fn pairs(candidates: &[usize]) -> impl Iterator<Item = Vec<(Thing, usize)>> {
    let wishes = || candidates.iter().flat_map(|server| THINGS.map(|thing| (thing, *server)));
    wishes().flat_map(move |first| wishes().map(move |second| vec![first, second]))
}

fn check_wishes(servers: &[Kind], start: &mut Situation, min_quorum: usize, wishes: Vec<(Thing, usize)>) {
    // More than there are servers is as good as one more.
    let min_quorum = min_quorum % (servers.len() + 2);
    if let Some(config) = &mut start.inputs.config {
        config.min_quorum = min_quorum;
    }
    if let Some(planned) = start.round(&Few(wishes)).plan.step {
        check(servers, min_quorum, &start.inputs.view.configuration, &planned.step);
    }
}

/// Visits every cluster of so many servers of which this is how the leader is. Tells how many there are.
fn visit(leader: Condition, others: usize) -> usize {
    let mut clusters = 0;
    choices(others, 0, &kinds(), &mut vec![(Suffrage::Voter, leader)], &mut |servers| {
        check_cluster(servers, clusters);
        clusters += 1;
    });
    clusters
}

/// Every cluster of up to seven servers.
fn visit_all(leader: Condition) {
    let clusters: usize = (0..=6).map(|others| visit(leader, others)).sum();
    assert_eq!(clusters, 8_008, "every choice of up to six out of ten kinds");
}

// One test for each condition of the leader, so that they run side by side.

#[test]
fn no_step_under_a_healthy_leader_costs_the_quorum() {
    visit_all(Healthy);
}

#[test]
fn no_step_under_a_silent_leader_costs_the_quorum() {
    visit_all(Silent);
}

#[test]
fn no_step_under_a_leader_called_failed_costs_the_quorum() {
    visit_all(Failed);
}

#[test]
fn no_step_under_a_leader_unknown_to_the_application_costs_the_quorum() {
    visit_all(Stale);
}

#[test]
fn no_step_under_a_leader_of_unknown_status_costs_the_quorum() {
    visit_all(Unknown);
}

/// Where it is safe, cleaning up is also done: a guard that refuses everything would pass the rest.
fn cleaned(servers: &[Kind], min_quorum: usize, start: &Situation, end: &Configuration) {
    let leader_fit = condition(servers, &"n0".into()) == Healthy;
    let start = &start.inputs.view.configuration;
    if min_quorum > 0 || !leader_fit || !healthy_quorum(servers, start) {
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

/// What is ordered about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ordered {
    Nothing,
    Drained,
    Cordoned,
}

/// What is ordered, by number, and what the engine and the policy are.
#[derive(Clone, Debug)]
struct Orders {
    ordered: Vec<Ordered>,
    atomic: bool,
    min_quorum: usize,
}

impl Orders {
    fn about(&self, id: &ServerId) -> Ordered {
        let number: usize = id.as_str()[1..].parse().unwrap();
        self.ordered[number]
    }

    fn apply(&self, servers: &[Kind]) -> Situation {
        let ours = Config { min_quorum: self.min_quorum, ..Config::default() };
        let mut situation = situation(servers, 0).config(|config| *config = ours);
        situation.inputs.capabilities.atomic = self.atomic;
        for (number, ordered) in self.ordered.iter().enumerate() {
            let id = format!("n{number}");
            situation = match ordered {
                Ordered::Nothing => situation,
                Ordered::Drained => situation.drained(&id),
                Ordered::Cordoned => situation.cordoned(&id),
            };
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
fn follow_orders(servers: &[Kind], orders: &Orders, promoter: &dyn Promoter) -> BTreeSet<Action> {
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
            assert_eq!(orders.about(id), Ordered::Nothing, "against orders: {}", about());
        }
        if let (Step::Remove { class, .. }, 0) = (step, orders.min_quorum) {
            // Nothing was seen stable here, so only an even number of voters may shrink.
            let floor = (before.voters_count() - 1) | 1;
            assert!(!class.is_voter() || after.voters_count() >= floor, "below the floor: {}", about());
        }
        if let Step::Swap { class: None, out, .. } = step {
            let wanted = orders.about(out) == Ordered::Drained || condition(servers, out) != Healthy;
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
    use Ordered::{Cordoned, Drained, Nothing};
    let all = std::env::var_os("AUTOPILOT_SAFETY").is_some();
    let each = |kind: Kind| [Nothing, Drained, Cordoned].map(|ordered| (kind, ordered));
    let ordered_kinds: Vec<_> = kinds().into_iter().flat_map(each).collect();
    let leaders = [Healthy, Silent, Failed, Stale, Unknown].map(|leader| (Suffrage::Voter, leader));
    let mut taken = BTreeSet::new();
    let mut number = 0_usize;
    for others in 0..=4 {
        let step = if all || others < 4 { 1 } else { 16 };
        for leader in leaders.into_iter().flat_map(each) {
            choices(others, 0, &ordered_kinds, &mut vec![leader], &mut |chosen| {
                number += 1;
                if !number.is_multiple_of(step) {
                    return;
                }
                let (servers, ordered): (Vec<_>, Vec<_>) = chosen.iter().copied().unzip();
                let mut orders = Orders { ordered, atomic: false, min_quorum: 0 };
                for (atomic, min_quorum) in [(true, 0), (true, 3), (false, 0), (false, 3)] {
                    (orders.atomic, orders.min_quorum) = (atomic, min_quorum);
                    taken.append(&mut follow_orders(&servers, &orders, &StablePromoter));
                    if (number / step).is_multiple_of(16) {
                        follow_orders(&servers, &orders, &Wild(number as u64));
                        follow_orders(&servers, &orders, &Reckless);
                    }
                }
            });
        }
    }
    assert_eq!(number, 15 * 46_376, "every choice of up to four out of thirty kinds");
    // A check of steps that are never taken proves nothing.
    use Action::{Demote, Promote, Remove, Swap, Transfer};
    assert_eq!(taken, BTreeSet::from([Promote, Demote, Remove, Transfer, Swap]));
}

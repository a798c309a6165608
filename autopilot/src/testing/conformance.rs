//! What every promoter must satisfy, in every small cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use raft_types::ServerId;

use super::Situation;
use crate::core::removals;
use crate::model::{ServerState, Step};
use crate::promoter::{Changes, Promoter, PromoterInput, Wish};

/// How a server other than the leader is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Voter,
    FailedVoter,
    StaleVoter,
    Nonvoter,
    NewNonvoter,
    FailedNonvoter,
}

const KINDS: [Kind; 6] = [
    Kind::Voter,
    Kind::FailedVoter,
    Kind::StaleVoter,
    Kind::Nonvoter,
    Kind::NewNonvoter,
    Kind::FailedNonvoter,
];
const ZONES: [&str; 3] = ["a", "b", "c"];
const OTHERS_MAX: usize = 3;

/// Asks the promoter about every cluster of up to four servers: each a voter or not, healthy, new, failed or stale,
/// a declared read replica or not, in three zones.
///
/// The promoter must have a name; give the same answer to the same question; name members only, each once; wish a
/// vote only for members without one that may vote, and its loss only for voters that do not lead; name only a
/// healthy voter as leader; keep only dead members; and come to rest when its wishes are fulfilled.
///
/// # Panics
/// When it does not, and when the promoter panics: with the situation that shows it.
pub fn promoter_conformance(promoter: &dyn Promoter) {
    assert!(!promoter.name().trim().is_empty(), "a promoter needs a name");
    let options = KINDS.len() * 2;
    for others in 0..=OTHERS_MAX {
        for code in 0..2 * options.pow(u32::try_from(others).expect("a small number")) {
            let situation = situation(others, code, options);
            situation.ask(promoter, |input| check(promoter, input));
            comes_to_rest(promoter, situation);
        }
    }
}

/// The situation with this number: each digit is one server.
fn situation(others: usize, code: usize, options: usize) -> Situation {
    let replica = |situation: Situation, id: &str, declared: bool| {
        if declared { situation.meta(id, "read_replica", "true") } else { situation }
    };
    let mut situation = Situation::new("n0").meta("n0", "zone", ZONES[0]);
    situation = replica(situation, "n0", code % 2 == 1);
    let mut rest = code / 2;
    for other in 1..=others {
        let id = format!("n{other}");
        let digit = rest % options;
        rest /= options;
        situation = match KINDS[digit / 2] {
            Kind::Voter => situation.voter(&id),
            Kind::FailedVoter => situation.voter(&id).failed(&id),
            Kind::StaleVoter => situation.voter(&id).stale(&id),
            Kind::Nonvoter => situation.nonvoter(&id),
            Kind::NewNonvoter => situation.nonvoter(&id).healthy_for(&id, Duration::from_secs(1)),
            Kind::FailedNonvoter => situation.nonvoter(&id).failed(&id),
        };
        situation = situation.meta(&id, "zone", ZONES[other % ZONES.len()]);
        situation = replica(situation, &id, digit % 2 == 1);
    }
    situation
}

fn check(promoter: &dyn Promoter, input: &PromoterInput<'_>) {
    let state = input.state;
    let changes = promoter.changes(input);
    let name = promoter.name();
    let same = promoter.changes(input);
    assert_eq!(changes, same, "promoter {name} answers the same question differently in\n{state:#?}");
    let Changes { promotions, demotions, leader } = &changes;
    each(name, input, promotions, "a vote for", |server| {
        !server.is_voter() && !server.is_leader() && promoter.may_vote(server)
    });
    each(name, input, demotions, "the loss of a vote of", |server| server.is_voter() && !server.is_leader());
    each(name, input, leader.as_slice(), "leadership for", |server| {
        server.is_healthy_voter() && !server.is_leader()
    });
    let dead = removals::dead(state);
    for id in promoter.keep_failed(input, &dead).keys() {
        let is_dead = dead.values().any(|ids| ids.contains(id));
        assert!(is_dead, "promoter {name} keeps {id}, which is no dead member, in\n{state:#?}");
    }
}

fn each(
    name: &str,
    input: &PromoterInput<'_>,
    wishes: &[Wish],
    what: &str,
    allowed: impl Fn(&ServerState) -> bool,
) {
    let mut seen: BTreeSet<&ServerId> = BTreeSet::new();
    for Wish { server: id, reason } in wishes {
        let state = input.state;
        assert!(seen.insert(id), "promoter {name} wishes {what} {id} twice in\n{state:#?}");
        assert!(!reason.trim().is_empty(), "promoter {name} gives no reason for {what} {id}");
        let server = state.server(id);
        assert!(server.is_some_and(&allowed), "promoter {name} wishes {what} {id} in\n{state:#?}");
    }
}

/// Performs step after step. A policy that undoes its own work never gets to the end.
fn comes_to_rest(promoter: &dyn Promoter, mut situation: Situation) {
    let start = situation.inputs.view.clone();
    let steps_max = start.configuration.servers().len() * 3;
    for _ in 0..=steps_max {
        let round = situation.round(promoter);
        let Some(planned) = round.plan.step else { return };
        let inputs = &mut situation.inputs;
        inputs.memory = round.memory;
        inputs.now = inputs.now + Duration::from_secs(10);
        let view = &mut inputs.view;
        if let Step::Transfer { id } = &planned.step {
            // The new leader looks on with what the old one knew; only who leads matters here.
            (view.id, view.leader) = (id.clone(), Some(id.clone()));
            continue;
        }
        view.configuration =
            planned.step.apply(&view.configuration).expect("safety allows only valid changes");
    }
    panic!("promoter {} does not come to rest within {steps_max} steps from\n{start:#?}", promoter.name());
}

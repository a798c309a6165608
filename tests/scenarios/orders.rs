//! People's orders, what one leader leaves to the next, and the word of others. Every order is judged after each look.

use std::cell::Cell;
use std::panic::catch_unwind;
use std::time::Duration;

use autopilot::core::Mutant as Defect;
use autopilot::{Action, Instruction, NodeStatus, Verdict};
use simulation::mutant::Mutant;
use simulation::pilot::Flight;
use simulation::pilot::people::Lie;
use simulation::world::World;

use crate::{commit, other_than, seconds};

thread_local! {
    /// The defect with which stories are told on this thread.
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// A calm cluster with autopilot, and with the planted defect.
fn flown(voters: usize, spares: usize, change: impl FnOnce(&mut Flight)) -> World {
    let mut world = World::flown(voters, spares, change);
    world.options.mutant = PLANTED.get();
    world
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// An application that keeps ledgers.
fn kept(flight: &mut Flight) {
    flight.ledgers = true;
}

fn id(world: &World, node: usize) -> autopilot::ServerId {
    world.servers[node].id().clone()
}

fn cordon(world: &mut World, node: usize) {
    let server = id(world, node);
    world.order(Instruction::Cordon { server, why: String::new() });
}

fn drain(world: &mut World, node: usize) {
    let server = id(world, node);
    world.order(Instruction::Drain { server, why: String::new() });
}

fn voters(world: &World) -> usize {
    (0..world.servers.len()).filter(|node| world.votes(*node)).count()
}

/// A cluster of three and a joiner that is a member, with autopilot flying.
fn three_and_a_joiner(change: impl FnOnce(&mut Flight)) -> (World, usize) {
    let mut world = flown(3, 1, |flight| {
        kept(flight);
        change(flight);
    });
    let leader = world.leader();
    world.wait("it flies", |world| world.pilot(leader).is_some_and(|pilot| pilot.took_over));
    world.wait("the joiner is a member", |world| world.member(3).is_some());
    (world, leader)
}

/// Kills the leader and waits until another one flies.
fn next_leader(world: &mut World, old: usize) -> usize {
    world.crash(old);
    world.wait("another one flies", |world| {
        (0..world.servers.len()).any(|node| node != old && world.pilot(node).is_some_and(|p| p.took_over))
    });
    world.leader()
}

#[test]
fn a_cordon_outlives_its_leader_and_ends_when_it_is_lifted() {
    let (mut world, old) = three_and_a_joiner(|_| {});
    cordon(&mut world, 3);
    world.run_for(ms(300));
    let leader = next_leader(&mut world, old);
    world.start(old);
    world.run_for(seconds(8));
    assert!(!world.votes(3), "it is cordoned");
    assert_eq!(world.pilot(leader).expect("it flies").hand.cordoned.len(), 1);
    let server = id(&world, 3);
    world.order(Instruction::Uncordon { server });
    world.wait("it votes", |world| world.votes(3));
    world.settles();
}

#[test]
fn a_pause_outlives_its_leader_and_ends_by_itself() {
    let (mut world, old) = three_and_a_joiner(|_| {});
    let given = world.now;
    world.order(Instruction::Pause { lasts: seconds(9), why: String::new() });
    world.run_for(ms(300));
    next_leader(&mut world, old);
    world.start(old);
    world.wait("the joiner votes", |world| world.votes(3));
    assert!(world.now.since(given) >= ms(8_500), "after {:?}", world.now.since(given));
    world.settles();
}

#[test]
fn in_a_maintenance_window_a_server_may_be_down() {
    let mut world = flown(3, 0, kept);
    let leader = world.leader();
    let node = other_than(&world, &[leader]);
    world.wait("it flies", |world| world.pilot(leader).is_some_and(|pilot| pilot.took_over));
    let server = Some(id(&world, node));
    let (starts_in, lasts) = (Duration::ZERO, seconds(8));
    world.order(Instruction::Schedule { server, starts_in, lasts, why: String::new() });
    world.run_for(ms(300));
    world.crash(node);
    world.run_for(seconds(7));
    assert!(world.votes(node), "somebody works on it");
    world.wait("it is out", |world| world.member(node).is_none());
    world.start(node);
    world.settles();
}

#[test]
fn a_drained_leader_ends_without_leadership_and_vote() {
    let (mut world, old) = three_and_a_joiner(|_| {});
    world.wait("the joiner votes", |world| world.votes(3));
    drain(&mut world, old);
    world.wait("another one leads", |world| (0..4).any(|node| node != old && world.pilot(node).is_some()));
    world.wait("it has no vote", |world| !world.votes(old));
    let leader = world.leader();
    assert_ne!(leader, old);
    assert!(world.pilot(leader).expect("it flies").hand.drained.contains_key(&id(&world, old)));
    world.run_for(seconds(5));
    assert_eq!((world.votes(old), voters(&world)), (false, 3), "it does not get it back");
    world.settles();
}

#[test]
fn a_drain_that_cannot_be_done_says_why() {
    let mut world = flown(1, 0, kept);
    let leader = world.leader();
    world.wait("it flies", |world| world.pilot(leader).is_some_and(|pilot| pilot.took_over));
    drain(&mut world, leader);
    world.run_for(seconds(3));
    let pilot = world.pilot(leader).expect("it flies");
    let why = pilot.plan.decisions.iter().find(|decision| decision.action == Action::Transfer);
    let why = why.expect("it is told");
    assert_eq!((why.verdict, why.reason.code()), (Verdict::Refused, "no-successor"));
    world.settles();
}

#[test]
fn two_that_ask_around_an_election_are_not_both_let_go() {
    let mut world = flown(5, 0, kept);
    let old = world.leader();
    world.wait("it flies", |world| world.pilot(old).is_some_and(|pilot| pilot.took_over));
    world.run_for(seconds(3));
    let others: Vec<usize> = (0..5).filter(|node| *node != old).collect();
    assert_eq!(world.wants_to_stop(others[0]), Some(true));
    world.run_for(ms(300));
    let leader = next_leader(&mut world, old);
    world.run_for(seconds(1));
    // One is dead and one was let go: nobody else may.
    let another = others.iter().copied().find(|node| *node != leader && *node != others[0]).expect("one");
    assert_eq!(world.wants_to_stop(another), Some(false), "the old leader is dead, and one was let go");
    world.start(old);
    world.settles();
}

#[test]
fn probation_goes_on_under_the_next_leader_by_as_much_as_the_ledger_says() {
    for ledgers in [true, false] {
        let (mut world, old) = three_and_a_joiner(|flight| {
            flight.ledgers = ledgers;
            flight.config.server_stabilization_time = seconds(6);
        });
        world.run_for(seconds(5));
        assert!(!world.votes(3));
        let leader = next_leader(&mut world, old);
        let elected = world.now;
        world.wait("the joiner votes", |world| world.votes(3));
        let waited = world.now.since(elected);
        assert_eq!(waited < seconds(4), ledgers, "{waited:?} under {leader}, ledgers: {ledgers}");
        world.start(old);
        world.settles();
    }
}

#[test]
fn who_fails_during_an_election_starts_its_probation_anew() {
    let (mut world, old) = three_and_a_joiner(|flight| {
        flight.config.server_stabilization_time = seconds(6);
    });
    world.run_for(seconds(5));
    world.crash(3);
    next_leader(&mut world, old);
    world.run_for(seconds(1));
    world.start(3);
    let back = world.now;
    world.wait("the joiner votes", |world| world.votes(3));
    assert!(world.now.since(back) >= seconds(6), "{:?}", world.now.since(back));
    world.start(old);
    world.settles();
}

/// It is cut off, taken out as dead, and comes back as the one that it was.
#[test]
fn who_was_taken_out_stays_out_until_it_starts_again_or_is_wanted() {
    for restarts in [true, false] {
        let mut world = flown(4, 0, kept);
        let leader = world.leader();
        let node = other_than(&world, &[leader]);
        world.isolate(node);
        world.wait("it is out", |world| world.member(node).is_none());
        world.run_for(seconds(1));
        let now = next_leader(&mut world, leader);
        world.start(leader);
        world.network.cuts.clear();
        world.run_for(seconds(6));
        assert_eq!(world.member(node), None, "nobody wants it back, under {now}");
        assert!(world.count("autopilot: admissions refused, they were taken out") > 0);
        if restarts {
            world.crash(node);
            world.start(node);
        } else {
            world.fleet.people.wanted_back.insert(node);
        }
        world.wait("it votes", |world| world.votes(node));
        world.settles();
    }
}

/// The leader hears nothing of a voter, and its application calls it dead: others are asked.
#[test]
fn one_witness_that_lies_or_is_cut_off_takes_nobody_out() {
    // Where one is asked for, those who hear from it count against the one that lies.
    for (witnesses, lies) in [(2, true), (2, false), (1, true)] {
        let mut world = flown(5, 0, |flight| flight.config.health.witnesses = witnesses);
        let leader = world.leader();
        let node = other_than(&world, &[leader]);
        let bad = other_than(&world, &[leader, node]);
        world.rumour(Some(leader), node, Some(NodeStatus::Failed), seconds(10));
        world.network.cuts.extend([(leader, node), (node, leader)]);
        if lies {
            let until = world.now + seconds(10);
            world.fleet.lies.insert(bad, Lie { until, dead: true });
        } else {
            world.network.cuts.extend([(bad, node), (node, bad)]);
        }
        world.run_for(seconds(9));
        assert_eq!((world.leader(), world.votes(node)), (leader, true), "two hear from it, lies: {lies}");
        assert!(world.count("autopilot refuses: not-corroborated") > 0);
        world.network.cuts.clear();
        world.retire(node);
        world.wait("it is out once it is dead", |world| world.member(node).is_none());
        world.settles();
    }
}

#[test]
fn a_flapping_server_has_to_be_calm_for_longer_than_others() {
    let mut world = flown(3, 1, |flight| {
        flight.config.health.flap_limit = 3;
        flight.config.health.flap_half_life = seconds(8);
    });
    world.wait("the joiner is a member", |world| world.member(3).is_some());
    for _ in 0..3 {
        world.run_for(ms(1_200));
        world.crash(3);
        world.run_for(ms(1_200));
        world.start(3);
    }
    let back = world.now;
    world.run_for(seconds(5));
    assert!(!world.votes(3), "it was healthy for long enough, and is flapping");
    world.wait("it votes", |world| world.votes(3));
    assert!(world.now.since(back) < seconds(20));
    world.settles();
}

#[test]
fn what_a_leader_has_used_up_its_successor_does_not_have() {
    let mut world = flown(5, 2, |flight| {
        kept(flight);
        (flight.config.changes.max, flight.config.changes.window) = (1, seconds(12));
    });
    let old = world.leader();
    world.wait("one votes", |world| voters(world) == 6);
    let stepped = world.now;
    world.run_for(seconds(1));
    commit(&mut world, old, 1);
    next_leader(&mut world, old);
    world.start(old);
    world.wait("the other votes", |world| voters(world) == 7);
    assert!(world.now.since(stepped) >= seconds(12), "{:?}", world.now.since(stepped));
    world.settles();
}

/// It knows nobody, or not the leader: what it does not say proves nothing.
#[test]
fn an_application_that_is_blind_takes_nobody_out() {
    for blank in [true, false] {
        let mut world = flown(5, 0, |_| {});
        let leader = world.leader();
        let dead = other_than(&world, &[leader]);
        match blank {
            true => world.fleet.ills.entry(leader).or_default().blank_until = world.now + seconds(10),
            false => world.rumour(None, leader, None, seconds(10)),
        }
        world.crash(dead);
        world.run_for(seconds(9));
        assert!(world.votes(dead), "blank: {blank}");
        world.start(dead);
        world.settles();
    }
}

/// What random runs may miss.
#[test]
fn defects_that_random_runs_seldom_meet_spoil_a_story() {
    let stories: [(Defect, fn()); 5] = [
        (Defect::BlindApplicationTrusted, an_application_that_is_blind_takes_nobody_out),
        (Defect::FlapsIgnored, a_flapping_server_has_to_be_calm_for_longer_than_others),
        (Defect::LimitsLost, what_a_leader_has_used_up_its_successor_does_not_have),
        (Defect::TombstonesLost, who_was_taken_out_stays_out_until_it_starts_again_or_is_wanted),
        (Defect::LivingWitnessesIgnored, one_witness_that_lies_or_is_cut_off_takes_nobody_out),
    ];
    for (defect, story) in stories {
        PLANTED.set(Some(Mutant::Autopilot(defect)));
        let told = catch_unwind(story);
        PLANTED.set(None);
        assert!(told.is_err(), "{} spoils nothing", defect.name());
    }
}

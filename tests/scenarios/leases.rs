//! Reads, leases and transfers.

use std::time::Duration;

use raft::ConfigurationChange;
use raft::core::{Outcome, Refusal, Request};
use simulation::options::Options;
use simulation::world::World;

use crate::{commit, no_appends, other_than, seconds};

fn leasing(voters: usize) -> World {
    let mut options = Options::calm(voters, 0);
    options.config.lease_reads = true;
    let mut world = World::new(options);
    world.leader();
    world
}

/// Reads until one is served by lease.
fn lease_read(world: &mut World, node: usize) -> bool {
    (0..20).any(|_| {
        let read = world.read(node);
        matches!(world.workload.outcome(read), Some(Outcome::LeaseRead { .. }))
    })
}

#[test]
fn l03_l04_a_lease_ends_where_a_transfer_begins() {
    let mut world = leasing(3);
    let old = world.leader();
    let target = other_than(&world, &[old]);
    world.run_for(seconds(1));
    assert!(lease_read(&mut world, old), "a leader that a quorum answers serves by lease");
    // The target is dead: leadership stays, and what was promised to it cannot be taken back.
    world.crash(target);
    let transfer = world.transfer(old, Some(target));
    assert!(!lease_read(&mut world, old), "not while leadership may be elsewhere");
    world.wait("the transfer ends", |world| world.workload.outcome(transfer).is_some());
    world.settles();
}

#[test]
fn l04_a_leader_that_handed_over_and_hears_nothing_serves_no_read() {
    let mut world = leasing(3);
    let old = world.leader();
    let target = other_than(&world, &[old]);
    world.run_for(seconds(1));
    world.transfer(old, Some(target));
    for other in (0..3).filter(|node| *node != old) {
        world.network.cuts.insert((other, old));
    }
    world.wait("the target leads", |world| world.leads(target) && world.core(target).is_ready());
    assert!(world.leads(old), "it does not know yet");
    assert!(!lease_read(&mut world, old));
    commit(&mut world, target, 1);
    world.settles();
}

#[test]
fn l05_a_lease_runs_from_when_the_request_left() {
    let mut world = leasing(3);
    let old = world.leader();
    world.run_for(seconds(1));
    // Answers take almost as long as a lease lasts.
    let timeout = world.options.config.election_timeout;
    world.isolate(old);
    world.run_for(timeout.mul_f64(0.95));
    assert!(!lease_read(&mut world, old), "the newest answered request left too long ago");
    world.settles();
}

#[test]
fn l06_leases_bear_clocks_within_the_bound() {
    for drift in [-20_000, 20_000] {
        let mut world = leasing(3);
        let old = world.leader();
        let now = world.now;
        world.servers[old].clock.set_drift(now, drift);
        world.run_for(seconds(5));
        world.isolate(old);
        for _ in 0..100 {
            world.read(old);
            world.run_for(Duration::from_millis(20));
        }
        world.settles();
    }
}

#[test]
fn l08_a_read_at_a_fresh_leader_waits_for_an_entry_of_its_term() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    commit(&mut world, old, 3);
    world.crash(old);
    no_appends(&mut world);
    world.wait("another one leads", |world| (0..3).any(|node| world.leads(node)));
    let new = (0..3).find(|node| world.leads(*node)).expect("just seen");
    let read = world.read(new);
    world.run_for(seconds(1) / 5);
    assert_eq!(world.workload.outcome(read), None);
    world.filter = None;
    world.wait("then it is served", |world| {
        matches!(world.workload.outcome(read), Some(Outcome::Read { .. }))
    });
    world.settles();
}

#[test]
fn l09_answers_to_an_earlier_round_confirm_no_later_read() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    let follower = other_than(&world, &[old]);
    let third = other_than(&world, &[old, follower]);
    world.network.cut(old, third);
    world.hold_answers = Some((follower, old));
    world.run_for(seconds(1) / 10);
    let early = world.read(old);
    world.run_for(seconds(1) / 100);
    // What answers the first round arrives; it left before the second read came.
    world.network.cuts.insert((old, follower));
    let late = world.read(old);
    world.release();
    world.run_for(seconds(1) / 100);
    assert!(matches!(world.workload.outcome(early), Some(Outcome::Read { .. })));
    assert_eq!(world.workload.outcome(late), None);
    world.settles();
}

#[test]
fn l01_nothing_is_appended_while_leadership_moves() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let target = other_than(&world, &[leader]);
    no_appends(&mut world);
    world.propose(leader);
    let transfer = world.transfer(leader, Some(target));
    let last = world.core(leader).last();
    for _ in 0..100 {
        world.propose(leader);
    }
    assert_eq!(world.core(leader).last(), last, "refused before the target is compared");
    assert!(world.coverage["refused: transfer in progress"] >= 100);
    world.filter = None;
    world.wait("the transfer ends", |world| world.workload.outcome(transfer).is_some());
    world.settles();
}

#[test]
fn l02_leadership_goes_to_no_learner() {
    let mut world = World::calm(3, 1);
    let leader = world.leader();
    let peer = world.servers[3].peer.clone();
    let add = ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address };
    let added = world.change(leader, add);
    world.wait("it is added", |world| world.workload.outcome(added).is_some());
    let transfer = world.transfer(leader, Some(3));
    assert_eq!(world.workload.outcome(transfer), Some(&Outcome::Refused(Refusal::InvalidTarget)));
    world.inject(leader, 3, Request::TimeoutNow { term: Some(world.core(leader).term()) });
    world.run_for(seconds(1));
    assert!(world.leads(leader));
    world.settles();
}

#[test]
fn m14_a_read_that_waits_is_judged_by_the_smaller_quorum() {
    let mut world = World::calm(2, 0);
    let leader = world.leader();
    let other = other_than(&world, &[leader]);
    world.run_for(seconds(1));
    world.hold_answers = Some((other, leader));
    let read = world.read(leader);
    world.run_for(seconds(1) / 100);
    assert_eq!(world.workload.outcome(read), None, "one of two");
    let id = world.servers[other].peer.id.clone();
    world.change(leader, ConfigurationChange::RemoveServer { id });
    world.run_for(seconds(1) / 100);
    assert!(matches!(world.workload.outcome(read), Some(Outcome::Read { .. })), "one of one");
    world.settles();
}

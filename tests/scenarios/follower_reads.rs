//! Reads on servers that do not lead. What is served is judged by `reads` and `linearizable` in every one of them.

use std::time::Duration;

use raft::ConfigurationChange;
use raft::core::{Outcome, Refusal, Request, RequestId};
use simulation::options::Options;
use simulation::world::World;

use crate::{commit, no_appends, only_campaigns, other_than, seconds};

/// A calm cluster whose followers have all heard what their leader can do.
fn calm(voters: usize, spares: usize) -> World {
    let mut world = World::calm(voters, spares);
    world.run_for(seconds(1));
    world
}

fn served(world: &World, read: RequestId) -> bool {
    matches!(world.workload.outcome(read), Some(Outcome::Read { .. }))
}

fn ended(world: &World, read: RequestId) -> bool {
    world.workload.outcome(read).is_some()
}

/// Cuts these servers off from all others.
fn split(world: &mut World, side: &[usize]) {
    for here in side {
        for there in (0..world.servers.len()).filter(|node| !side.contains(node)) {
            world.network.cut(*here, there);
        }
    }
}

#[test]
fn l13_a_follower_shows_everything_that_was_acknowledged() {
    let mut world = calm(3, 0);
    let leader = world.leader();
    for _ in 0..20 {
        commit(&mut world, leader, 1);
        let newest = world.core(leader).commit_index();
        for node in 0..3 {
            let read = world.read(node);
            world.wait("it is served", |world| ended(world, read));
            assert_eq!(world.workload.outcome(read), Some(&Outcome::Read { index: newest }));
        }
    }
    world.settles();
    assert_eq!(world.checks.linearizable.judged(), Ok(true));
}

#[test]
fn l13_a_session_that_goes_from_server_to_server_never_reads_backwards() {
    let mut world = calm(5, 0);
    let leader = world.leader();
    let behind = other_than(&world, &[leader]);
    // One follower learns of nothing for a while: it is behind all others.
    world.filter =
        Some(Box::new(move |_, to, request| to != behind || !matches!(request, Request::Append { .. })));
    commit(&mut world, leader, 5);
    let ahead = other_than(&world, &[leader, behind]);
    let first = world.read(ahead);
    world.wait("it is served", |world| served(world, first));
    let second = world.read(behind);
    world.run_for(seconds(1) / 10);
    assert!(!ended(&world, second), "it does not hold what was read elsewhere");
    world.filter = None;
    world.wait("then it is served", |world| ended(world, second));
    assert!(served(&world, second));
    world.settles();
    assert_eq!(world.checks.linearizable.judged(), Ok(true));
}

#[test]
fn l13_a_deposed_leader_confirms_no_read_of_its_followers() {
    let mut world = calm(5, 0);
    let old = world.leader();
    let beside = other_than(&world, &[old]);
    split(&mut world, &[old, beside]);
    let heir = other_than(&world, &[old, beside]);
    only_campaigns(&mut world, heir);
    let mut reads = Vec::new();
    // Before, while and after the others elect another leader and go on without them.
    for _ in 0..200 {
        reads.push(world.read(beside));
        world.run_for(seconds(1) / 100);
        if world.leads(heir) && world.core(heir).is_ready() {
            world.propose(heir);
        }
    }
    assert!(world.leads(heir) && world.core(heir).commit_index() > world.core(beside).commit_index());
    world.run_for(seconds(2));
    assert!(reads.iter().all(|read| ended(&world, *read)), "every one of them ends");
    assert!(!reads.iter().any(|read| served(&world, *read)), "none of them is served");
    world.settles();
}

#[test]
fn l13_an_answer_that_was_on_its_way_when_another_was_elected_serves_only_what_came_before() {
    let mut world = calm(5, 0);
    let old = world.leader();
    let beside = other_than(&world, &[old]);
    world.hold_answers = Some((old, beside));
    let early = world.read(beside);
    world.run_for(seconds(1) / 50);
    split(&mut world, &[old, beside]);
    let heir = other_than(&world, &[old, beside]);
    only_campaigns(&mut world, heir);
    world.wait("another one leads", |world| world.leads(heir) && world.core(heir).is_ready());
    commit(&mut world, heir, 3);
    let late = world.read(beside);
    world.release();
    world.run_for(seconds(2));
    assert!(ended(&world, early) && ended(&world, late));
    assert!(!served(&world, late), "nobody confirmed it");
    world.settles();
}

#[test]
fn l09_l13_an_answer_to_an_earlier_request_confirms_no_later_read() {
    let mut world = calm(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    world.hold_answers = Some((leader, follower));
    let early = world.read(follower);
    world.wait("its request is given up", |world| ended(world, early));
    commit(&mut world, leader, 3);
    // The second request arrives nowhere; then the answer to the first one does.
    world.network.cuts.insert((follower, leader));
    let late = world.read(follower);
    world.release();
    world.run_for(seconds(1) / 20);
    assert!(!ended(&world, late), "it waits for its own answer");
    world.wait("until nobody believes in one", |world| ended(world, late));
    assert_eq!(world.workload.outcome(late), Some(&Outcome::Refused(Refusal::ReadUnconfirmed)));
    world.settles();
}

#[test]
fn l09_l13_a_read_that_comes_while_a_request_is_on_its_way_has_one_of_its_own() {
    let mut world = calm(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    world.hold_answers = Some((leader, follower));
    let early = world.read(follower);
    world.run_for(seconds(1) / 50);
    // The leader has answered with an index from before this.
    commit(&mut world, leader, 3);
    let newest = world.core(leader).commit_index();
    let late = world.read(follower);
    world.release();
    world.wait("both are served", |world| ended(world, early) && ended(world, late));
    assert_eq!(world.workload.outcome(late), Some(&Outcome::Read { index: newest }));
    assert!(matches!(world.workload.outcome(early), Some(Outcome::Read { index }) if *index < newest));
    world.settles();
}

#[test]
fn l08_l13_a_fresh_leader_confirms_nothing_before_an_entry_of_its_term() {
    let mut world = calm(3, 0);
    let old = world.leader();
    commit(&mut world, old, 3);
    // Long enough for the read's request to be still on its way when the lost entries are sent again.
    world.options.request_timeout = seconds(1) / 2;
    world.crash(old);
    no_appends(&mut world);
    world.wait("another one leads", |world| (0..3).any(|node| world.leads(node)));
    let new = (0..3).find(|node| world.leads(*node)).expect("just seen");
    let follower = other_than(&world, &[old, new]);
    world.wait("the follower knows it", |world| {
        world.core(follower).leader().is_some_and(|leader| leader.id == world.servers[new].peer.id)
    });
    world.run_for(seconds(1) / 10);
    let read = world.read(follower);
    world.run_for(seconds(1) / 20);
    assert_eq!(world.workload.outcome(read), None);
    world.filter = None;
    world.wait("then it is served", |world| served(world, read));
    world.settles();
}

#[test]
fn l13_a_read_whose_index_does_not_arrive_ends_in_time() {
    let mut world = calm(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    world.filter =
        Some(Box::new(move |_, to, request| to != follower || !matches!(request, Request::Append { .. })));
    commit(&mut world, leader, 3);
    let read = world.read(follower);
    let limit = world.options.config.election_timeout * 2 + Duration::from_millis(100);
    world.run_for(limit);
    assert_eq!(world.workload.outcome(read), Some(&Outcome::Refused(Refusal::ReadUnconfirmed)));
    world.settles();
}

#[test]
fn l13_slow_state_machines_serve_late_and_not_stale() {
    let mut options = Options::calm(3, 0);
    options.apply = seconds(1) / 5;
    let mut world = World::new(options);
    let leader = world.leader();
    world.run_for(seconds(1));
    for round in 0..30 {
        world.propose(leader);
        world.run_for(seconds(1) / 20);
        world.read((leader + 1 + round % 2) % 3);
    }
    world.run_for(seconds(5));
    assert!(world.servers.iter().all(|server| server.reading.is_empty()), "all of them were served");
    assert!(world.coverage["reads served"] >= 30);
    world.settles();
    assert_eq!(world.checks.linearizable.judged(), Ok(true));
}

#[test]
fn l13_repeated_and_late_messages_confirm_nothing_twice() {
    let mut options = Options::calm(3, 0);
    (options.duplicates, options.late) = (1000, 200);
    options.delay = (Duration::from_micros(100), Duration::from_millis(40));
    let mut world = World::new(options);
    world.leader();
    world.run_for(seconds(1));
    for _ in 0..300 {
        let leader = world.leader();
        world.propose(leader);
        for node in 0..3 {
            world.read(node);
        }
        world.run_for(Duration::from_millis(15));
    }
    world.run_for(seconds(5));
    assert!(world.coverage["reads served"] > 300, "{:?}", world.coverage.get("reads served"));
    world.settles();
    assert_eq!(world.checks.linearizable.judged(), Ok(true));
}

#[test]
fn l13_m11_a_non_voter_reads_and_a_removed_server_is_told_no() {
    let mut world = calm(3, 1);
    let leader = world.leader();
    let peer = world.servers[3].peer.clone();
    let id = peer.id.clone();
    let add = ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address };
    let added = world.change(leader, add);
    world.wait("it is added", |world| world.workload.outcome(added).is_some());
    world.run_for(seconds(1));
    commit(&mut world, leader, 3);
    let read = world.read(3);
    world.wait("it is served", |world| served(world, read));
    // Two voters of three are gone: a non-voter must not take their place in the round.
    let gone: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    split(&mut world, &gone);
    let read = world.read(3);
    world.wait("it ends", |world| ended(world, read));
    assert!(!served(&world, read));
    world.settles();

    let leader = world.leader();
    world.change(leader, ConfigurationChange::RemoveServer { id });
    world.run_for(seconds(1));
    commit(&mut world, leader, 3);
    let read = world.read(3);
    world.wait("it ends", |world| ended(world, read));
    assert!(!served(&world, read), "what was committed after its removal never gets there");
    world.settles();
}

#[test]
fn l13_a_follower_that_stood_still_after_its_read_was_confirmed_is_not_stale() {
    let mut options = Options::calm(3, 0);
    options.apply = seconds(1) / 10;
    let mut world = World::new(options);
    let leader = world.leader();
    world.run_for(seconds(1));
    let follower = other_than(&world, &[leader]);
    commit(&mut world, leader, 3);
    world.propose(leader);
    world.run_for(seconds(1) / 100);
    world.read(follower);
    world.run_for(seconds(1) / 100);
    world.servers[follower].paused_until = world.now + seconds(3);
    commit(&mut world, leader, 10);
    world.run_for(seconds(5));
    world.settles();
    assert_eq!(world.checks.linearizable.judged(), Ok(true));
}

#[test]
fn l13_a_crash_of_the_leader_or_the_asker_ends_every_read() {
    for crash_leader in [true, false] {
        let mut world = calm(3, 0);
        let leader = world.leader();
        let follower = other_than(&world, &[leader]);
        world.hold_answers = Some((leader, follower));
        let reads: Vec<_> = (0..10).map(|_| world.read(follower)).collect();
        world.run_for(seconds(1) / 100);
        world.crash(if crash_leader { leader } else { follower });
        world.run_for(seconds(3));
        if crash_leader {
            assert!(reads.iter().all(|read| ended(&world, *read) && !served(&world, *read)));
        }
        world.settles();
        assert!(world.workload.is_idle(), "nobody waits any more");
    }
}

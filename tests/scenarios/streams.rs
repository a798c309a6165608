//! What is on its way between a leader and its followers: lost, late, doubled, stalled.

use std::cell::Cell;
use std::rc::Rc;

use raft::core::{Features, Input, Outcome, Refusal, Request, Response, Sequence};
use raft::{ConfigurationChange, LogIndex, Suffrage};
use simulation::options::Options;
use simulation::random::stream;
use simulation::world::World;

use crate::{commit, no_appends, only_campaigns, other_than, seconds};

#[test]
fn r05_neither_an_append_nor_a_heartbeat_moves_the_match_before_the_sync() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let slow = other_than(&world, &[leader]);
    world.run_for(seconds(1));
    let id = world.servers[slow].peer.id.clone();
    let before = world.core(leader).follower(&id).map(|view| view.matched);
    world.stall(slow, seconds(3));
    let value = world.propose(leader);
    world.run_for(seconds(2));
    assert!(world.acknowledged(value), "the other follower is enough");
    assert_eq!(world.core(leader).follower(&id).map(|view| view.matched), before);
    world.crash(slow);
    world.settles();
}

#[test]
fn r08_answers_of_an_earlier_life_prove_nothing() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    world.hold_answers = Some((follower, leader));
    commit(&mut world, leader, 5);
    world.crash(follower);
    world.start(follower);
    world.release();
    world.run_for(seconds(1));
    world.settles();
}

#[test]
fn r09_a_stale_refusal_takes_nothing_back() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    commit(&mut world, leader, 10);
    world.run_for(seconds(1));
    let id = world.servers[other_than(&world, &[leader])].peer.id.clone();
    let before = world.core(leader).follower(&id).map(|view| view.matched);
    let term = world.core(leader).term();
    for sequence in 1..200 {
        let response = Response::Append {
            term,
            success: false,
            last_log: LogIndex(1),
            features: Features::OURS,
            incarnation: raft::Incarnation::FOUNDER,
        };
        world.step(leader, Input::Response { from: id.clone(), sequence: Sequence(sequence), response });
    }
    assert_eq!(world.core(leader).follower(&id).map(|view| view.matched), before);
    world.settles();
}

/// A refusal arrives for requests that are still on their way, and names less than is known to match.
#[test]
fn r09_a_refusal_that_names_less_than_matches_takes_nothing_back() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    commit(&mut world, leader, 10);
    world.run_for(seconds(1));
    let follower = other_than(&world, &[leader]);
    let id = world.servers[follower].peer.id.clone();
    let before = world.core(leader).follower(&id).map(|view| view.matched);
    let term = world.core(leader).term();
    no_appends(&mut world);
    world.propose(leader);
    let sent: Vec<Sequence> = {
        let sent = world.servers[leader].sent.iter();
        sent.filter(|(_, to)| **to == follower).map(|(sequence, _)| *sequence).collect()
    };
    assert!(!sent.is_empty(), "something is on its way");
    for sequence in sent {
        let response = Response::Append {
            term,
            success: false,
            last_log: LogIndex(1),
            features: Features::OURS,
            incarnation: raft::Incarnation::FOUNDER,
        };
        world.step(leader, Input::Response { from: id.clone(), sequence, response });
        assert_eq!(world.core(leader).follower(&id).map(|view| view.matched), before);
    }
    world.settles();
}

/// What waits for the disk when a newer term comes was asked for in the older one: no success of that is said any more.
#[test]
fn r18_what_waited_to_be_acknowledged_in_an_older_term_is_not_in_the_newer_one() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    let rival = other_than(&world, &[leader, follower]);
    commit(&mut world, leader, 3);
    world.run_for(seconds(1));
    world.isolate(follower);
    world.stall(follower, seconds(1) / 2);
    let (term, prev) = (world.core(follower).term(), world.core(follower).last());
    world.propose(leader);
    let last = world.core(leader).last().index;
    let entries = world.core(leader).entries(last, last, usize::MAX);
    world.inject(leader, follower, Request::Append { term, prev, entries, commit: LogIndex(0) });
    assert!(world.said.is_empty(), "its disk stands still");
    world.inject(rival, follower, Request::Heartbeat { term: term.next(), features: Features(0) });
    world.run_for(seconds(2));
    let acknowledged = world.said.iter().filter(
        |(_, said)| matches!(said, Response::Append { success: true, term: said, .. } if *said == term),
    );
    assert_eq!(acknowledged.count(), 0, "{:?}", world.said);
    world.settles();
}

/// A disk fails for good under a leader with commands on their way: it says nothing more, another one leads, and nobody who
/// waited is acknowledged by what comes later.
#[test]
fn d04_a_leader_whose_disk_fails_is_silent_and_another_leads() {
    for seed in 1..=4 {
        let mut world = World::new(Options { files: true, seed, ..Options::calm(3, 0) });
        let old = world.leader();
        commit(&mut world, old, 3);
        let mut random = stream(seed, "failures");
        world.servers[old].disk.files.as_mut().expect("real stores").fail_syncs(&mut random);
        let lost: Vec<u64> = (0..10).map(|_| world.propose(old)).collect();
        assert!(lost.iter().all(|value| !world.acknowledged(*value)));
        world.wait("another one leads", |world| (0..3).any(|node| node != old && world.leads(node)));
        assert!(!world.leads(old) && world.servers[old].disk.failed);
        let new = world.leader();
        commit(&mut world, new, 3);
        world.run_for(seconds(5));
        assert!(world.leads(new), "who cannot write campaigns no more");
        assert!(world.workload.is_idle(), "everybody who waited is told: {:?}", world.workload.pending());
        world.settles();
    }
}

#[test]
fn r11_a_whole_window_of_lost_requests_is_made_good_without_a_new_command() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    world.filter =
        Some(Box::new(move |_, to, request| to != follower || !matches!(request, Request::Append { .. })));
    commit(&mut world, leader, 40);
    let last = world.core(leader).last();
    world.filter = None;
    world.wait("heartbeats bring it up to date", |world| world.servers[follower].machine.last == last);
    world.settles();
}

#[test]
fn r12_a_follower_whose_disk_stood_still_is_brought_up_again() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    world.stall(follower, seconds(4));
    commit(&mut world, leader, 20);
    let last = world.core(leader).last();
    world.wait("it has everything", |world| world.servers[follower].disk.log.last() == last);
    assert!(world.leads(leader), "a follower's disk deposes nobody");
    world.settles();
}

#[test]
fn r14_many_conflicting_entries_are_found_in_few_rounds() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    let heir = other_than(&world, &[old]);
    world.isolate(old);
    for _ in 0..300 {
        world.propose(old);
    }
    let tail = world.core(old).last();
    world.wait("they are durable there", |world| world.servers[old].disk.log.last() == tail);
    only_campaigns(&mut world, heir);
    world.wait("another one leads", |world| world.leads(heir) && world.core(heir).is_ready());
    commit(&mut world, heir, 300);
    let rounds = Rc::new(Cell::new(0_u32));
    let counted = Rc::clone(&rounds);
    world.filter = Some(Box::new(move |from, to, request| {
        if to == old && matches!(request, Request::Append { .. }) {
            counted.set(counted.get() + 1);
        }
        from == heir || !matches!(request, Request::PreVote { .. } | Request::Vote { .. })
    }));
    world.network.heal();
    let last = world.core(heir).last();
    world.wait("the conflict is gone", |world| world.servers[old].disk.log.last() == last);
    assert!(rounds.get() <= 12, "{} requests for two terms", rounds.get());
    world.settles();
}

#[test]
fn r16_what_was_acknowledged_survives_any_number_of_leaders() {
    let mut world = World::calm(5, 0);
    for round in 0..10 {
        let leader = world.leader();
        commit(&mut world, leader, 3);
        let reached = (leader + 1 + round % 4) % 5;
        world.filter =
            Some(Box::new(move |_, to, request| to == reached || !matches!(request, Request::Append { .. })));
        world.propose(leader);
        world.run_for(seconds(1) / 100);
        world.crash(leader);
        world.filter = None;
        world.leader();
        world.start(leader);
    }
    world.settles();
}

#[test]
fn r17_what_follows_a_larger_configuration_needs_the_larger_quorum() {
    let mut world = World::calm(1, 1);
    let peer = world.servers[1].peer.clone();
    let (id, address) = (peer.id.clone(), peer.address.clone());
    let request = world.change(0, ConfigurationChange::AddNonvoter { id, address });
    world.wait("it is known", |world| {
        world.workload.outcome(request).is_some()
            && world.core(0).follower(&peer.id).is_some_and(|view| view.incarnation.is_some())
    });
    world.isolate(1);
    let request = world.change(0, ConfigurationChange::AddVoter { id: peer.id, address: peer.address });
    let value = world.propose(0);
    world.run_for(seconds(1) / 5);
    assert!(!world.acknowledged(value), "one of two");
    world.network.heal();
    world.wait("both have it", |world| world.workload.outcome(request).is_some());
    world.settles();
}

#[test]
fn r18_a_write_that_ends_in_another_role_proves_nothing() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    world.stall(old, seconds(3));
    for _ in 0..5 {
        world.propose(old);
    }
    no_appends(&mut world);
    world.isolate(old);
    world.wait("another one leads", |world| (0..3).any(|node| node != old && world.leads(node)));
    world.filter = None;
    let new = (0..3).find(|node| *node != old && world.leads(*node)).expect("just seen");
    world.wait("it can serve", |world| world.core(new).is_ready());
    commit(&mut world, new, 3);
    world.network.heal();
    world.run_for(seconds(5));
    world.settles();
}

#[test]
fn r19_everybody_who_waits_at_a_deposed_leader_is_told_once() {
    let mut world = World::calm(3, 1);
    let old = world.leader();
    world.isolate(old);
    for _ in 0..100 {
        world.propose(old);
        world.read(old);
    }
    let peer = world.servers[3].peer.clone();
    let change = world.change(old, ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address });
    let transfer = world.transfer(old, None);
    world.wait("it steps down", |world| !world.leads(old));
    assert_eq!(world.workload.outcome(change), Some(&Outcome::Refused(Refusal::LeadershipLost)));
    assert!(matches!(world.workload.outcome(transfer), Some(Outcome::Refused(_))));
    assert!(world.workload.is_idle(), "{:?}", world.workload.pending());
    world.settles();
}

#[test]
fn r20_what_is_not_committed_is_bounded() {
    let mut options = Options::calm(3, 0);
    options.config.uncommitted_bytes_max = 2_000;
    let mut world = World::new(options);
    let leader = world.leader();
    no_appends(&mut world);
    for _ in 0..500 {
        world.propose(leader);
    }
    assert!(world.core(leader).log_bytes() < 4_000, "{} bytes", world.core(leader).log_bytes());
    assert!(world.coverage["refused: overloaded"] > 400);
    world.settles();
}

#[test]
fn r21_a_follower_that_stands_still_is_sent_a_window_and_no_more() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let slow = other_than(&world, &[leader]);
    world.run_for(seconds(1));
    world.stall(slow, seconds(3));
    let sent = Rc::new(Cell::new(0_usize));
    let counted = Rc::clone(&sent);
    world.filter = Some(Box::new(move |_, to, request| {
        if to == slow && matches!(request, Request::Append { .. }) {
            counted.set(counted.get() + 1);
        }
        true
    }));
    for _ in 0..100 {
        world.propose(leader);
        world.run_for(seconds(1) / 1000);
    }
    assert!(sent.get() <= world.options.config.inflight_max, "{} requests", sent.get());
    world.settles();
}

#[test]
fn r22_a_slow_state_machine_starves_no_heartbeat() {
    let mut options = Options::calm(3, 0);
    options.apply = seconds(3);
    let mut world = World::new(options);
    let leader = world.leader();
    let term = world.core(leader).term();
    for _ in 0..50 {
        world.propose(leader);
        world.run_for(seconds(1) / 5);
    }
    assert!(world.leads(leader));
    assert_eq!(world.core(leader).term(), term);
    world.settles();
}

#[test]
fn d03_a_leader_whose_disk_stands_still_makes_room() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    let limit = world.options.config.disk_stall_limit;
    world.stall(old, limit * 4);
    world.propose(old);
    world.run_for(limit + world.options.config.election_timeout * 6);
    assert!(!world.leads(old), "the watchdog on its oldest write");
    assert!((0..3).any(|node| node != old && world.leads(node)), "another one leads meanwhile");
    world.settles();
}

#[test]
fn m10_learners_are_served_while_voters_change() {
    let mut world = World::calm(3, 3);
    let leader = world.leader();
    for node in 3..6 {
        let peer = world.servers[node].peer.clone();
        let add = ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address };
        let request = world.change(leader, add);
        world.wait("it is added", |world| world.workload.outcome(request).is_some());
    }
    let gone = other_than(&world, &[leader]);
    let id = world.servers[gone].peer.id.clone();
    let request = world.change(leader, ConfigurationChange::DemoteVoter { id: id.clone() });
    world.wait("the demotion commits", |world| world.workload.outcome(request).is_some());
    commit(&mut world, leader, 5);
    let last = world.core(leader).last();
    world
        .wait("all six have everything", |world| (0..6).all(|node| world.servers[node].machine.last == last));
    let suffrage = world.core(leader).configuration().server(&id).map(|server| server.suffrage);
    assert_eq!(suffrage, Some(Suffrage::Nonvoter));
    world.settles();
}

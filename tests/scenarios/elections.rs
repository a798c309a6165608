//! Terms, votes, elections.

use raft::core::{Outcome, Refusal, Request};
use raft::{ConfigurationChange, EntryId, Term};
use simulation::world::World;

use crate::{only_campaigns, other_than, seconds};

#[test]
fn e02_e03_a_vote_survives_a_restart() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let voter = other_than(&world, &[leader]);
    let (first, second) = (other_than(&world, &[leader, voter]), leader);
    let term = Term(world.core(leader).term().0 + 1);
    let campaign = Request::Vote { term, last: EntryId::new(99, 999), transfer: true };
    world.isolate(voter);
    world.inject(first, voter, campaign.clone());
    let candidate = world.servers[first].peer.id.clone();
    let kept = |world: &World| world.servers[voter].disk.hard_state.voted_for.clone();
    let granted = candidate.clone();
    world.wait("the vote is durable", move |world| kept(world) == Some(granted.clone()));
    world.crash(voter);
    world.start(voter);
    world.inject(second, voter, campaign);
    world.run_for(seconds(1) / 10);
    assert_eq!(world.servers[voter].disk.hard_state.voted_for, Some(candidate), "one vote a term");
    world.settles();
}

#[test]
fn e03_a_vote_that_is_not_durable_was_never_given() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let voter = other_than(&world, &[leader]);
    let first = other_than(&world, &[leader, voter]);
    let term = Term(world.core(leader).term().0 + 1);
    world.inject(first, voter, Request::Vote { term, last: EntryId::new(99, 999), transfer: true });
    let voter_id = world.servers[voter].peer.id.clone();
    let candidate = world.servers[first].peer.id.clone();
    assert!(
        !world.checks.one_vote.has(&voter_id, term, &candidate),
        "nothing is said before the disk has it"
    );
    world.run_for(seconds(1) / 100);
    assert!(world.checks.one_vote.has(&voter_id, term, &candidate), "then it is");
    world.settles();
}

#[test]
fn e13_a_removed_server_disturbs_nobody() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let gone = other_than(&world, &[leader]);
    world.isolate(gone);
    let id = world.servers[gone].peer.id.clone();
    let request = world.change(leader, ConfigurationChange::RemoveServer { id });
    world.wait("the removal commits", |world| {
        matches!(world.workload.outcome(request), Some(Outcome::Changed { .. }))
    });
    let term = world.core(leader).term();
    world.run_for(seconds(20));
    world.network.heal();
    world.run_for(seconds(20));
    assert!(world.leads(leader));
    assert_eq!(world.core(leader).term(), term);
    world.settles();
}

#[test]
fn e19_a_returnee_does_not_depose_a_good_leader() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let away = other_than(&world, &[leader]);
    let term = world.core(leader).term();
    world.isolate(away);
    for _ in 0..50 {
        let value = world.propose(leader);
        world.wait("it commits without the one that is away", |world| world.acknowledged(value));
        world.run_for(seconds(1));
    }
    world.network.heal();
    world.run_for(seconds(5));
    assert!(world.leads(leader));
    assert_eq!(world.core(leader).term(), term, "a pre-vote changes no term");
    world.settles();
}

#[test]
fn e18_a_late_timeout_now_is_ignored() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let target = other_than(&world, &[leader]);
    let stranger = other_than(&world, &[leader, target]);
    let term = world.core(leader).term();
    world.inject(leader, target, Request::TimeoutNow { term: Some(Term(term.0 - 1)) });
    world.inject(stranger, target, Request::TimeoutNow { term: Some(term) });
    world.inject(stranger, target, Request::TimeoutNow { term: None });
    world.run_for(seconds(2));
    assert!(world.leads(leader));
    assert_eq!(world.core(leader).term(), term);
    world.settles();
}

#[test]
fn e14_who_reaches_a_majority_both_ways_leads_in_the_end() {
    // a <-> b <-> c, but a and c do not hear each other.
    let mut world = World::calm(3, 0);
    let middle = 1;
    world.network.cut(0, 2);
    world.run_for(seconds(10));
    let leader = world.leader();
    let value = world.propose(leader);
    world.wait("commands commit", |world| world.acknowledged(value));
    let term = world.core(middle).term();
    world.run_for(seconds(80));
    assert!(world.core(middle).term().0 <= term.0 + 3, "leadership settles");
    world.settles();
}

#[test]
fn a_transfer_moves_leadership_and_loses_nothing() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let target = other_than(&world, &[leader]);
    let before = world.propose(leader);
    let request = world.transfer(leader, Some(target));
    let refused = world.propose(leader);
    world.wait("the target leads", |world| world.leads(target));
    assert_eq!(world.workload.outcome(request), Some(&Outcome::Transferred));
    world.wait("what came before is applied", |world| world.acknowledged(before));
    assert!(!world.acknowledged(refused), "nothing is accepted while leadership moves");
    world.settles();
}

#[test]
fn l02_a_transfer_to_a_dead_server_fails_and_writes_go_on() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let target = other_than(&world, &[leader]);
    world.crash(target);
    let request = world.transfer(leader, Some(target));
    world.wait("the transfer ends", |world| world.workload.outcome(request).is_some());
    assert_eq!(world.workload.outcome(request), Some(&Outcome::Refused(Refusal::TransferFailed)));
    let value = world.propose(leader);
    world.wait("writes go on", |world| world.acknowledged(value));
    world.settles();
}

/// The target lives and gets nothing, so it never has everything: the transfer must not wait for that.
#[test]
fn l02_a_transfer_to_a_server_that_does_not_catch_up_fails_and_writes_go_on() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let target = other_than(&world, &[leader]);
    world.isolate(target);
    let value = world.propose(leader);
    world.wait("it commits without the target", |world| world.acknowledged(value));
    let request = world.transfer(leader, Some(target));
    world.run_for(world.options.config.election_timeout * 2);
    assert_eq!(world.workload.outcome(request), Some(&Outcome::Refused(Refusal::TransferFailed)));
    assert!(world.leads(leader));
    let value = world.propose(leader);
    world.wait("writes go on", |world| world.acknowledged(value));
    world.settles();
}

#[test]
fn l10_a_leader_alone_serves_no_read() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    world.isolate(old);
    let reads: Vec<_> = (0..50).map(|_| world.read(old)).collect();
    let heir = other_than(&world, &[old]);
    only_campaigns(&mut world, heir);
    world.wait("another one leads", |world| world.leads(heir));
    world.run_for(seconds(2));
    for read in reads {
        let outcome = world.workload.outcome(read);
        assert!(matches!(outcome, Some(Outcome::Refused(_))), "{outcome:?}");
    }
    world.settles();
}

#[test]
fn l07_a_leader_that_stood_still_serves_no_stale_read() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    world.servers[old].paused_until = world.now + seconds(3);
    world.wait("another one leads", |world| (0..3).any(|node| node != old && world.leads(node)));
    let new = (0..3).find(|node| *node != old && world.leads(*node)).expect("just seen");
    let value = world.propose(new);
    world.wait("it goes on", |world| world.acknowledged(value));
    // One of them is the first thing that the old leader finds when it goes on.
    let reads: Vec<_> = (0..200).map(|_| world.read(old)).collect();
    world.run_for(seconds(5));
    // By itself it serves none; as a follower it asks the new leader, and what it shows then is fresh.
    let fresh = world.core(new).commit_index();
    let mut refused = 0;
    for read in reads {
        match world.workload.outcome(read) {
            Some(Outcome::Refused(_)) => refused += 1,
            Some(Outcome::Read { index }) => assert_eq!(*index, fresh),
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 0, "some came while it still believed that it leads");
    world.settles();
}

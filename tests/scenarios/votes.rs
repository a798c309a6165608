//! Votes, terms and pre-votes, step by step.

use std::cell::Cell;
use std::rc::Rc;

use raft::core::{Features, Request, Response, Role};
use raft::{Config, ConfigurationChange, EntryId, LogIndex, Term};
use simulation::options::Options;
use simulation::world::World;

use crate::{commit, no_appends, only_campaigns, other_than, seconds};

/// Newer than every log.
const AHEAD: EntryId = EntryId { term: Term(99), index: LogIndex(999) };

#[test]
fn e01_a_vote_outlives_meeting_the_leader_and_a_candidate_keeps_its_own() {
    let mut world = World::calm(5, 0);
    let leader = world.leader();
    let voter = other_than(&world, &[leader]);
    let winner = other_than(&world, &[leader, voter]);
    let late = other_than(&world, &[leader, voter, winner]);
    world.isolate(voter);
    let term = Term(world.core(leader).term().0 + 1);
    let ask = Request::Vote { term, last: AHEAD, transfer: true };
    world.inject(winner, voter, ask.clone());
    world.inject(winner, voter, Request::Heartbeat { term, features: Features(0) });
    world.inject(late, voter, ask);
    world.run_for(seconds(1) / 10);
    let granted: Vec<bool> = world
        .said
        .iter()
        .filter_map(|(_, said)| match said {
            Response::Vote { granted, .. } => Some(*granted),
            _ => None,
        })
        .collect();
    assert_eq!(granted, [true, false]);
    // A candidate that meets its term's leader has voted for itself all the same.
    let mut config = world.options.config.clone();
    config.pre_vote = false;
    world.reload(voter, &config);
    world.wait("it campaigns", |world| world.core(voter).role() == Role::Candidate);
    let term = world.core(voter).term();
    world.inject(winner, voter, Request::Heartbeat { term, features: Features(0) });
    world.inject(late, voter, Request::Vote { term, last: AHEAD, transfer: true });
    assert_eq!(world.core(voter).role(), Role::Follower);
    assert_eq!(world.core(voter).hard_state().voted_for.as_ref(), Some(&world.core(voter).me().id));
    world.settles();
}

#[test]
fn e04_requests_of_an_older_term_change_nothing() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    let stranger = other_than(&world, &[leader, follower]);
    let (term, last) = (world.core(follower).term(), world.core(follower).last());
    let older = Term(term.0 - 1);
    world.inject(stranger, follower, Request::Heartbeat { term: older, features: Features(0) });
    world.inject(
        stranger,
        follower,
        Request::Append { term: older, prev: EntryId::default(), entries: Vec::new(), commit: last.index },
    );
    world.inject(stranger, follower, Request::Vote { term: older, last: AHEAD, transfer: true });
    assert!(world.said.iter().all(|(_, said)| said.term() == Some(term)), "{:?}", world.said);
    assert!(world.said.iter().all(|(_, said)| !matches!(
        said,
        Response::Append { success: true, .. } | Response::Vote { granted: true, .. }
    )));
    assert_eq!(world.core(follower).leader().map(|peer| &peer.id), Some(&world.core(leader).me().id));
    assert_eq!(world.core(follower).last(), last);
    // Whom a server voted for in this term it need not vote for in an older one.
    for voter in [follower, stranger] {
        world.said.clear();
        world.inject(leader, voter, Request::Vote { term: older, last: AHEAD, transfer: false });
        world.run_for(seconds(1) / 100);
        assert!(matches!(world.said[..], [(_, Response::Vote { granted: false, .. })]), "{:?}", world.said);
    }
    world.settles();
}

#[test]
fn e05_a_vote_that_comes_many_times_counts_once() {
    let mut options = Options::calm(5, 2);
    options.duplicates = 1000;
    let mut world = World::new(options);
    let old = world.leader();
    let rest: Vec<usize> = (0..5).filter(|node| *node != old).collect();
    world.crash(old);
    world.crash(rest[0]);
    world.crash(rest[1]);
    world.run_for(seconds(5));
    assert!(!(0..5).any(|node| world.leads(node)), "two of five are no quorum, however often they say so");
    world.settles();
}

#[test]
fn e06_grants_of_an_earlier_round_count_for_nothing() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let target = other_than(&world, &[leader]);
    let third = other_than(&world, &[leader, target]);
    world.hold_answers = Some((third, target));
    // The target hears nothing of the leader and asks around; the others hear the leader, the grants never come.
    world.network.cuts.insert((leader, target));
    world.wait("it asks for pre-votes", |world| world.core(target).role() == Role::Candidate);
    world.network.cuts.clear();
    world.wait("it follows again", |world| world.core(target).role() == Role::Follower);
    world.transfer(leader, Some(target));
    world.wait("it leads", |world| world.leads(target));
    let term = world.core(target).term();
    world.release();
    world.run_for(seconds(5));
    assert!(world.leads(target));
    assert_eq!(world.core(target).term(), term, "late answers start nothing");
    world.settles();
}

/// A server asks two others for a pre-vote, gets one grant that is late, and another round has begun when it comes.
#[test]
fn e06_a_pre_vote_granted_in_one_round_does_not_count_in_the_next() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let (asker, voter) = ((leader + 1) % 3, (leader + 2) % 3);
    world.hold_answers = Some((voter, asker));
    only_campaigns(&mut world, asker);
    world.crash(leader);
    let granted = |world: &World| world.core(asker).role() == Role::Candidate;
    world.wait("it asks for a pre-vote", granted);
    world.run_for(seconds(1) / 100);
    // The leader comes back before the grant arrives, and the voter follows it again; the asker hears neither.
    world.start(leader);
    for (from, to) in [(leader, asker), (asker, leader), (asker, voter)] {
        world.network.cuts.insert((from, to));
    }
    only_campaigns(&mut world, leader);
    world.wait("it leads again", |world| world.leads(leader) && world.core(leader).is_ready());
    world.network.cuts.remove(&(asker, voter));
    let asked = Rc::new(Cell::new(false));
    let asks = Rc::clone(&asked);
    world.filter = Some(Box::new(move |from, _, request| {
        asks.set(asks.get() | (from == asker && matches!(request, Request::PreVote { .. })));
        true
    }));
    world.wait("the asker begins another round", |_| asked.get());
    let term = world.core(asker).term();
    assert_eq!(world.core(asker).role(), Role::Candidate);
    world.release();
    world.run_for(seconds(1) / 10);
    assert_eq!(world.core(asker).term(), term, "a grant of the first round starts no campaign in the second");
    assert!(world.leads(leader));
    world.settles();
}

/// The same grant comes when the server campaigns for real: a pre-vote is no vote.
#[test]
fn e06_a_granted_pre_vote_is_no_vote() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let (asker, voter) = ((leader + 1) % 3, (leader + 2) % 3);
    world.hold_answers = Some((voter, asker));
    world.filter =
        Some(Box::new(move |from, _, request| from == asker && !matches!(request, Request::Vote { .. })));
    world.crash(leader);
    world.wait("it asks for a pre-vote", |world| world.core(asker).role() == Role::Candidate);
    world.run_for(seconds(1) / 100);
    let term = world.core(asker).term();
    let config = world.options.config.clone();
    world.reload(asker, &Config { pre_vote: false, ..config });
    world.wait("it campaigns", |world| {
        world.core(asker).term() > term && world.servers[asker].disk.hard_state.term > term
    });
    assert_eq!(world.core(asker).role(), Role::Candidate);
    world.release();
    world.run_for(seconds(1) / 100);
    assert!(!world.leads(asker), "the only other server that lives has voted for nobody");
    world.settles();
}

#[test]
fn e07_a_server_without_pre_vote_and_one_with_it_find_a_leader() {
    for without in 0..8_u32 {
        let mut world = World::calm(3, 0);
        let old = world.leader();
        let (away, rest) =
            (other_than(&world, &[old]), other_than(&world, &[old, other_than(&world, &[old])]));
        for node in 0..3 {
            let mut config = world.options.config.clone();
            config.pre_vote = (without >> node) & 1 == 0;
            world.reload(node, &config);
        }
        world.isolate(away);
        commit(&mut world, old, 5);
        world.run_for(seconds(10));
        world.crash(old);
        world.network.heal();
        world.wait("the other two find a leader", |world| world.leads(away) || world.leads(rest));
        assert!(world.leads(rest), "the one that holds everything");
        world.settles();
    }
}

#[test]
fn e08_a_refused_pre_vote_brings_the_newer_term() {
    let mut world = World::calm(2, 0);
    let long = world.leader();
    let short = other_than(&world, &[long]);
    no_appends(&mut world);
    world.propose(long);
    let written = world.core(long).last();
    world.wait("it is durable on one", |world| world.servers[long].disk.log.last() == written);
    world.crash(long);
    let term = Term(world.core(short).term().0 + 10);
    world.isolate(short);
    world.inject(long, short, Request::Vote { term, last: AHEAD, transfer: true });
    world.wait("the newer term is durable on the other", |world| {
        world.servers[short].disk.hard_state.term == term
    });
    world.start(long);
    world.filter = None;
    world.network.heal();
    world.wait("the long log leads in the end", |world| world.leads(long));
    world.settles();
}

#[test]
fn e09_stale_leader_memory_blocks_no_pre_vote() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    world.isolate(old);
    world.wait("it steps down alone", |world| !world.leads(old));
    world.network.heal();
    let limit = world.options.config.election_timeout * 10;
    let found = world.run_until(limit, |world| (0..3).any(|node| world.leads(node)));
    assert!(found, "within five longest election timeouts");
    world.settles();
}

#[test]
fn e10_logs_are_compared_by_term_and_then_by_length() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    commit(&mut world, leader, 5);
    let voter = other_than(&world, &[leader]);
    let candidate = other_than(&world, &[leader, voter]);
    world.run_for(seconds(1));
    world.isolate(voter);
    let own = world.core(voter).last();
    for term_of_last in own.term.0 - 1..=own.term.0 + 1 {
        for index in own.index.0 - 2..=own.index.0 + 2 {
            world.said.clear();
            let last = EntryId::new(term_of_last, index);
            let term = world.core(voter).term().next();
            world.inject(candidate, voter, Request::Vote { term, last, transfer: true });
            let answered = |world: &World| !world.said.is_empty();
            assert!(world.run_until(seconds(1), answered));
            let expected = (last.term, last.index) >= (own.term, own.index);
            assert_eq!(
                world.said[0].1,
                Response::Vote { term, granted: expected, incarnation: raft::Incarnation::FOUNDER },
                "{last} against {own}"
            );
        }
    }
    world.settles();
}

#[test]
fn e11_e12_a_voter_that_nobody_else_knows_can_be_elected() {
    let mut world = World::calm(2, 1);
    let old = world.leader();
    let unaware = other_than(&world, &[old, 2]);
    let peer = world.servers[2].peer.clone();
    let change = ConfigurationChange::AddNonvoter { id: peer.id.clone(), address: peer.address.clone() };
    world.change(old, change);
    world.wait("the learner has everything", |world| world.servers[2].machine.last == world.core(old).last());
    world.filter =
        Some(Box::new(move |_, to, request| to != unaware || !matches!(request, Request::Append { .. })));
    let request =
        world.change(old, ConfigurationChange::AddVoter { id: peer.id.clone(), address: peer.address });
    world.wait("the promotion commits on the old leader and the new voter", |world| {
        world.workload.outcome(request).is_some()
    });
    world.crash(old);
    assert!(!world.core(unaware).configuration().is_voter(&peer.id));
    world.wait("the new voter leads", |world| world.leads(2));
    world.settles();
}

#[test]
fn e15_a_cluster_that_restarts_as_a_whole_leads_soon() {
    for lease_reads in [false, true] {
        let mut options = Options::calm(3, 0);
        options.config.lease_reads = lease_reads;
        let mut world = World::new(options);
        world.leader();
        (0..3).for_each(|node| world.crash(node));
        (0..3).for_each(|node| world.start(node));
        let limit = world.options.config.election_timeout * 8;
        assert!(world.run_until(limit, |world| (0..3).any(|node| world.leads(node))));
        world.settles();
    }
}

#[test]
fn e16_a_server_that_is_no_voter_never_campaigns() {
    let mut world = World::calm(3, 1);
    let leader = world.leader();
    world.run_for(seconds(20));
    assert_eq!((world.core(3).role(), world.core(3).term()), (Role::Follower, Term(0)));
    let peer = world.servers[3].peer.clone();
    world.change(leader, ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address });
    world.run_for(seconds(1));
    world.isolate(3);
    let term = world.core(3).term();
    world.run_for(seconds(20));
    assert_eq!((world.core(3).role(), world.core(3).term()), (Role::Follower, term));
    world.settles();
}

#[test]
fn e17_a_cluster_of_one_elects_itself_and_commits_what_it_has_synced() {
    let mut world = World::calm(1, 1);
    commit(&mut world, 0, 3);
    world.stall(0, seconds(2));
    let value = world.propose(0);
    world.run_for(seconds(1));
    assert!(!world.acknowledged(value), "not before its sync");
    world.crash(0);
    world.start(0);
    world.leader();
    let read = world.read(0);
    world.wait("a read is served", |world| world.workload.outcome(read).is_some());
    let peer = world.servers[1].peer.clone();
    let grow = ConfigurationChange::AddVoter { id: peer.id.clone(), address: peer.address };
    let grown = world.change(0, grow);
    world.wait("it grows to two", |world| world.workload.outcome(grown).is_some());
    let leader = world.leader();
    let shrunk = world.change(leader, ConfigurationChange::RemoveServer { id: peer.id });
    world.wait("and shrinks to one", |world| world.workload.outcome(shrunk).is_some());
    world.settles();
}

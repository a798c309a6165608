//! Clusters that grow and shrink, one server at a time (catalogue M05).

use raft::core::{Outcome, Refusal, RequestId};
use raft::{ConfigurationChange, LogIndex};
use simulation::options::Options;
use simulation::world::World;

use crate::{changed, commit};

fn remove(world: &mut World, leader: usize, node: usize) -> RequestId {
    let id = world.servers[node].id().clone();
    world.change(leader, ConfigurationChange::RemoveServer { id })
}

fn voters(world: &World, leader: usize) -> usize {
    world.core(leader).configuration().voters_count()
}

#[test]
fn m05_a_cluster_grows_to_eight_and_shrinks_to_one_each_time_without_its_leader() {
    let mut world = World::calm(1, 7);
    for node in 1..8 {
        let leader = world.leader();
        let request = world.add_voter(leader, node);
        let value = world.propose(leader);
        world.wait("it joins", |world| changed(world, request) && world.votes(node));
        world.wait("what was written meanwhile is acknowledged", |world| world.acknowledged(value));
        assert_eq!(voters(&world, leader), node + 1);
    }
    for left in (1..8).rev() {
        let leader = world.leader();
        let value = world.propose(leader);
        let request = remove(&mut world, leader, leader);
        world.wait("the leader is removed", |world| changed(world, request));
        assert!(!world.leads(leader), "it steps down once its removal is committed");
        let heir = world.leader();
        assert_ne!(heir, leader);
        assert_eq!(voters(&world, heir), left);
        assert!(world.acknowledged(value), "what came before the change is committed with it");
        commit(&mut world, heir, 2);
    }
    let last = world.leader();
    let request = remove(&mut world, last, last);
    assert!(matches!(world.workload.outcome(request), Some(Outcome::Refused(Refusal::Invalid(_)))));
    world.settles();
}

/// What becomes of the server that joins or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It dies and comes back with its data.
    Returns,
    /// It dies and comes back without its data.
    ReturnsEmpty,
    /// It dies for good.
    Dies,
    /// The leader dies and comes back with its data.
    LeaderReturns,
}

const FATES: [Fate; 4] = [Fate::Returns, Fate::ReturnsEmpty, Fate::Dies, Fate::LeaderReturns];

/// A cluster of `from` voters with a leader that is about to have one more or one less.
fn before(from: usize, grows: bool) -> (World, usize, usize) {
    let mut world = World::new(Options { files: false, ..Options::calm(from, usize::from(grows)) });
    let leader = world.leader();
    commit(&mut world, leader, 3);
    world.run_for(world.options.config.election_timeout);
    let subject = if grows { from } else { (leader + 1) % from };
    (world, leader, subject)
}

/// Whether this server's newest configuration on disk has a quorum among servers that live, without the subject.
fn goes_on_without(world: &World, leader: usize, subject: usize) -> bool {
    let members = world.core(leader).configuration();
    let living = members.voters().filter(|server| server.id != *world.servers[subject].id()).count();
    2 * living > members.voters_count()
}

/// Lets this many events happen to a change of members, and then the fate strike. False once the change was over before.
fn struck_after(steps: u64, (from, grows): (usize, bool), fate: Fate) -> bool {
    let what = format!("{from} voters, grows: {grows}, {fate:?} after {steps} events");
    let (mut world, leader, subject) = before(from, grows);
    let change = |world: &mut World, leader: usize, grows: bool| {
        if grows { world.add_voter(leader, subject) } else { remove(world, leader, subject) }
    };
    let request = change(&mut world, leader, grows);
    for _ in 0..steps {
        world.advance();
        world.sound();
    }
    let over = changed(&world, request);
    let timeout = world.options.config.election_timeout;
    match fate {
        Fate::Returns | Fate::Dies => world.crash(subject),
        Fate::ReturnsEmpty => world.wipe(subject),
        Fate::LeaderReturns => world.crash(leader),
    }
    // What it had said still arrives.
    world.run_for(timeout / 20);
    let lost = matches!(fate, Fate::ReturnsEmpty | Fate::Dies) && !goes_on_without(&world, leader, subject);
    match fate {
        Fate::Dies => {}
        Fate::Returns | Fate::LeaderReturns => {
            world.run_for(timeout);
            world.start(if fate == Fate::Returns { subject } else { leader });
        }
        Fate::ReturnsEmpty => world.start(subject),
    }
    if lost {
        let committed = world.checks.commit.len();
        world.propose(leader);
        world.run_for(timeout * 4);
        if world.checks.commit.len() == committed {
            return !over;
        }
        // Without a quorum of those that remember nothing is done, unless the leader met the new life of the other one before
        // it had to step down: what the two had committed it holds itself.
        assert_eq!(fate, Fate::ReturnsEmpty, "{what}: one of two commits nothing");
        world.settles();
        return !over;
    }
    // V4: once a quorum of the configuration on disk lives, the change can be brought to an end, or be undone.
    let id = world.servers[subject].id().clone();
    let voter = grows && fate != Fate::Dies;
    for _ in 0..40 {
        let leader = world.leader();
        let members = world.core(leader).configuration();
        let committed = world.core(leader).configuration_index() <= world.core(leader).commit_index();
        let there = members.is_voter(&id) == voter && (voter || members.server(&id).is_none());
        if there && committed && !members.is_joint() {
            break;
        }
        let again = change(&mut world, leader, voter);
        world.run_until(timeout * 2, |world| changed(world, again));
        world.sound();
    }
    let leader = world.leader();
    let members = world.core(leader).configuration();
    assert_eq!(members.is_voter(&id), voter, "{what}: {members:?}");
    assert!(!members.is_joint() && (voter || members.server(&id).is_none()), "{what}: {members:?}");
    assert_eq!(members.voters_count(), from + usize::from(voter) - usize::from(!grows), "{what}");
    assert!(world.core(leader).commit_index() > LogIndex::ZERO);
    if fate == Fate::Dies {
        let value = world.propose(leader);
        world.wait("the others go on", |world| world.acknowledged(value));
    } else {
        world.settles();
    }
    !over
}

#[test]
fn m05_every_change_among_one_to_three_voters_survives_a_death_at_every_event() {
    for change in [(1, true), (2, true), (3, false), (2, false)] {
        for fate in FATES {
            let mut steps = 0;
            // Also in the moments after the change is over, while its last messages are on their way.
            while struck_after(steps, change, fate) || steps < 15 {
                steps += 1;
                assert!(steps < 2000, "{change:?} never ends");
            }
        }
    }
}

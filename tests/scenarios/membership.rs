//! Changing members.

use raft::core::{Outcome, Refusal, Request, RequestId};
use raft::{ConfigurationChange, LogIndex, Suffrage};
use simulation::options::Options;
use simulation::world::World;

use crate::{changed, commit, is_vote, only_campaigns, other_than, seconds};

fn add_nonvoter(world: &mut World, leader: usize, node: usize) -> RequestId {
    let peer = world.servers[node].peer.clone();
    let change = ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address };
    let request = world.change(leader, change);
    world.wait("the addition commits", |world| changed(world, request));
    request
}

#[test]
fn m11_learners_never_count() {
    let mut world = World::calm(3, 4);
    let leader = world.leader();
    for node in 3..7 {
        add_nonvoter(&mut world, leader, node);
    }
    for node in (0..3).filter(|node| *node != leader) {
        world.crash(node);
    }
    let committed = world.checks.commit.len();
    let value = world.propose(leader);
    let read = world.read(leader);
    world.run_for(seconds(10));
    assert!(!world.acknowledged(value), "five of seven hold it, but one of three voters");
    assert!(!matches!(world.workload.outcome(read), Some(Outcome::Read { .. })));
    assert_eq!(world.checks.commit.len(), committed);
    assert!(!(0..7).any(|node| world.leads(node)), "nobody can lead");
    world.crash(5);
    world.settles();
    let leader = world.leader();
    let id = world.servers[5].peer.id.clone();
    let suffrage = world.core(leader).configuration().server(&id).map(|server| server.suffrage);
    assert_eq!(suffrage, Some(Suffrage::Nonvoter), "a restarted learner stays one");
}

#[test]
fn m01_no_change_before_an_entry_of_the_own_term_is_committed() {
    let mut world = World::calm(4, 1);
    let old = world.leader();
    world.crash(old);
    world.filter = Some(Box::new(|_, _, request| !matches!(request, Request::Append { .. })));
    world.wait("another one leads", |world| (0..4).any(|node| world.leads(node)));
    let new = (0..4).find(|node| world.leads(*node)).expect("just seen");
    let peer = world.servers[4].peer.clone();
    let request = world.change(new, ConfigurationChange::AddVoter { id: peer.id, address: peer.address });
    assert_eq!(world.workload.outcome(request), Some(&Outcome::Refused(Refusal::NotReady)));
    world.settles();
}

/// The script of the defect as it was first told, step by step: two leaders change members before either has committed
/// anything of its own term, and a majority of the one configuration has no server in common with one of the other.
#[test]
fn m01_two_leaders_cannot_take_each_others_majority_away() {
    let mut world = World::calm(4, 1);
    let s1 = world.leader();
    let (s2, s3, s4, s5) = ((s1 + 1) % 4, (s1 + 2) % 4, (s1 + 3) % 4, 4);
    // s5 is a member without a vote that has everything.
    add_nonvoter(&mut world, s1, s5);
    let last = world.core(s1).last();
    world.wait("everybody has that", |world| (0..5).all(|node| world.servers[node].machine.last == last));

    // s1 gives s5 a vote, and tells only s5.
    world.filter = Some(Box::new(move |_, to, request| to == s5 || !carries_entries(request)));
    let peer = world.servers[s5].peer.clone();
    world.change(s1, ConfigurationChange::AddVoter { id: peer.id, address: peer.address });
    let given = world.core(s1).last();
    assert!(given.index > last.index, "it may: it has committed in its term");
    world.wait("s5 has it", |world| world.servers[s5].disk.log.last() == given);
    for other in [s2, s3, s4] {
        world.network.cut(s1, other);
        world.network.cut(s5, other);
    }

    // s2 leads the next term, and takes the vote of s1 before anything of that term is committed. Only s3 hears of it.
    world.filter = Some(Box::new(move |from, to, request| {
        if carries_entries(request) { (from, to) == (s2, s3) } else { from == s2 || !is_vote(request) }
    }));
    world.wait("s2 leads", |world| world.leads(s2));
    world.run_for(seconds(1) / 10);
    assert!(!world.core(s2).is_ready(), "two of four commit nothing");
    let id = world.servers[s1].id().clone();
    let refused = world.change(s2, ConfigurationChange::RemoveServer { id });
    let value = world.propose(s2);
    world.run_for(seconds(1) / 2);

    // s2 and s3 are cut off; s1 leads the term after that with s4 and s5, under its own configuration.
    for (a, b) in [(s2, s4), (s3, s4), (s2, s1), (s3, s1), (s2, s5), (s3, s5)] {
        world.network.cut(a, b);
    }
    for node in [s4, s5] {
        world.network.cuts.remove(&(s1, node));
        world.network.cuts.remove(&(node, s1));
    }
    only_campaigns(&mut world, s1);
    world.wait("s1 leads again and commits", |world| world.leads(s1) && world.core(s1).is_ready());
    commit(&mut world, s1, 3);
    world.settles();
    assert!(!world.acknowledged(value));
    assert_eq!(world.workload.outcome(refused), Some(&Outcome::Refused(Refusal::NotReady)));
}

fn carries_entries(request: &Request) -> bool {
    matches!(request, Request::Append { entries, .. } if !entries.is_empty())
}

#[test]
fn m02_a_second_change_waits_for_the_first() {
    let mut world = World::calm(3, 2);
    let leader = world.leader();
    world.filter = Some(Box::new(|_, _, request| !matches!(request, Request::Append { .. })));
    let (first, second) = (world.servers[3].peer.clone(), world.servers[4].peer.clone());
    let one = world.change(leader, ConfigurationChange::AddVoter { id: first.id, address: first.address });
    let two = world.change(leader, ConfigurationChange::AddVoter { id: second.id, address: second.address });
    assert_eq!(world.workload.outcome(one), None);
    assert!(matches!(
        world.workload.outcome(two),
        Some(Outcome::Refused(Refusal::ChangeInProgress { index })) if *index > LogIndex::ZERO
    ));
    world.settles();
}

#[test]
fn m08_a_leader_removes_itself_and_steps_down() {
    for voters in [2, 3, 5] {
        let mut world = World::calm(voters, 0);
        let leader = world.leader();
        let id = world.servers[leader].peer.id.clone();
        let request = world.change(leader, ConfigurationChange::RemoveServer { id });
        world.wait("the removal commits", |world| changed(world, request));
        assert!(!world.leads(leader));
        let heir = world.leader();
        assert_ne!(heir, leader);
        let value = world.propose(heir);
        world.wait("the rest goes on", |world| world.acknowledged(value));
        world.settles();
    }
}

#[test]
fn m08_the_last_voter_cannot_be_removed() {
    let mut world = World::calm(1, 1);
    let leader = world.leader();
    add_nonvoter(&mut world, leader, 1);
    let id = world.servers[leader].peer.id.clone();
    let request = world.change(leader, ConfigurationChange::RemoveServer { id });
    assert!(matches!(world.workload.outcome(request), Some(Outcome::Refused(Refusal::Invalid(_)))));
    world.settles();
}

/// The removed leader alone holds the entry that removes it, and its vote is needed: it must be able to lead once more
/// (Raft dissertation, section 4.2.2).
#[test]
fn m08_a_leader_that_crashes_over_its_own_removal_leads_again() {
    for voters in [2, 3] {
        let mut world = World::calm(voters, 0);
        let leader = world.leader();
        world.filter = Some(Box::new(|_, _, request| !matches!(request, Request::Append { .. })));
        for node in (0..voters).filter(|node| *node != leader).skip(1) {
            world.crash(node);
        }
        let id = world.servers[leader].peer.id.clone();
        world.change(leader, ConfigurationChange::RemoveServer { id });
        let written = world.core(leader).last();
        world.wait("it is durable there", |world| world.servers[leader].disk.log.last() == written);
        world.crash(leader);
        world.settles();
    }
}

#[test]
fn m13_a_change_of_an_isolated_leader_is_undone() {
    let mut world = World::calm(3, 1);
    let old = world.leader();
    let kept = other_than(&world, &[old]);
    world.isolate(old);
    let id = world.servers[kept].peer.id.clone();
    let lost = world.change(old, ConfigurationChange::RemoveServer { id: id.clone() });
    world.wait("another one leads", |world| (0..3).any(|node| node != old && world.leads(node)));
    let new = (0..3).find(|node| *node != old && world.leads(*node)).expect("just seen");
    world.wait("it can change members", |world| world.core(new).is_ready());
    add_nonvoter(&mut world, new, 3);
    world.settles();
    assert_eq!(world.workload.outcome(lost), Some(&Outcome::Refused(Refusal::LeadershipLost)));
    assert!(world.core(old).configuration().is_voter(&id));
}

/// The newest configuration is truncated, and no other comes after it: the one before is in force again, and is what a
/// restart finds.
#[test]
fn m18_when_the_newest_configuration_is_truncated_the_one_before_is_in_force() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    let kept = other_than(&world, &[old]);
    world.isolate(old);
    let id = world.servers[kept].peer.id.clone();
    world.change(old, ConfigurationChange::RemoveServer { id: id.clone() });
    assert!(!world.core(old).configuration().is_voter(&id), "in force where it was appended");
    world.wait("another one leads", |world| (0..3).any(|node| node != old && world.leads(node)));
    let new = (0..3).find(|node| *node != old && world.leads(*node)).expect("just seen");
    world.wait("it commits", |world| world.core(new).is_ready());
    world.network.heal();
    let last = world.core(new).last();
    world.wait("the old leader has the new history", |world| world.servers[old].disk.log.last() == last);
    assert_eq!(world.core(old).configuration(), world.core(new).configuration());
    world.crash(old);
    world.start(old);
    assert_eq!(world.core(old).configuration(), world.core(new).configuration());
    world.settles();
}

#[test]
fn a_fresh_learner_is_brought_up_by_a_snapshot_and_promoted() {
    let mut options = Options::calm(3, 1);
    options.snapshot_every = 20;
    options.config.trailing_logs = 0;
    let mut world = World::new(options);
    let leader = world.leader();
    for _ in 0..100 {
        let value = world.propose(leader);
        world.wait("it commits", |world| world.acknowledged(value));
    }
    assert!(world.servers[leader].log.base.index > LogIndex(50), "the log is compacted");
    add_nonvoter(&mut world, leader, 3);
    let last = world.core(leader).last();
    world.wait("the learner catches up", |world| world.servers[3].machine.last >= last);
    assert!(world.coverage["snapshots installed"] >= 1);
    let peer = world.servers[3].peer.clone();
    let request =
        world.change(leader, ConfigurationChange::AddVoter { id: peer.id.clone(), address: peer.address });
    world.wait("the promotion commits", |world| changed(world, request));
    world.crash(other_than(&world, &[leader, 3]));
    world.crash(
        (0..3).rev().find(|node| *node != leader && world.servers[*node].is_up()).expect("one is left"),
    );
    let value = world.propose(leader);
    world.run_for(seconds(1) / 10);
    assert!(!world.acknowledged(value), "two of four are no quorum");
    world.settles();
    assert!(world.core(3).configuration().is_voter(&peer.id));
}

//! Changes of several members at once: the leader dies at every step of the way in and out (catalogue M03, M04).

use raft::core::{Outcome, Refusal, Request, RequestId};
use raft::{Configuration, ConfigurationChange, LogIndex};
use simulation::world::World;

use crate::{changed, other_than, seconds};

fn id(world: &World, node: usize) -> raft::ServerId {
    world.servers[node].peer.id.clone()
}

fn add(world: &World, node: usize) -> ConfigurationChange {
    let peer = world.servers[node].peer.clone();
    ConfigurationChange::AddVoter { id: peer.id, address: peer.address }
}

fn remove(world: &World, node: usize) -> ConfigurationChange {
    ConfigurationChange::RemoveServer { id: id(world, node) }
}

/// Five servers, the last two of them without a vote, which everybody knows to understand joint configurations.
fn three_and_two() -> (World, usize) {
    let mut world = World::calm(3, 2);
    let leader = world.leader();
    for node in 3..5 {
        let peer = world.servers[node].peer.clone();
        let change = ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address };
        let request = world.change(leader, change);
        world.wait("the addition commits", |world| changed(world, request));
    }
    let last = world.core(leader).last();
    world.wait("they have everything", |world| (3..5).all(|node| world.servers[node].machine.last == last));
    (world, leader)
}

/// The leader and another voter go, the two others come.
fn begin(world: &mut World, leader: usize) -> RequestId {
    let other = other_than(world, &[leader]);
    let changes = vec![add(world, 3), add(world, 4), remove(world, leader), remove(world, other)];
    world.change_several(leader, changes)
}

fn in_force(world: &World, node: usize) -> &Configuration {
    world.servers[node].core.as_ref().map_or_else(|| panic!("{node} is down"), |core| core.configuration())
}

/// Either all of it or nothing, and nobody is left between the two.
fn is_whole(world: &mut World) {
    let leader = world.leader();
    let configuration = in_force(world, leader);
    assert!(!configuration.is_joint());
    let came: Vec<bool> = (3..5).map(|node| configuration.is_voter(&id(world, node))).collect();
    assert!(came[0] == came[1], "one came and the other did not: {configuration:?}");
    assert_eq!(configuration.voters_count(), 3, "{configuration:?}");
}

#[test]
fn two_voters_are_swapped_at_once() {
    let (mut world, leader) = three_and_two();
    let request = begin(&mut world, leader);
    assert!(in_force(&world, leader).is_joint());
    world.wait("it is over and done with", |world| changed(world, request));
    assert!(!world.leads(leader), "it took its own vote away");
    world.settles();
    is_whole(&mut world);
    let leader = world.leader();
    assert!((3..5).all(|node| in_force(&world, leader).is_voter(&id(&world, node))));
}

#[test]
fn a_quorum_of_one_side_commits_nothing() {
    // Without the old side, and without the new one.
    for without_the_old in [true, false] {
        let (mut world, leader) = three_and_two();
        let old = [(leader + 1) % 3, (leader + 2) % 3];
        let down = if without_the_old { old } else { [3, 4] };
        down.into_iter().for_each(|node| world.crash(node));
        let [a, b] = old.map(|node| remove(&world, node));
        let changes = vec![add(&world, 3), add(&world, 4), a, b];
        world.change_several(leader, changes);
        let committed = world.checks.commit.len();
        let (value, read) = (world.propose(leader), world.read(leader));
        world.run_for(seconds(5));
        assert!(!matches!(world.workload.outcome(read), Some(Outcome::Read { .. })), "without {down:?}");
        assert_eq!(world.checks.commit.len(), committed, "without {down:?}");
        assert!(!world.acknowledged(value));
        assert!((0..5).all(|node| !world.leads(node)), "nobody has both quorums");
        world.settles();
        is_whole(&mut world);
    }
}
/// M03: at every event from the beginning to the end the leader dies, and comes back later or never.
#[test]
fn m03_the_leader_dies_at_every_step() {
    let mut step = 0;
    let mut done = false;
    while !done {
        for returns in [true, false] {
            let (mut world, leader) = three_and_two();
            let request = begin(&mut world, leader);
            for _ in 0..step {
                world.advance();
                world.sound();
            }
            done = changed(&world, request) && world.leads(3) | world.leads(4);
            world.crash(leader);
            if returns {
                world.run_for(seconds(1) / 100);
                world.start(leader);
            } else {
                let others = (0..5).filter(|node| *node != leader);
                let serves = |world: &World, node: usize| {
                    world.servers[node].core.as_ref().is_some_and(|c| c.is_ready())
                };
                let others: Vec<usize> = others.collect();
                world.wait("another one leads", |world| others.iter().any(|node| serves(world, *node)));
                let whole = |world: &World| {
                    let leader = others.iter().find(|node| serves(world, **node));
                    leader.is_some_and(|leader| {
                        let core = world.core(*leader);
                        !core.configuration().is_joint() && core.configuration_index() <= core.commit_index()
                    })
                };
                world.wait("V6: the joint configuration is left", whole);
            }
            world.settles();
            is_whole(&mut world);
        }
        step += 1;
        assert!(step < 2000, "it never ends");
    }
    assert!(step > 20, "there are steps to die at: {step}");
}

/// M04: a new leader finds a joint configuration that is not committed, and leaves it only once it is.
#[test]
fn m04_a_joint_configuration_that_was_found_is_committed_before_it_is_left() {
    let (mut world, leader) = three_and_two();
    let heir = (leader + 1) % 3;
    // Only the heir gets it.
    world.filter = Some(Box::new(move |_, to, request| match request {
        Request::Append { entries, .. } => to == heir || entries.is_empty(),
        _ => true,
    }));
    let third = (leader + 2) % 3;
    let changes = vec![add(&world, 3), add(&world, 4), remove(&world, leader), remove(&world, third)];
    world.change_several(leader, changes);
    let joint = world.core(leader).configuration_index();
    world.wait("the heir holds it", |world| world.servers[heir].disk.log.last().index == joint);
    assert!(world.core(leader).commit_index() < joint, "old and new side have one copy more to go");
    world.crash(leader);
    // Whoever leads next can win only with both sides, and holds back what it appends.
    world.filter = Some(Box::new(|_, _, request| match request {
        Request::Append { entries, .. } => entries.is_empty(),
        _ => true,
    }));
    world.wait("the heir leads", |world| world.leads(heir));
    world.run_for(seconds(1) / 5);
    assert!(in_force(&world, heir).is_joint(), "it is not committed");
    assert_eq!(world.core(heir).configuration_index(), joint);
    world.filter = None;
    world.wait("it is left", |world| {
        (0..5).any(|node| {
            world.servers[node].core.as_ref().is_some_and(|core| {
                core.is_ready() && !core.configuration().is_joint() && core.configuration_index() > joint
            })
        })
    });
    world.settles();
    is_whole(&mut world);
    let leader = world.leader();
    assert!(in_force(&world, leader).is_voter(&id(&world, 3)), "what was committed is carried out");
}

/// Something before the joint configuration is committed while that is not: it is not left for that.
#[test]
fn m04_a_joint_configuration_is_not_left_when_only_what_is_before_it_is_committed() {
    let (mut world, leader) = three_and_two();
    let before = world.core(leader).last().index;
    // What reaches the others ends before the joint configuration.
    world.filter = Some(Box::new(move |_, _, request| match request {
        Request::Append { entries, .. } => entries.iter().all(|entry| entry.id.index.0 <= before.0 + 1),
        _ => true,
    }));
    let value = world.propose(leader);
    begin(&mut world, leader);
    let joint = world.core(leader).configuration_index();
    assert!(joint.0 == before.0 + 2 && in_force(&world, leader).is_joint());
    world.wait("the command is committed", |world| world.acknowledged(value));
    world.run_for(seconds(1) / 10);
    assert!(world.core(leader).commit_index() < joint);
    assert_eq!(
        (world.core(leader).configuration_index(), in_force(&world, leader).is_joint()),
        (joint, true)
    );
    world.settles();
    is_whole(&mut world);
}

#[test]
fn m03_nothing_else_changes_while_joint() {
    let (mut world, leader) = three_and_two();
    world.filter = Some(Box::new(|_, _, request| match request {
        Request::Append { entries, .. } => entries.is_empty(),
        _ => true,
    }));
    begin(&mut world, leader);
    let changes = [add(&world, 3), remove(&world, 4)];
    let one = world.change(leader, changes[0].clone());
    let several = world.change_several(leader, changes.to_vec());
    for request in [one, several] {
        assert!(matches!(
            world.workload.outcome(request),
            Some(Outcome::Refused(Refusal::ChangeInProgress { index })) if *index > LogIndex::ZERO
        ));
    }
    world.settles();
    is_whole(&mut world);
}

#[test]
fn who_has_not_shown_that_it_understands_is_asked_for_one_change_at_a_time() {
    let mut world = World::calm(3, 2);
    let leader = world.leader();
    let changes = vec![add(&world, 3), add(&world, 4)];
    let request = world.change_several(leader, changes);
    assert!(matches!(world.workload.outcome(request), Some(Outcome::Refused(Refusal::NotSpoken { .. }))));
    world.settles();
}

/// Leadership is on its way to a server that takes part in the old side only. Once that is left, it may not lead any more.
#[test]
fn a_transfer_to_a_server_that_loses_its_vote_fails() {
    let (mut world, leader) = three_and_two();
    let target = other_than(&world, &[leader]);
    // It does not catch up for now.
    world.filter = Some(Box::new(move |_, to, request| match request {
        Request::Append { entries, .. } => to != target || entries.is_empty(),
        _ => true,
    }));
    let demote = ConfigurationChange::DemoteVoter { id: id(&world, target) };
    let changes = vec![add(&world, 3), add(&world, 4), demote];
    let change = world.change_several(leader, changes);
    assert!(in_force(&world, leader).is_joint());
    let transfer = world.transfer(leader, Some(target));
    assert_eq!(world.workload.outcome(transfer), None);
    world.wait("the old side is left", |world| changed(world, change));
    assert_eq!(world.workload.outcome(transfer), Some(&Outcome::Refused(Refusal::TransferFailed)));
    world.filter = None;
    world.run_for(seconds(2));
    assert!(world.leads(leader));
    world.settles();
}

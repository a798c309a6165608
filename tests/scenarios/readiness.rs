//! An application that decides on what its leader shows (catalogue L12): autopilot on a server that does not lead any more, and
//! does not know it, changes nothing.

use std::time::Duration;

use raft::core::Outcome;
use simulation::world::World;

use crate::{other_than, seconds};

/// A joiner is about to get its vote when the leader, with the joiner on its side, is cut off from the others. It looks
/// once more before it steps down: what it sees is old, and its step reaches nobody who counts.
#[test]
fn l12_what_a_deposed_leader_still_decides_changes_no_member() {
    let mut decided = 0;
    for early in 0..20 {
        let mut world = World::flown(3, 1, |flight| flight.reconcile = Duration::from_millis(200));
        world.wait("the joiner is a member", |world| world.member(3).is_some());
        // Two seconds are its probation: somewhere before their end.
        world.run_for(Duration::from_millis(1100 + 50 * early));
        let old = world.leader();
        if world.votes(3) {
            continue;
        }
        let before = world.core(old).configuration_index();
        let others: Vec<usize> = (0..3).filter(|node| *node != old).collect();
        for other in &others {
            world.network.cut(old, *other);
            world.network.cut(3, *other);
        }
        // Reads at it are confirmed by nobody.
        let read = world.read(old);
        world.wait("another one leads", |world| others.iter().any(|node| world.leads(*node)));
        world.wait("the old one steps down", |world| !world.leads(old));
        let tried = world.core(old).configuration_index() > before;
        decided += u32::from(tried);
        assert!(!matches!(world.workload.outcome(read), Some(Outcome::Read { .. })), "it was served");
        assert_eq!(world.count("autopilot: promotions"), 0, "what it decided is not done");
        let new = *others.iter().find(|node| world.leads(**node)).expect("just seen");
        assert!(!world.core(new).configuration().is_voter(world.servers[3].id()));
        world.network.heal();
        world.wait("the new leader gives the vote, by what it saw itself", |world| {
            world.votes(3) && world.count("autopilot: promotions") == 1
        });
        world.settles();
    }
    assert!(decided > 0, "some leader did decide after it was cut off");
}

/// The application of a leader hangs over what was committed: reads there wait, and autopilot looks at the members that Raft
/// itself knows, not at what the application has applied.
#[test]
fn l12_reads_wait_for_an_application_that_hangs_and_members_are_looked_after_all_the_same() {
    let mut world = World::flown(3, 0, |_| {});
    let leader = world.leader();
    world.options.apply = seconds(20);
    let value = world.propose(leader);
    let committed = world.core(leader).last().index;
    world.wait("it is committed and not applied", |world| {
        world.core(leader).commit_index() >= committed && world.servers[leader].machine.last.index < committed
    });
    let read = world.read(leader);
    let dead = other_than(&world, &[leader]);
    world.retire(dead);
    world.wait("the dead voter is taken out", |world| {
        world.servers[leader]
            .core
            .as_ref()
            .is_some_and(|core| core.configuration().server(world.servers[dead].id()).is_none())
    });
    assert!(world.leads(leader));
    if world.servers[leader].machine.last.index < committed {
        assert!(!world.acknowledged(value));
        assert!(!world.servers[leader].reading.is_empty() || world.workload.outcome(read).is_none());
    }
    world.wait("in the end it is served", |world| {
        matches!(world.workload.outcome(read), Some(Outcome::Read { .. })) && world.acknowledged(value)
    });
    world.options.apply = Duration::ZERO;
    world.settles();
}

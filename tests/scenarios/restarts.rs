//! Servers that start again: the state machine is made anew from what is durable (catalogue D13).

use std::collections::BTreeSet;
use std::time::Duration;

use raft::EntryId;
use simulation::options::Options;
use simulation::world::World;

use crate::{commit, other_than};

/// A cluster that takes a snapshot every four entries, whose state machines take their time.
fn applying(voters: usize) -> World {
    let mut options = Options::calm(voters, 0);
    options.snapshot_every = 4;
    options.config.trailing_logs = 1;
    options.apply = Duration::from_millis(2);
    World::new(options)
}

/// Lets this many events happen to commands that are on their way, kills a server and starts it again. False once there
/// was nothing left to be interrupted.
fn interrupted_after(steps: u64, voters: usize, leader_dies: bool) -> bool {
    let mut world = applying(voters);
    let leader = world.leader();
    let subject = if leader_dies { leader } else { other_than(&world, &[leader]) };
    commit(&mut world, leader, 6);
    for _ in 0..6 {
        world.propose(leader);
    }
    for _ in 0..steps {
        world.advance();
        world.sound();
    }
    let server = &world.servers[subject];
    let busy = server.machine.last != world.core(leader).last() || server.snapshotting;
    let before = server.machine.values.clone();
    world.crash(subject);
    world.start(subject);
    let server = &world.servers[subject];
    let snapshot = server.disk.newest().map_or(EntryId::default(), |snapshot| snapshot.meta.last);
    assert_eq!(server.machine.last, snapshot, "the state is the snapshot's, and names its last entry");
    world.settles();
    let machine = &world.servers[subject].machine;
    assert!(machine.values.starts_with(&before), "what was applied before is applied again, in that order");
    let once: BTreeSet<u64> = machine.values.iter().copied().collect();
    assert_eq!(once.len(), machine.values.len(), "a command was applied twice: {:?}", machine.values);
    busy
}

#[test]
fn d13_a_restart_at_any_moment_applies_everything_once() {
    for (voters, leader_dies) in [(1, true), (3, true), (3, false)] {
        let mut steps = 0;
        while interrupted_after(steps, voters, leader_dies) {
            steps += 1;
            assert!(steps < 1000, "it never comes to rest");
        }
        assert!(steps > 5, "there are moments to die at: {steps}");
    }
}

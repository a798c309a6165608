//! Reads.

use simulation::mutant::Mutant;
use simulation::options::Options;
use simulation::world::World;

use crate::seconds;

/// A leader is told that it holds the lease, stands still before it has read its state, and goes on when another leads and
/// has written. Returns what the clients' history says, and how many reads were given up.
fn a_pause_between_the_lease_and_the_state(mutant: Option<Mutant>) -> (Result<bool, String>, u64) {
    let mut options = Options::calm(3, 0);
    options.config.lease_reads = true;
    options.apply = seconds(1) / 10;
    options.mutant = mutant;
    let mut world = World::new(options);
    let old = world.leader();
    for _ in 0..10 {
        let value = world.propose(old);
        world.wait("it is applied", |world| world.acknowledged(value));
    }
    world.propose(old);
    world.wait("committed and not applied", |world| {
        world.core(old).commit_index() > world.servers[old].machine.last.index
    });
    for _ in 0..20 {
        world.read(old);
    }
    assert!(!world.servers[old].reading.is_empty(), "reads wait for what is committed");
    world.servers[old].paused_until = world.now + seconds(5);
    world.wait("another leads", |world| (0..3).any(|node| node != old && world.leads(node)));
    let new = (0..3).find(|node| *node != old && world.leads(*node)).expect("another leads");
    world.wait("it can serve", |world| world.core(new).is_ready());
    for _ in 0..20 {
        let value = world.propose(new);
        world.wait("it is applied", |world| world.acknowledged(value));
    }
    // It wakes up, and first finds what it was about to do.
    world.run_for(seconds(6));
    world.settles();
    let given_up = world.coverage.get("leases over before the answer").copied().unwrap_or(0);
    (world.checks.linearizable.judged(), given_up)
}

#[test]
fn l07_a_pause_between_the_lease_and_the_state_gives_no_stale_read() {
    let (judged, given_up) = a_pause_between_the_lease_and_the_state(None);
    assert_eq!(judged, Ok(true));
    assert!(given_up > 0, "some read had the lease and lost it");
}

#[test]
fn l07_a_read_that_outlives_its_lease_is_found_out() {
    let (judged, _) = a_pause_between_the_lease_and_the_state(Some(Mutant::LeaseOutlived));
    let sentence = judged.expect_err("a stale read");
    assert!(sentence.contains("get"), "{sentence}");
}

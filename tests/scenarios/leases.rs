//! Reads by lease: who may serve them, and until when (catalogue L04 to L07, E15).

use std::time::Duration;

use raft::Config;
use raft::core::{Outcome, Request, RequestId};
use simulation::check::leases;
use simulation::clock::Clock;
use simulation::mutant::Mutant;
use simulation::options::Options;
use simulation::world::World;

use crate::{only_campaigns, other_than};

const DRIFT_PERMILLE: u32 = 200;

fn options(voters: usize) -> Options {
    let options = Options::calm(voters, 0);
    let config = Config { lease_reads: true, clock_drift_permille: DRIFT_PERMILLE, ..options.config };
    Options { config, ..options }
}

fn holds(world: &World, node: usize) -> bool {
    leases::holds(&world.servers[node], world.now)
}

fn by_lease(world: &World, request: RequestId) -> bool {
    matches!(world.workload.outcome(request), Some(Outcome::LeaseRead { .. }))
}

/// A cluster whose leader holds a lease.
fn leased(voters: usize) -> (World, usize) {
    let mut world = World::new(options(voters));
    let leader = world.leader();
    world.wait("a quorum has answered", |world| holds(world, leader));
    (world, leader)
}

fn timeout() -> Duration {
    Config::default().election_timeout
}

#[test]
fn a_lease_asks_nobody_and_runs_out() {
    let (mut world, leader) = leased(3);
    world.isolate(leader);
    let request = world.lease_read(leader);
    assert!(by_lease(&world, request), "{:?}", world.workload.outcome(request));
    world.run_for(timeout());
    assert!(!holds(&world, leader));
    let request = world.lease_read(leader);
    assert!(!by_lease(&world, request));
    world.settles();
}

#[test]
fn without_the_option_there_is_no_lease() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    world.run_for(timeout());
    let request = world.lease_read(leader);
    assert!(!holds(&world, leader) && !by_lease(&world, request));
    world.settles();
}

/// L04: whoever is told to campaign is elected past all leases, so the lease is over before that is said; also when it
/// is never heard of again.
#[test]
fn l04_a_lease_ends_before_leadership_is_handed_over() {
    for arrives in [true, false] {
        let (mut world, leader) = leased(3);
        let heir = other_than(&world, &[leader]);
        world.filter =
            Some(Box::new(move |_, _, request| arrives || !matches!(request, Request::TimeoutNow { .. })));
        world.transfer(leader, Some(heir));
        assert!(!holds(&world, leader), "from the moment at which it is said");
        let request = world.lease_read(leader);
        assert!(!by_lease(&world, request));
        if !arrives {
            // It might still be on its way when the transfer has failed.
            world.run_for(timeout() * 5);
            assert!(world.leads(leader) && !holds(&world, leader), "void for the rest of the term");
        }
        world.settles();
    }
}

/// L05: a lease counts from when the requests left. Answers take almost as long as a lease lasts; meanwhile the others
/// are free to elect.
#[test]
fn l05_a_late_answer_makes_no_lease() {
    let (mut world, leader) = leased(3);
    let (heir, voter) = ((leader + 1) % 3, (leader + 2) % 3);
    // What the leader sends arrives at once, what it is answered takes long.
    let late = timeout() - Duration::from_millis(20);
    for node in [heir, voter] {
        world.network.slow.insert((node, leader), late);
    }
    world.run_for(timeout() / 2);
    world.network.cuts.extend([(leader, heir), (leader, voter)]);
    only_campaigns(&mut world, heir);
    // Every event of the election is judged: nobody leads beside a lease.
    world.wait("the others elect", |world| world.leads(heir));
    assert!(!holds(&world, leader));
    world.settles();
}

/// L06: the leader's clock is as slow as it may be, the others' are as fast. They elect as soon as they may.
#[test]
fn l06_clocks_may_run_as_unevenly_as_configured() {
    for (slow_leader, seed) in [(true, 1), (false, 1), (true, 2), (true, 3), (true, 4)] {
        let mut world = World::new(Options { seed, ..options(3) });
        let leader = world.leader();
        for (node, server) in world.servers.iter_mut().enumerate() {
            let drift = i64::from(DRIFT_PERMILLE) * 1000;
            let drift = if (node == leader) == slow_leader { -drift } else { drift };
            let now = world.now;
            let shown = server.clock.local(now);
            server.clock = Clock::new(Duration::ZERO, 0);
            server.clock.jump(shown.since(raft::Time::ZERO).saturating_sub(now.since(raft::Time::ZERO)));
            server.clock.set_drift(now, drift);
        }
        world.run_for(timeout() * 3);
        let leader = world.leader();
        world.wait("it holds a lease", |world| holds(world, leader));
        world.isolate(leader);
        world.wait("the others elect", |world| (0..3).any(|node| node != leader && world.leads(node)));
        assert!(!holds(&world, leader));
        world.settles();
    }
}

/// L07: the process stops between the look at the lease and the answer. What it then says comes too late, and its client
/// sees that by the clock.
#[test]
fn l07_a_pause_outlives_the_lease() {
    let (mut world, leader) = leased(3);
    let request = world.lease_read(leader);
    let Some(Outcome::LeaseRead { until, .. }) = world.workload.outcome(request).cloned() else {
        panic!("no lease: {:?}", world.workload.outcome(request));
    };
    let asked_at = world.servers[leader].clock.local(world.now);
    world.servers[leader].paused_until = world.now + timeout() * 5;
    let served = |world: &World| world.coverage.get("lease reads served").copied().unwrap_or(0);
    world.wait("the others elect", |world| (0..3).any(|node| node != leader && world.leads(node)));
    let heir = (0..3).find(|node| *node != leader && world.leads(*node)).expect("just seen");
    world.wait("it can serve", |world| world.core(heir).is_ready());
    let value = world.propose(heir);
    world.wait("it writes", |world| world.acknowledged(value));
    assert!(world.servers[leader].clock.local(world.now) >= until, "the clock says so");
    // It goes on with the time that it looked at before.
    let before = served(&world);
    world.late_lease_read(leader, asked_at);
    world.run_for(Duration::from_millis(5));
    assert_eq!(served(&world), before, "nobody relies on it");
    world.settles();
}

/// E15, L06: a restarted server cannot know whom it heard. With leases it grants nothing for as long as one may last;
/// without it is not held up.
#[test]
fn e15_l06_a_restarted_voter_waits_out_a_lease_that_it_cannot_know() {
    for (lease_reads, mutant, grants) in
        [(true, None, false), (true, Some(Mutant::NoWaitAfterRestart), true), (false, None, true)]
    {
        let mut options = Options { mutant, ..options(3) };
        options.config.lease_reads = lease_reads;
        let mut world = World::new(options);
        let leader = world.leader();
        world.run_for(timeout());
        // The heir's timer is about to run out, and the voter forgets whom it heard.
        let (heir, voter) = ((leader + 1) % 3, (leader + 2) % 3);
        world.network.cut(leader, heir);
        only_campaigns(&mut world, heir);
        let asks = world.core(heir).term().next();
        world.run_for(timeout() * 9 / 10);
        // Until now the voter kept the leader in office, and its lease in force.
        assert!(world.leads(leader) && (!lease_reads || holds(&world, leader)));
        world.crash(voter);
        world.start(voter);
        let last = world.core(heir).last();
        let elected_early = {
            world.inject(heir, voter, Request::Vote { term: asks, last, transfer: false });
            world.run_for(Duration::from_millis(10));
            world.core(voter).hard_state().voted_for.is_some() && world.core(voter).term() == asks
        };
        assert_eq!(elected_early, grants);
    }
}

/// E15: everybody restarts at once; nobody waits longer than a lease may last.
#[test]
fn e15_everybody_restarts_and_leads_again_in_time() {
    for lease_reads in [true, false] {
        for voters in [1, 2, 3, 5] {
            let mut options = options(voters);
            options.config.lease_reads = lease_reads;
            let mut world = World::new(options);
            let leader = world.leader();
            let value = world.propose(leader);
            world.wait("it commits", |world| world.acknowledged(value));
            (0..voters).for_each(|node| world.crash(node));
            world.run_for(Duration::from_millis(10));
            (0..voters).for_each(|node| world.start(node));
            let limit = timeout() * 10;
            let found = world.run_until(limit, |world| (0..voters).any(|node| world.leads(node)));
            assert!(found, "nobody leads after {limit:?}: leases {lease_reads}, {voters} voters");
            world.settles();
        }
    }
}

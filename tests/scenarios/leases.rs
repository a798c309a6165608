//! Reads, leases and transfers: who may serve a read, and until when.

use std::time::Duration;

use raft::core::{Features, Input, Outcome, Refusal, Request, RequestId, Response, Role, Sequence};
use raft::{Config, ConfigurationChange, LogIndex};
use simulation::check::leases;
use simulation::clock::Clock;
use simulation::mutant::Mutant;
use simulation::options::Options;
use simulation::world::World;

use crate::{commit, no_appends, only_campaigns, other_than, seconds};

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

/// Whether a read that asks for it is served by lease.
fn lease_read(world: &mut World, node: usize) -> bool {
    let read = world.lease_read(node);
    by_lease(world, read)
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

#[test]
fn l03_l04_a_lease_ends_where_a_transfer_begins() {
    let (mut world, old) = leased(3);
    let target = other_than(&world, &[old]);
    world.run_for(seconds(1));
    assert!(lease_read(&mut world, old), "a leader that a quorum answers serves by lease");
    // The target is dead: leadership stays, and what was promised to it cannot be taken back.
    world.crash(target);
    let transfer = world.transfer(old, Some(target));
    assert!(!lease_read(&mut world, old), "not while leadership may be elsewhere");
    world.wait("the transfer ends", |world| world.workload.outcome(transfer).is_some());
    world.settles();
}

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

#[test]
fn l04_a_leader_that_handed_over_and_hears_nothing_serves_no_read() {
    let (mut world, old) = leased(3);
    let target = other_than(&world, &[old]);
    world.run_for(seconds(1));
    world.transfer(old, Some(target));
    for other in (0..3).filter(|node| *node != old) {
        world.network.cuts.insert((other, old));
    }
    world.wait("the target leads", |world| world.leads(target) && world.core(target).is_ready());
    assert!(world.leads(old), "it does not know yet");
    assert!(!lease_read(&mut world, old));
    commit(&mut world, target, 1);
    world.settles();
}

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

#[test]
fn l07_a_pause_outlives_the_lease() {
    let (mut world, leader) = leased(3);
    commit(&mut world, leader, 1);
    let request = world.lease_read(leader);
    let Some(Outcome::LeaseRead { until, .. }) = world.workload.outcome(request).cloned() else {
        panic!("no lease: {:?}", world.workload.outcome(request));
    };
    let asked_at = world.servers[leader].clock.local(world.now);
    world.servers[leader].paused_until = world.now + timeout() * 5;
    let late = |world: &World| world.coverage.get("leases over before the answer").copied().unwrap_or(0);
    world.wait("the others elect", |world| (0..3).any(|node| node != leader && world.leads(node)));
    let heir = (0..3).find(|node| *node != leader && world.leads(*node)).expect("just seen");
    world.wait("it can serve", |world| world.core(heir).is_ready());
    let value = world.propose(heir);
    world.wait("it writes", |world| world.acknowledged(value));
    assert!(world.servers[leader].clock.local(world.now) >= until, "the clock says so");
    // It goes on with the time that it looked at before.
    let before = late(&world);
    let request = world.late_lease_read(leader, asked_at);
    assert!(by_lease(&world, request), "by the clock that it looked at");
    world.run_for(Duration::from_millis(5));
    assert_eq!(late(&world), before + 1, "nobody relies on it");
    world.settles();
}

#[test]
fn e15_l06_a_restarted_voter_waits_out_a_lease_that_it_cannot_know() {
    for (lease_reads, mutant, grants) in [
        (true, None, false),
        (true, Some(Mutant::Core(raft::core::Mutant::LeaseForgottenAtRestart)), true),
        (false, None, true),
    ] {
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

#[test]
fn l08_a_read_at_a_fresh_leader_waits_for_an_entry_of_its_term() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    commit(&mut world, old, 3);
    world.crash(old);
    no_appends(&mut world);
    world.wait("another one leads", |world| (0..3).any(|node| world.leads(node)));
    let new = (0..3).find(|node| world.leads(*node)).expect("just seen");
    let own = world.core(new).last().index;
    let read = world.read(new);
    world.run_for(seconds(1) / 5);
    assert_eq!(world.workload.outcome(read), None);
    world.filter = None;
    world.wait(
        "then it is served",
        |world| matches!(world.workload.outcome(read), Some(Outcome::Read { index }) if *index >= own),
    );
    world.settles();
}

/// The same by lease: everybody answers a new leader's heartbeats, and until it has committed something of its term it holds
/// no lease for all that.
#[test]
fn l08_a_fresh_leader_has_no_lease_before_an_entry_of_its_term_is_committed() {
    let mut world = World::new(options(3));
    let old = world.leader();
    commit(&mut world, old, 3);
    world.crash(old);
    no_appends(&mut world);
    world.wait("another one leads", |world| (0..3).any(|node| world.leads(node)));
    let new = (0..3).find(|node| world.leads(*node)).expect("just seen");
    world.run_for(timeout() / 2);
    assert!(world.leads(new) && !world.core(new).is_ready());
    assert!(!holds(&world, new) && !lease_read(&mut world, new));
    world.filter = None;
    world.wait("then it has one", |world| holds(world, new));
    world.settles();
}

#[test]
fn l09_answers_to_an_earlier_round_confirm_no_later_read() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    let follower = other_than(&world, &[old]);
    let third = other_than(&world, &[old, follower]);
    world.network.cut(old, third);
    world.hold_answers = Some((follower, old));
    world.run_for(seconds(1) / 10);
    let early = world.read(old);
    world.run_for(seconds(1) / 100);
    // What answers the first round arrives; it left before the second read came.
    world.network.cuts.insert((old, follower));
    let late = world.read(old);
    world.release();
    world.run_for(seconds(1) / 100);
    assert!(matches!(world.workload.outcome(early), Some(Outcome::Read { .. })));
    assert_eq!(world.workload.outcome(late), None);
    world.settles();
}

#[test]
fn l01_nothing_is_appended_while_leadership_moves() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let target = other_than(&world, &[leader]);
    no_appends(&mut world);
    world.propose(leader);
    let transfer = world.transfer(leader, Some(target));
    let last = world.core(leader).last();
    for _ in 0..100 {
        world.propose(leader);
    }
    assert_eq!(world.core(leader).last(), last, "refused before the target is compared");
    assert!(world.coverage["refused: transfer in progress"] >= 100);
    world.filter = None;
    world.wait("the transfer ends", |world| world.workload.outcome(transfer).is_some());
    world.settles();
}

#[test]
fn l02_leadership_goes_to_no_learner() {
    let mut world = World::calm(3, 1);
    let leader = world.leader();
    let peer = world.servers[3].peer.clone();
    let add = ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address };
    let added = world.change(leader, add);
    world.wait("it is added", |world| world.workload.outcome(added).is_some());
    let transfer = world.transfer(leader, Some(3));
    assert_eq!(world.workload.outcome(transfer), Some(&Outcome::Refused(Refusal::InvalidTarget)));
    world.inject(leader, 3, Request::TimeoutNow { term: Some(world.core(leader).term()) });
    world.run_for(seconds(1));
    assert!(world.leads(leader));
    world.settles();
}

#[test]
fn m14_a_read_that_waits_is_judged_by_the_smaller_quorum() {
    let mut world = World::calm(2, 0);
    let leader = world.leader();
    let other = other_than(&world, &[leader]);
    world.run_for(seconds(1));
    world.hold_answers = Some((other, leader));
    let read = world.read(leader);
    world.run_for(seconds(1) / 100);
    assert_eq!(world.workload.outcome(read), None, "one of two");
    let id = world.servers[other].peer.id.clone();
    world.change(leader, ConfigurationChange::RemoveServer { id });
    world.run_for(seconds(1) / 100);
    assert!(matches!(world.workload.outcome(read), Some(Outcome::Read { .. })), "one of one");
    world.settles();
}

/// A leader that steps down and campaigns again within its old lease: that lease is over, what was answered to the old
/// term makes none in the new one, and nobody leads beside the new one.
#[test]
fn l11_the_lease_of_an_earlier_term_of_its_own_is_over() {
    for (leads_again, seed) in [(true, 1), (true, 2), (true, 3), (false, 1), (false, 2), (false, 3)] {
        let (mut world, leader) = {
            let mut world = World::new(Options { seed, ..options(3) });
            let leader = world.leader();
            world.wait("a quorum has answered", |world| holds(world, leader));
            (world, leader)
        };
        let (other, late) = ((leader + 1) % 3, (leader + 2) % 3);
        // What this one answers from now on comes when the term is over.
        let delay = timeout() / 4;
        world.network.slow.insert((late, leader), delay);
        world.run_for(Config::default().heartbeat_interval * 2);
        assert!(lease_read(&mut world, leader));
        let old = world.core(leader).lease().expect("just read by it");
        let term = world.core(leader).term();
        hears_of_a_newer_term(&mut world, leader, other);
        assert!(world.core(leader).term() > term && !world.leads(leader));
        assert!(world.servers[leader].clock.local(world.now) < old, "by the clock the old lease would last");
        assert!(!lease_read(&mut world, leader), "but it is not a leader's any more");
        let again = if leads_again { leader } else { other };
        if !leads_again {
            // It would give its consent, now that it does not lead any more; the third one has promised not to.
            world.isolate(leader);
        }
        only_campaigns(&mut world, again);
        world.step(again, Input::Campaign);
        world.wait("it campaigns", |world| world.core(again).role() != Role::Follower || world.leads(again));
        // A candidate has no lease, whatever it had.
        assert!(!holds(&world, again) || world.leads(again));
        let led = world.run_until(delay / 2, |world| world.leads(again) && world.core(again).is_ready());
        world.sound();
        if leads_again {
            assert!(led, "those who follow it still grant it the next term");
            world.isolate(leader);
            let new = world.core(leader).lease().expect("a quorum has answered in the new term");
            world.run_for(delay);
            assert_eq!(world.core(leader).lease(), Some(new), "answers to the old term add nothing");
        } else {
            assert!(!led, "who promised the old leader a lease elects nobody else within it");
        }
        world.filter = None;
        world.wait("somebody leads in the end", |world| (0..3).any(|node| world.leads(node)));
        world.settles();
    }
}

/// A follower answers from a newer term, as one does that campaigned while it was cut off.
fn hears_of_a_newer_term(world: &mut World, leader: usize, from: usize) {
    world.specification.stop();
    let from = world.servers[from].id().clone();
    let response = Response::Append {
        term: world.core(leader).term().next(),
        success: false,
        last_log: LogIndex(0),
        features: Features::OURS,
        incarnation: raft::Incarnation::FOUNDER,
    };
    world.step(leader, Input::Response { from, sequence: Sequence(u64::MAX / 2), response });
}

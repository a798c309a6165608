//! Clients get into each other's way on a few keys while servers are killed, stopped and cut off; what they saw must be
//! linearizable.
//!
//! `LIVE_SEED` repeats the choices of a run (not its timing), `LIVE_SECONDS` sets how long the faults last.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests wait for real processes on a real clock"
)]

mod clients;
mod cuts;
mod leases;
mod namespaces;
mod nemesis;

use std::sync::Mutex;

use clients::Mode;
use live_tests::Cluster;
use namespaces::Namespaces;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use simulation::linearizable::{STEPS_MAX, Verdict, check};

/// One cluster at a time: both tests want the whole machine.
static TURN: Mutex<()> = Mutex::new(());

fn seed() -> u64 {
    let given = std::env::var("LIVE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("LIVE_SEED={seed}");
    seed
}

#[test]
fn histories_are_linearizable_under_kill_9_and_sigstop() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seed = seed();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut cluster = Cluster::start(3);
    let seen = clients::watch(&mut cluster, seed, |cluster, clients| {
        nemesis::kills_and_pauses(cluster, clients, &mut random)
    });
    seen.judge();
    assert!(seen.faults >= 3, "only {} faults", seen.faults);
}

#[test]
fn histories_are_linearizable_under_one_way_cuts() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seed = seed();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let namespaces = match Namespaces::create(3) {
        Ok(namespaces) => namespaces,
        Err(reason) => return skipped("histories_are_linearizable_under_one_way_cuts", &reason),
    };
    let mut cluster = Cluster::start_placed(3, |number, agent| namespaces.place(number, agent));
    let seen = clients::watch(&mut cluster, seed, |cluster, clients| {
        cuts::cuts_and_pauses(cluster, &namespaces, clients, &mut random)
    });
    seen.judge();
    assert!(seen.faults >= 3, "only {} faults", seen.faults);
}

/// The clients of these tests would notice a lease that is too long: one server's election timeout, on which its lease
/// rests, is not that of the others.
#[test]
fn a_lease_that_outlasts_an_election_is_noticed() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seed = seed();
    let namespaces = match Namespaces::create(3) {
        Ok(namespaces) => namespaces,
        Err(reason) => return skipped("a_lease_that_outlasts_an_election_is_noticed", &reason),
    };
    let mut cluster = Cluster::start_placed(3, |number, agent| {
        namespaces.place(number, agent);
        // Who is cut off stays a member.
        agent.flags = vec!["--autopilot-cleanup-dead-servers".to_owned(), "false".to_owned()];
        if number == 1 + leases::SLOW {
            agent.flags.extend(["--raft-election-timeout".to_owned(), leases::TOO_LONG.to_owned()]);
        }
    });
    let seen = clients::watch(&mut cluster, seed, |cluster, clients| {
        leases::cut_off_too_long(cluster, &namespaces, clients)
    });
    println!("cut off {} times", seen.faults);
    println!("answered reads: {:?}", seen.reads());
    let history = seen.history();
    let verdict = check(&history, STEPS_MAX);
    assert!(matches!(verdict, Verdict::Violation(_)), "nobody noticed: {verdict:?}");
    println!("noticed:{}", clients::shortened(&history));
    // No other way to read rests on clocks.
    let others = check(&seen.history_without(Mode::Lease), STEPS_MAX);
    assert_eq!(others, Verdict::Linearizable);
}

/// Says so past the test harness, which hides what a passing test prints.
fn skipped(test: &str, reason: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no network namespaces here: {reason}");
}

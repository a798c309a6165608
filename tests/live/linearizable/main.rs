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
mod namespaces;
mod nemesis;

use std::sync::Mutex;

use live_tests::Cluster;
use namespaces::Namespaces;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

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
    let faults = clients::run(&mut cluster, seed, |cluster, clients| {
        nemesis::kills_and_pauses(cluster, clients, &mut random)
    });
    assert!(faults >= 3, "only {faults} faults");
}

#[test]
fn histories_are_linearizable_under_one_way_cuts() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seed = seed();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let namespaces = match Namespaces::create(3) {
        Ok(namespaces) => namespaces,
        Err(reason) => return skipped(&reason),
    };
    let mut cluster = Cluster::start_placed(3, |number, agent| namespaces.place(number, agent));
    let faults = clients::run(&mut cluster, seed, |cluster, clients| {
        cuts::cuts_and_pauses(cluster, &namespaces, clients, &mut random)
    });
    assert!(faults >= 3, "only {faults} faults");
}

/// Says so past the test harness, which hides what a passing test prints.
fn skipped(reason: &str) {
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED histories_are_linearizable_under_one_way_cuts: no network namespaces here: {reason}"
    );
}

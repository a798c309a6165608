//! Whole servers with faults: the real actor, disk, state machine and snapshots over a network in memory and a file system
//! that loses what was not synced.
//!
//! On a paused clock and one thread a seed decides everything, and a run repeats itself event by event:
//! `DRIVER_SEED=17 cargo test -p raft --test driver_simulation one_seed` does so. `DRIVER_SEEDS=3000` runs more of them. A few
//! runs use threads and the real clock, as in production; their seed decides the faults and nothing else.
//!
//! Judged are: one leader a term, one order of commands on all servers, linearizable histories of writes and of reads by
//! log, read index, lease and through followers (C1), that every call ends (C2, R3), that nothing acknowledged is lost
//! and nothing refused is applied (C3), that nothing takes effect twice (C4), bounded memory (R1), heartbeats under load
//! (R2), that nothing is left running (R4), and that all servers come to agree when the faults are over.
#![cfg(feature = "tokio")]
#![allow(clippy::disallowed_methods, reason = "clients are tasks, a slow disk sleeps")]
#![allow(missing_docs, reason = "a test")]

mod clients;
mod cluster;
mod server;
mod truth;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use cluster::Cluster;
use truth::{Outcome, Truth, lock};

pub(crate) type Random = Xoshiro256PlusPlus;

/// A few seconds of work, with and without optimisation.
const SEEDS: u64 = if cfg!(debug_assertions) { 100 } else { 300 };
const SERVERS: [&str; 3] = ["a", "b", "c"];
/// Far longer than anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a run is run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// With threads and the real clock.
    pub(crate) threads: bool,
    /// A planted defect: disks say that something is durable before it is.
    pub(crate) disks_lie: bool,
    /// A planted defect: clients read what a server happens to hold.
    pub(crate) reads_unconfirmed: bool,
}

fn random(seed: u64, what: u64) -> Random {
    Random::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(what))
}

async fn story(seed: u64, options: Options) -> Outcome {
    let truth = Truth::new(seed);
    let mut cluster = Cluster::new(seed, options, Arc::clone(&truth));
    cluster.bootstrap().await;
    let mut working = Vec::new();
    for number in 0..3 {
        let (up, truth) = (cluster.servers(), Arc::clone(&truth));
        let confirmed = !options.reads_unconfirmed;
        working.push(tokio::spawn(clients::client(up, truth, random(seed, 10 + number), confirmed)));
    }
    let (up, known) = (cluster.servers(), Arc::clone(&truth));
    working.push(tokio::spawn(clients::insistent_client(up, known, random(seed, 20))));
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..if options.threads { 12 } else { 30 } {
        cluster.disturb().await;
    }
    truth.stop.store(true, Ordering::Relaxed);
    cluster.settle().await;
    for client in working {
        if tokio::time::timeout(PATIENCE, client).await.is_err() {
            truth.wrong("a client never ends".to_owned());
        }
    }
    cluster.end().await;
    truth.judge()
}

/// R4: nothing but what hangs for good is left running.
async fn nothing_is_left(outcome: &mut Outcome) {
    // Longer than a network in memory waits for an answer.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks() as u64;
    let hung = outcome.hung;
    if alive != hung {
        outcome.wrong.push(format!("{alive} tasks are left, {hung} of them hang"));
    }
}

/// One run on a paused clock.
fn run(seed: u64, options: Options) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let mut outcome = story(seed, options).await;
        nothing_is_left(&mut outcome).await;
        outcome
    })
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn acknowledged_commands_survive_faults_of_network_disk_and_process() {
    let count = variable("DRIVER_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get).min(8) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    let outcome = run(seed, Options::default());
                    lock(&outcomes).push((seed, outcome));
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().expect("no run panics");
    let sum = |of: fn(&Outcome) -> usize| outcomes.iter().map(|(_, outcome)| of(outcome)).sum::<usize>();
    let (acknowledged, reads) = (sum(|outcome| outcome.acknowledged), sum(|outcome| outcome.reads));
    let time: Duration = outcomes.iter().map(|(_, outcome)| outcome.time).sum();
    println!("{count} seeds, {time:?} on the clock, {acknowledged} commands acknowledged, {reads} reads");
    let failures: Vec<String> = outcomes
        .iter()
        .flat_map(|(seed, outcome)| {
            outcome.wrong.iter().take(3).map(move |sentence| format!("seed {seed}: {sentence}"))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let least = usize::try_from(count).unwrap_or(0);
    assert!(acknowledged > least * 20 && reads > least * 20, "the faults leave room for work");
}

#[test]
fn one_seed_decides_everything() {
    let seeds = variable("DRIVER_SEED").map_or_else(|| vec![1, 2, 3], |seed| vec![seed]);
    for seed in seeds {
        let (first, second) = (run(seed, Options::default()), run(seed, Options::default()));
        println!("seed {seed}: hash {:016x}, {:?}, {:?}", first.hash, first.time, first.wrong);
        assert_eq!(
            (first.hash, first.time),
            (second.hash, second.time),
            "seed {seed} does not repeat itself"
        );
        assert_eq!((first.acknowledged, first.reads), (second.acknowledged, second.reads));
        assert_eq!(first.wrong, [""; 0]);
        assert_ne!(run(seed + 1000, Options::default()).hash, first.hash, "seeds differ");
    }
}

/// How many seeds it takes until a planted defect is found.
fn hunt(options: Options) -> Option<(u64, String)> {
    (0..100).find_map(|seed| run(seed, options).wrong.first().map(|sentence| (seed, sentence.clone())))
}

#[test]
fn planted_defects_are_found() {
    let lies = hunt(Options { disks_lie: true, ..Options::default() });
    println!("disks that lie: {lies:?}");
    assert!(lies.is_some());
    let stale = hunt(Options { reads_unconfirmed: true, ..Options::default() });
    println!("reads that nobody confirms: {stale:?}");
    assert!(stale.is_some_and(|(_, sentence)| sentence.contains("stale")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_and_the_real_clock_do_as_well() {
    let options = Options { threads: true, ..Options::default() };
    let runs: Vec<_> = (0..10).map(|seed| (seed, tokio::spawn(story(seed, options)))).collect();
    let mut failures = Vec::new();
    for (seed, run) in runs {
        let outcome = run.await.expect("a run does not panic");
        assert!(outcome.acknowledged > 0 && outcome.reads > 0, "the faults leave room for work");
        failures.extend(outcome.wrong.into_iter().take(3).map(|sentence| format!("seed {seed}: {sentence}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

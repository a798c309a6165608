//! Many seeds, on all processors.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::mutant::Mutant;
use crate::options::Options;
use crate::world::{Failure, Report, World};

/// Runs one seed. A panic of the core counts as a failure like any other.
#[must_use]
pub fn run(options: Options) -> Report {
    let seed = options.seed;
    let attempt = catch_unwind(AssertUnwindSafe(|| World::new(options).run()));
    attempt.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let sentence = text.unwrap_or_else(|| "a panic without a message".to_owned());
        let failure = Failure { check: "panic", sentence, at: raft::Time::ZERO };
        Report { seed, failure: Some(failure), ..Report::default() }
    })
}

/// What many runs came to.
#[derive(Debug, Default)]
pub struct Totals {
    /// Seeds without a failure.
    pub passed: u64,
    /// The failed ones, in order of the seed.
    pub failed: Vec<Report>,
    /// Events of all runs.
    pub events: u64,
    /// Virtual time of all runs.
    pub time: Duration,
    /// Sums, and for what is called "at most" the largest.
    pub coverage: BTreeMap<&'static str, u64>,
    /// How many runs entered each region of the catalogue.
    pub regions: BTreeMap<&'static str, u64>,
}

impl Totals {
    fn add(&mut self, report: Report) {
        self.events += report.events;
        self.time += report.time;
        for (name, count) in &report.coverage {
            let known = self.coverage.entry(name).or_default();
            *known = if name.ends_with("at most") { (*known).max(*count) } else { *known + count };
        }
        for region in report.regions.keys() {
            *self.regions.entry(region).or_default() += 1;
        }
        if report.failure.is_some() {
            self.failed.push(report);
            self.failed.sort_by_key(|report| report.seed);
        } else {
            self.passed += 1;
        }
    }
}

/// Runs these seeds on this many threads; `progress` hears of each finished one.
///
/// # Panics
/// If `progress` does.
#[must_use]
pub fn swarm(
    seeds: std::ops::Range<u64>,
    events: u64,
    threads: usize,
    progress: impl Fn(&Report) + Sync,
) -> Totals {
    swarm_of(seeds, threads, |seed| Options::from_seed(seed, events), progress)
}

/// The same for runs that `options` shapes.
///
/// # Panics
/// If `progress` does.
#[must_use]
pub fn swarm_of(
    seeds: std::ops::Range<u64>,
    threads: usize,
    options: impl Fn(u64) -> Options + Sync,
    progress: impl Fn(&Report) + Sync,
) -> Totals {
    let next = AtomicU64::new(seeds.start);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = run(options(seed));
                    progress(&report);
                    totals.lock().expect("no thread panics while it adds").add(report);
                }
            });
        }
    });
    totals.into_inner().expect("no thread panics while it adds")
}

/// The first seed of a range under which a planted defect is found, and what finds it.
#[must_use]
pub fn hunt(mutant: Mutant, seeds: std::ops::Range<u64>, events: u64) -> Option<(u64, Failure)> {
    hunt_by(mutant, seeds, events, None)
}

/// The same, where only the findings of one checker count.
#[must_use]
pub fn hunt_by(
    mutant: Mutant,
    seeds: std::ops::Range<u64>,
    events: u64,
    only: Option<&'static str>,
) -> Option<(u64, Failure)> {
    seeds.into_iter().find_map(|seed| {
        let options = Options { mutant: Some(mutant), only, ..Options::for_mutant(mutant, seed, events) };
        let failure = run(options).failure;
        failure.filter(|failure| only.is_none_or(|only| only == failure.check)).map(|failure| (seed, failure))
    })
}

/// [`hunt_by`] for many defects, on this many threads; answers in the order of the defects.
///
/// # Panics
/// Never: a panic of a core is a failure that was found.
#[must_use]
pub fn hunt_all(
    mutants: &[Mutant],
    seeds: std::ops::Range<u64>,
    events: u64,
    threads: usize,
    only: Option<&'static str>,
) -> Vec<Option<(u64, Failure)>> {
    let next = AtomicU64::new(0);
    let found = Mutex::new(vec![None; mutants.len()]);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let position =
                        usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
                    let Some(mutant) = mutants.get(position) else { return };
                    let hunted = hunt_by(*mutant, seeds.clone(), events, only);
                    found.lock().expect("no thread panics while it holds this")[position] = hunted;
                }
            });
        }
    });
    found.into_inner().expect("no thread panics while it holds this")
}

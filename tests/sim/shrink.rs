//! Makes a failed run smaller: fewer events, then without whole kinds of load and faults, then without single faults, as long
//! as the same checker finds something.
//!
//! Leaving something out changes everything after it, so each try is a run of its own that fails or does not. What is kept
//! is whatever still fails; nothing here proves that it could not be smaller.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::options::Options;
use crate::swarm::run;
use crate::world::Report;

/// Something that a run can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All faults.
    Faults,
    /// Clients.
    Clients,
    /// Changes of members and transfers of leadership.
    Changes,
    /// Lost messages.
    Loss,
    /// Doubled messages.
    Duplicates,
    /// Messages that take up to a second.
    Late,
    /// Long delays in the network.
    Delay,
    /// Slow disks.
    Disks,
    /// A slow state machine.
    Apply,
    /// Snapshots.
    Snapshots,
    /// Clocks that run fast or slow.
    Drift,
    /// Leases.
    Leases,
    /// Servers that may join.
    Spares,
}

impl Part {
    /// All of them, the largest first.
    pub const ALL: [Self; 13] = [
        Self::Faults,
        Self::Clients,
        Self::Changes,
        Self::Spares,
        Self::Snapshots,
        Self::Loss,
        Self::Duplicates,
        Self::Late,
        Self::Delay,
        Self::Disks,
        Self::Apply,
        Self::Drift,
        Self::Leases,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Faults => "faults",
            Self::Clients => "clients",
            Self::Changes => "changes",
            Self::Loss => "loss",
            Self::Duplicates => "duplicates",
            Self::Late => "late",
            Self::Delay => "delay",
            Self::Disks => "disks",
            Self::Apply => "apply",
            Self::Snapshots => "snapshots",
            Self::Drift => "drift",
            Self::Leases => "leases",
            Self::Spares => "spares",
        }
    }

    /// The part of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    fn leave_out(self, options: &mut Options) {
        let little = |range: (Duration, Duration)| (range.0, range.1.min(Duration::from_millis(1)));
        match self {
            Self::Faults => options.fault_every = Duration::ZERO,
            Self::Clients => options.client_every = Duration::ZERO,
            Self::Changes => options.changes = false,
            Self::Loss => options.loss = 0,
            Self::Duplicates => options.duplicates = 0,
            Self::Late => options.late = 0,
            Self::Delay => options.delay = little(options.delay),
            Self::Disks => options.disk = little(options.disk),
            Self::Apply => options.apply = Duration::ZERO,
            Self::Snapshots => options.snapshot_every = u64::MAX,
            Self::Drift => options.drift = 0,
            Self::Leases => options.config.lease_reads = false,
            Self::Spares => options.spares = 0,
        }
    }
}

/// How a run differs from what its seed says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Less {
    /// What is left out.
    pub without: BTreeSet<Part>,
    /// Faults that do not happen, by their number from zero. Then every fault draws its own numbers, so that leaving one out
    /// changes no choice of another.
    pub skip: Option<BTreeSet<u64>>,
}

impl Less {
    /// Reads what [`Less::arguments`] writes.
    ///
    /// # Errors
    /// An unknown part, or something that is no number.
    pub fn from_arguments(without: Option<&str>, skip: Option<&str>) -> Result<Self, String> {
        let parts = without.unwrap_or("").split(',').filter(|name| !name.is_empty());
        let known = |name| Part::named(name).ok_or_else(|| format!("nothing is called {name:?}"));
        let without = parts.map(known).collect::<Result<_, String>>()?;
        let skip = skip.map(|text| text.split(',').filter(|word| *word != "none").map(range).collect());
        let skip = skip.map(|all: Result<Vec<_>, String>| all.map(|all| all.into_iter().flatten().collect()));
        Ok(Self { without, skip: skip.transpose()? })
    }

    /// The arguments of `replay` that say the same.
    #[must_use]
    pub fn arguments(&self) -> String {
        let names: Vec<&str> = self.without.iter().map(|part| part.name()).collect();
        let without =
            if names.is_empty() { String::new() } else { format!(" --without {}", names.join(",")) };
        let skip = self.skip.as_ref().map_or_else(String::new, |skip| format!(" --skip {}", ranges(skip)));
        without + &skip
    }

    /// Takes it away from a run.
    #[must_use]
    pub fn of(&self, mut options: Options) -> Options {
        self.without.iter().for_each(|part| part.leave_out(&mut options));
        options.skip.clone_from(&self.skip);
        options
    }
}

fn range(text: &str) -> Result<std::ops::RangeInclusive<u64>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number of a fault"));
    Ok(number(first)?..=number(last)?)
}

fn ranges(numbers: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    if ranges.is_empty() {
        return "none".to_owned();
    }
    let texts = ranges.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    texts.collect::<Vec<String>>().join(",")
}

/// A smaller run that still fails.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// Events before the faults stop.
    pub events: u64,
    /// What it does without.
    pub less: Less,
    /// What it came to.
    pub report: Report,
    /// How many runs it took to find it.
    pub runs: u32,
}

/// The most runs that are tried.
const RUNS: u32 = 300;

/// Finds a smaller run that the same checker fails. `None` if this one does not fail.
#[must_use]
pub fn shrink(options: &Options) -> Option<Shrunk> {
    let report = run(Options { trace: false, ..options.clone() });
    let check = report.failure.as_ref()?.check;
    let small = Shrunk { events: options.events, less: Less::default(), report, runs: 1 };
    let mut search = Search { options, check, small };
    // What comes after the failure plays no part. A panic does not say when it was.
    let until = search.small.report.events.clamp(1, options.events);
    search.fails(until, &Less::default());
    search.fewer_events();
    search.fewer_parts();
    search.fewer_faults();
    search.fewer_events();
    Some(search.small)
}

struct Search<'a> {
    options: &'a Options,
    check: &'static str,
    small: Shrunk,
}

impl Search<'_> {
    /// Runs it, and keeps it if it fails in the same way after no more events than the smallest so far, those after the faults
    /// included.
    fn fails(&mut self, events: u64, less: &Less) -> bool {
        if self.small.runs >= RUNS {
            return false;
        }
        self.small.runs += 1;
        let report = run(less.of(Options { trace: false, events, ..self.options.clone() }));
        let fails = report.failure.as_ref().is_some_and(|failure| failure.check == self.check)
            && report.events <= self.small.report.events;
        if fails {
            self.small.events = events;
            self.small.less = less.clone();
            self.small.report = report;
        }
        fails
    }

    fn fewer_events(&mut self) {
        let (mut low, less) = (0, self.small.less.clone());
        while low < self.small.events {
            let middle = low.midpoint(self.small.events);
            if !self.fails(middle, &less) {
                low = middle + 1;
            }
        }
    }

    fn fewer_parts(&mut self) {
        for part in Part::ALL {
            let mut less = self.small.less.clone();
            less.without.insert(part);
            let shape = |less: &Less| format!("{:?}", less.of(self.options.clone()));
            if shape(&less) == shape(&self.small.less) {
                continue;
            }
            self.fails(self.small.events, &less);
        }
    }

    /// Leaves out large runs of faults, then smaller ones, the last ones first.
    fn fewer_faults(&mut self) {
        let apart = Less { skip: Some(BTreeSet::new()), ..self.small.less.clone() };
        if self.small.report.faults == 0 || !self.fails(self.small.events, &apart) {
            return;
        }
        let mut portion = self.small.report.faults.next_power_of_two();
        while portion > 0 {
            let mut end = self.small.report.faults;
            while end > 0 {
                let begin = end.saturating_sub(portion);
                let mut less = self.small.less.clone();
                let skip = less.skip.get_or_insert_default();
                let known = skip.len();
                skip.extend(begin..end);
                if skip.len() > known {
                    self.fails(self.small.events, &less);
                }
                end = begin;
            }
            portion /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutant::Mutant;

    #[test]
    fn a_smaller_run_fails_by_the_same_checker() {
        let mutant = Mutant::Core(raft::core::Mutant::CommitsOldTerms);
        let planted = |seed| Options { mutant: Some(mutant), ..Options::for_mutant(mutant, seed, 2500) };
        let (options, first) = (0..20)
            .map(|seed| (planted(seed), run(planted(seed))))
            .find(|(_, report)| report.failure.is_some() && report.faults > 3)
            .expect("it is found soon");
        let small = shrink(&options).expect("it fails");
        let check = |report: &Report| report.failure.as_ref().map(|failure| failure.check);
        assert_eq!(check(&small.report), check(&first));
        assert!(small.report.events < first.events, "{} of {}", small.report.events, first.events);
        let left = small.report.faults - small.less.skip.as_ref().map_or(0, |skip| skip.len() as u64);
        assert!(left < first.faults, "{left} of {}", first.faults);
        // What is printed says the same.
        let arguments = small.less.arguments();
        let after =
            |name: &str| arguments.split_once(name).map(|(_, rest)| rest.split(' ').next().unwrap_or(""));
        let read = Less::from_arguments(after("--without "), after("--skip ")).expect("its own words");
        assert_eq!(read, small.less);
        let again = run(read.of(Options { events: small.events, ..options }));
        assert_eq!((again.events, check(&again)), (small.report.events, check(&small.report)));
    }

    #[test]
    fn a_run_that_passes_is_not_shrunk() {
        assert!(shrink(&Options::from_seed(3, 500)).is_none());
    }

    #[test]
    fn ranges_are_read_as_they_are_written() {
        for (text, numbers) in [("none", vec![]), ("3", vec![3]), ("0-2,5,7-8", vec![0, 1, 2, 5, 7, 8])] {
            let less = Less::from_arguments(None, Some(text)).expect("ranges");
            assert_eq!(less.skip, Some(numbers.into_iter().collect()));
            assert_eq!(less.arguments(), format!(" --skip {text}"));
        }
        assert!(Less::from_arguments(Some("gremlins"), None).is_err());
        assert!(Less::from_arguments(None, Some("1-x")).is_err());
    }
}

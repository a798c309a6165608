//! The network: delay, loss, duplication, reordering and cuts, which may be one-way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::options::Options;
use crate::random::{Random, between, chance, stream};

/// Decides when, and how often, a message arrives.
#[derive(Debug)]
pub struct Network {
    random: Random,
    /// Ordered pairs (from, to) between which nothing passes.
    pub cuts: BTreeSet<(usize, usize)>,
    /// The same, for good: not even the end of all faults mends them.
    pub lasting: BTreeSet<(usize, usize)>,
    /// Ordered pairs (from, to) between which everything takes exactly this long.
    pub slow: BTreeMap<(usize, usize), Duration>,
    /// Lost messages in a thousand.
    pub loss: u32,
    duplicates: u32,
    late: u32,
    delay: (Duration, Duration),
}

impl Network {
    /// A network without cuts.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self {
            random: stream(options.seed, "network"),
            cuts: BTreeSet::new(),
            lasting: BTreeSet::new(),
            slow: BTreeMap::new(),
            loss: options.loss,
            duplicates: options.duplicates,
            late: options.late,
            delay: options.delay,
        }
    }

    /// After how long each copy of a message arrives; empty for a lost one.
    pub fn route(&mut self, from: usize, to: usize) -> Vec<Duration> {
        let lost = chance(&mut self.random, self.loss);
        let copies = if chance(&mut self.random, self.duplicates) { 2 } else { 1 };
        if lost || self.cuts.contains(&(from, to)) || self.lasting.contains(&(from, to)) {
            return Vec::new();
        }
        let slow = self.slow.get(&(from, to)).copied();
        (0..copies).map(|_| slow.unwrap_or_else(|| self.delay())).collect()
    }

    fn delay(&mut self) -> Duration {
        let (low, high) = self.delay;
        let high = if chance(&mut self.random, self.late) { Duration::from_secs(1) } else { high };
        between(&mut self.random, low, high)
    }

    /// Stops everything between two servers, both ways.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cuts.insert((a, b));
        self.cuts.insert((b, a));
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.slow.clear();
        self.loss = 0;
        self.duplicates = 0;
        self.late = 0;
    }
}

//! People who give orders, and what they were promised: what a leader answered has to hold under every later one, too, once
//! its ledger is replicated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use autopilot::{Instruction, Ledger, LogIndex, ServerId, Term};
use raft::Time;

use crate::random::{Random, stream};

/// A ledger as the replicated state has it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// When it was made, in true time.
    pub at: Time,
    /// The run that made it.
    pub run: u64,
    /// Its term.
    pub term: Term,
    /// Where the configuration stood that its run had seen last.
    pub configuration: LogIndex,
    /// How many promises had been given by then.
    pub promises: usize,
    /// How long each healthy member had been healthy in the eyes of the checkers.
    pub healthy_for: BTreeMap<ServerId, Duration>,
    /// The largest number of voters that was seen all stable.
    pub size: Option<usize>,
}

/// What was promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promised {
    /// The server gets neither a vote nor leadership.
    Cordoned(ServerId),
    /// It loses both, and gets neither.
    Drained(ServerId),
    /// Nothing is changed without being asked.
    Paused,
    /// A server, or everything, is left alone.
    Maintained(Option<ServerId>),
    /// The server was taken out, in this of its lives; of `None` nobody can tell.
    Buried(ServerId, Option<u64>),
    /// The server may be stopped.
    Released(ServerId),
    /// A dead server was taken out, which counts against the budget.
    Spent,
    /// It was a voter: the next one waits.
    Cooling,
    /// A step was taken, which counts against the rate.
    Stepped,
}

/// A promise, and for whom it holds.
#[derive(Clone, Debug)]
pub struct Promise {
    /// What.
    pub what: Promised,
    /// By which run.
    pub run: u64,
    /// In which term.
    pub term: Term,
    /// When, in true time and by the clock of the server on which that run was.
    pub given: (Time, Time),
    /// From when to when after that it holds, by that clock.
    pub holds: (Duration, Duration),
    /// How many clocks had jumped before.
    pub jumps: u64,
    /// Whether a ledger with it is known to be replicated: then it binds the leaders of later terms.
    pub kept: bool,
    /// Somebody has asked for it to be lifted.
    pub lifted: bool,
}

impl Promise {
    /// Whether it binds this run now. Where no clock is shared, only what is certain on all of them.
    #[must_use]
    pub fn binds(&self, run: u64, term: Term, now: (Time, Time), jumps: u64) -> bool {
        let (from, until) = self.holds;
        if self.lifted {
            return false;
        }
        if self.run == run {
            let passed = now.1.since(self.given.1);
            return passed >= from && passed < until;
        }
        if until == Duration::MAX {
            return self.kept && term > self.term;
        }
        let passed = now.0.since(self.given.0);
        // Each takeover may take the reading of two clocks for the same, and clocks differ by a fifth at most.
        let lost = SKEW * u32::try_from(run.abs_diff(self.run)).unwrap_or(u32::MAX);
        let certain = passed > from * 3 / 2 + lost && passed + lost < until * 3 / 4;
        self.kept && term > self.term && certain && jumps == self.jumps
    }
}

/// How far the clocks by which the age of a ledger is told may be apart.
pub const SKEW: Duration = Duration::from_millis(200);

/// The people around one cluster.
#[derive(Debug)]
pub struct People {
    /// What they do is drawn from here.
    pub random: Random,
    /// The ledgers, by the values of the commands that carry them.
    pub ledgers: BTreeMap<u64, Kept>,
    /// The commands of which nobody knows yet whether they are committed.
    pub unsettled: BTreeSet<u64>,
    /// Everything that was promised, in order.
    pub promises: Vec<Promise>,
    /// Removed servers that somebody wants back.
    pub wanted_back: BTreeSet<usize>,
    /// Orders that wait for a leader that is not busy.
    pub waiting: Vec<Instruction>,
}

impl People {
    /// Nobody has said anything yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: stream(seed, "people"),
            ledgers: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            promises: Vec::new(),
            wanted_back: BTreeSet::new(),
            waiting: Vec::new(),
        }
    }

    /// A ledger is replicated: what its run had promised by then binds later leaders.
    pub fn is_kept(&mut self, value: u64) {
        self.unsettled.remove(&value);
        let Some(Kept { run, promises, .. }) = self.ledgers.get(&value) else { return };
        self.promises.iter_mut().take(*promises).filter(|p| p.run == *run).for_each(|p| p.kept = true);
    }

    /// Takes back promises: somebody has asked for that, and whether it was heard is not always known.
    pub fn lift(&mut self, which: impl Fn(&Promised) -> bool) {
        self.promises.iter_mut().filter(|promise| which(&promise.what)).for_each(|p| p.lifted = true);
    }
}

/// A falsehood, or the lack of an answer, of those who are asked whether they hear from others.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    /// Until when.
    pub until: Time,
    /// What it says of everybody.
    pub dead: bool,
}

/// What one server says about another that the leader does not hear from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Who says it.
    pub by: ServerId,
    /// Whether it calls it dead.
    pub dead: bool,
    /// Whether it lies.
    pub lies: bool,
}

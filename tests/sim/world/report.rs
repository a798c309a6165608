//! What a run came to.

use std::collections::BTreeMap;
use std::time::Duration;

use raft::Time;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which checker found it.
    pub check: &'static str,
    /// What it says.
    pub sentence: String,
    /// When.
    pub at: Time,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Events that happened.
    pub events: u64,
    /// Virtual time that passed.
    pub time: Duration,
    /// Stands for everything that happened, in order.
    pub hash: u64,
    /// How often each interesting thing happened.
    pub coverage: BTreeMap<&'static str, u64>,
    /// How often each region of the catalogue was entered.
    pub regions: BTreeMap<&'static str, u64>,
    /// Faults that were begun, those included that were left out.
    pub faults: u64,
    /// What went wrong, if anything.
    pub failure: Option<Failure>,
}

//! What autopilot may do, judged from the outside: the checkers keep what each run was shown and count health, probation,
//! grace and tolerance for themselves, by other means than the library's.
//!
//! [`decision`] judges every round, [`accepted`] every change that the engine took, [`goal`] where it all ends.

pub mod accepted;
pub mod decision;
pub mod goal;
pub mod observed;

use std::collections::BTreeSet;

use autopilot::{LogIndex, ServerId, Step};
use raft::Time;

pub use observed::Observed;

/// What the checkers know of one run.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// What the run was shown.
    pub observed: Observed,
    /// Whether the application said in the last look whom it knows.
    pub answered: bool,
    /// The step that failed last, and until when it must not be tried again.
    pub failed: Option<(Step, Time)>,
    /// The largest configuration index on which it decided a step.
    pub decided_on: LogIndex,
    /// The removals of voters since the set of dead voters last changed.
    pub pass: Pass,
}

/// One pass of removals: it begins with the first one, and ends when somebody else dies or gets a vote.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// How many voted at the start.
    pub voters: usize,
    /// The dead voters that were seen.
    pub dead: BTreeSet<ServerId>,
    /// How many voters it has removed.
    pub removed: usize,
}

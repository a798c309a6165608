//! Judges whether a recorded history of clients is linearizable: whether there is one order of its operations that a
//! single copy of the data could have gone through, and in which nothing that ended comes after what began later.
//!
//! The search is the one of Wing and Gong with the improvements of Lowe and of Horn and Kroening: every key is judged
//! alone (linearizability is local), and what was tried before, as the set of operations already ordered and the value
//! they lead to, is not tried again. [`search`] says what else keeps it short. It needs nothing but the standard library,
//! so the simulator and the tests with real processes use the same.
//!
//! **Not here.** Reads that are allowed to be stale; the order in which one client's requests were sent (a client that
//! waits for each answer has it in the times).

pub mod history;
mod search;
mod shorten;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

pub use history::{Action, Answer, End, Key, Operation, Value};
pub use shorten::shorten;

/// Steps after which a search is given up, unless the caller knows better: some seconds and some hundred megabytes.
pub const STEPS_MAX: u64 = 500_000;

/// What became of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains the whole history.
    Linearizable,
    /// There is none.
    Violation(Violation),
    /// Neither was shown within the given steps.
    Unknown {
        /// The key whose history was too hard.
        key: Key,
    },
}

/// How far the best order came that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key whose history has no order.
    pub key: Key,
    /// Answered operations that the longest order found explains.
    pub explained: usize,
    /// What the key holds after them.
    pub value: Option<Value>,
    /// The answered operations one of which had to come next; none can.
    pub stuck: Vec<Operation>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, explained, value, stuck } = self;
        write!(f, "key {key}: no order explains more than {explained} answered operations; ")?;
        match value {
            Some(value) => write!(f, "after them the key holds {value}")?,
            None => f.write_str("after them the key is absent")?,
        }
        f.write_str(", and none of these can come next:")?;
        stuck.iter().try_for_each(|operation| write!(f, " [{operation}]"))
    }
}

/// Judges a history. `steps` bounds the search of each key; [`STEPS_MAX`] suits most.
///
/// Operations may stand in any order. A read without an answer is ignored, as it neither changes nor shows anything. An
/// answer that the action cannot have (a read that is told `true`) is never explained, and neither is one that came
/// before its question.
#[must_use]
pub fn check(history: &[Operation], steps: u64) -> Verdict {
    let keys: BTreeSet<Key> = history.iter().map(|operation| operation.key).collect();
    let mut verdict = Verdict::Linearizable;
    for key in keys {
        let of_key: Vec<&Operation> = history.iter().filter(|operation| operation.key == key).collect();
        match search::search(key, &of_key, steps) {
            Verdict::Linearizable => {}
            // A violation of another key says more than a search that was given up.
            unknown @ Verdict::Unknown { .. } => verdict = unknown,
            violation @ Verdict::Violation(_) => return violation,
        }
    }
    verdict
}

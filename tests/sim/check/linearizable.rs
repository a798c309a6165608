//! C1: what clients saw of the registers, writes and reads together, is linearizable.
//!
//! The history is recorded during the run and judged at its end by [`crate::linearizable`].

use std::collections::BTreeMap;

use raft::Time;

use crate::linearizable::{self, Action, Answer, End, Key, Operation, Value, check, shorten};

/// Steps of the search for each key; histories of a run need some hundreds.
const STEPS: u64 = 20_000;

/// Everything that clients did with the registers.
#[derive(Debug, Default)]
pub struct Linearizable {
    history: Vec<Operation>,
    by_value: BTreeMap<Value, usize>,
}

impl Linearizable {
    /// A client asks a server to write. Nothing is known of the outcome until it is told.
    pub fn writes(&mut self, node: usize, value: Value, key: Key, action: Action, now: Time) {
        self.by_value.insert(value, self.history.len());
        self.push(node, key, action, now, End::Unknown);
    }

    /// The client that wrote this value is told that certainly nothing happened.
    pub fn refused(&mut self, value: Value) {
        self.ends(value, End::Refused);
    }

    /// The client that wrote this value has its answer.
    pub fn answered(&mut self, value: Value, answer: Answer, now: Time) {
        self.ends(value, End::Answered(now.as_nanos(), answer));
    }

    /// A client has read.
    pub fn read(&mut self, node: usize, key: Key, began: Time, found: Option<Value>, now: Time) {
        self.push(node, key, Action::Get, began, End::Answered(now.as_nanos(), Answer::Found(found)));
    }

    /// The history as it was recorded.
    #[must_use]
    pub fn history(&self) -> &[Operation] {
        &self.history
    }

    /// Judges the whole history. False if the search had to be given up.
    ///
    /// # Errors
    /// It is not linearizable; the sentence holds a shortened history.
    pub fn judged(&self) -> Result<bool, String> {
        match check(&self.history, STEPS) {
            linearizable::Verdict::Linearizable => Ok(true),
            linearizable::Verdict::Unknown { .. } => Ok(false),
            linearizable::Verdict::Violation(violation) => Err(self.told(&violation)),
        }
    }

    fn told(&self, violation: &linearizable::Violation) -> String {
        let short = shorten(&self.history, STEPS);
        let shown: Vec<String> = short.iter().map(|operation| format!("\n  {operation}")).collect();
        format!("{violation}; the shortened history:{}", shown.concat())
    }

    fn push(&mut self, node: usize, key: Key, action: Action, began: Time, end: End) {
        // Clients are anonymous; what helps a reader is the server that was asked.
        let client = u32::try_from(node).unwrap_or(u32::MAX);
        self.history.push(Operation { client, key, action, invoked: began.as_nanos(), end });
    }

    fn ends(&mut self, value: Value, end: End) {
        if let Some(at) = self.by_value.get(&value) {
            self.history[*at].end = end;
        }
    }
}

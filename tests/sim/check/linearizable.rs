//! C1: what clients saw of the registers, writes and reads together, is linearizable.
//!
//! The history is recorded during the run and judged at its end by [`crate::linearizable`]. A snapshot from outside cuts it:
//! what was answered out of the state before and what was answered out of the state after are judged each for itself, the
//! second beginning with what was restored. That nothing of the first began after the cut is judged as `reads` and `commit`.

use std::collections::BTreeMap;

use raft::{EntryId, Time};

use crate::linearizable::{self, Action, Answer, End, Key, Operation, Value, check, shorten};
use crate::machine::Machine;
use crate::register::Registers;

/// Steps of the search for each key; histories of a run need some hundreds.
const STEPS: u64 = 20_000;

/// Everything that clients did with the registers.
#[derive(Debug, Default)]
pub struct Linearizable {
    /// Each operation with the snapshot from outside on whose state it worked.
    history: Vec<(EntryId, Operation)>,
    by_value: BTreeMap<Value, usize>,
    /// What the registers hold when a history begins.
    restored: BTreeMap<EntryId, Vec<Operation>>,
}

impl Linearizable {
    /// A snapshot from outside that holds these registers may become the state of the cluster.
    pub fn restores(&mut self, restored: EntryId, registers: &Registers) {
        let done = End::Answered(1, Answer::Done);
        let put =
            |(key, value)| Operation { client: 0, key, action: Action::Put(value), invoked: 0, end: done };
        self.restored.insert(restored, registers.iter().map(put).collect());
    }

    /// A client asks a server to write. Nothing is known of the outcome until it is told.
    pub fn writes(&mut self, node: usize, value: Value, key: Key, action: Action, now: Time) {
        self.by_value.insert(value, self.history.len());
        self.push(EntryId::default(), node, key, action, now, End::Unknown);
    }

    /// What the client wrote is in a log that began with this snapshot from outside.
    pub fn logged(&mut self, value: Value, restored: EntryId) {
        if let Some(at) = self.by_value.get(&value) {
            self.history[*at].0 = restored;
        }
    }

    /// The client that wrote this value is told that certainly nothing happened.
    pub fn refused(&mut self, value: Value) {
        self.ends(value, End::Refused);
    }

    /// The client that wrote this value has its answer.
    pub fn answered(&mut self, value: Value, answer: Answer, now: Time) {
        self.ends(value, End::Answered(now.as_nanos(), answer));
    }

    /// A client has read a register of a machine.
    pub fn read(&mut self, node: usize, key: Key, began: Time, machine: &Machine, now: Time) {
        let found = Answer::Found(machine.registers.get(key));
        self.push(machine.restored, node, key, Action::Get, began, End::Answered(now.as_nanos(), found));
    }

    /// Judges the whole history, part by part. False if the search had to be given up.
    ///
    /// # Errors
    /// It is not linearizable; the sentence holds a shortened history.
    pub fn judged(&self) -> Result<bool, String> {
        let mut parts: BTreeMap<EntryId, Vec<Operation>> = BTreeMap::new();
        for (restored, operation) in &self.history {
            let begins = || self.restored.get(restored).cloned().unwrap_or_default();
            parts.entry(*restored).or_insert_with(begins).push(operation.clone());
        }
        let mut searched = true;
        for part in parts.into_values() {
            match check(&part, STEPS) {
                linearizable::Verdict::Linearizable => {}
                linearizable::Verdict::Unknown { .. } => searched = false,
                linearizable::Verdict::Violation(violation) => return Err(told(&part, &violation)),
            }
        }
        Ok(searched)
    }

    fn push(&mut self, restored: EntryId, node: usize, key: Key, action: Action, began: Time, end: End) {
        // Clients are anonymous; what helps a reader is the server that was asked.
        let client = u32::try_from(node).unwrap_or(u32::MAX);
        let operation = Operation { client, key, action, invoked: began.as_nanos(), end };
        self.history.push((restored, operation));
    }

    fn ends(&mut self, value: Value, end: End) {
        if let Some(at) = self.by_value.get(&value) {
            self.history[*at].1.end = end;
        }
    }
}

fn told(part: &[Operation], violation: &linearizable::Violation) -> String {
    let short = shorten(part, STEPS);
    let shown: Vec<String> = short.iter().map(|operation| format!("\n  {operation}")).collect();
    format!("{violation}; the shortened history:{}", shown.concat())
}

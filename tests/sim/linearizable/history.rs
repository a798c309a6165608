//! What clients did, as they saw it.

use std::fmt;

/// Names a register.
pub type Key = u32;

/// What is written. Checks are sharpest when every write of a history has a value of its own.
pub type Value = u64;

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Write.
    Put(Value),
    /// Read.
    Get,
    /// Write if the key holds this; `None` for an absent key.
    CompareAndSet(Option<Value>, Value),
    /// Make the key absent.
    Delete,
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The write or deletion happened.
    Done,
    /// What the read found.
    Found(Option<Value>),
    /// Whether the condition held, and so the write happened.
    Held(bool),
}

/// How an operation ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an answer at this time.
    Answered(u64, Answer),
    /// With an error that promises that nothing was and nothing will be changed.
    Refused,
    /// Not, or with an error that promises nothing: it may take effect at any later time, once, or never.
    Unknown,
}

/// One operation of one client. Times are of one clock that never goes back, in any unit; what ends at the very time at
/// which another begins counts as concurrent with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Whose. Only shown.
    pub client: u32,
    /// On which key.
    pub key: Key,
    /// What was asked for.
    pub action: Action,
    /// When it was sent.
    pub invoked: u64,
    /// How it ended.
    pub end: End,
}

impl Operation {
    /// When its client had the answer; `None` without one.
    #[must_use]
    pub const fn answered(&self) -> Option<u64> {
        match self.end {
            End::Answered(at, _) => Some(at),
            End::Refused | End::Unknown => None,
        }
    }

    /// Whether it certainly changed nothing: reads, conditions that did not hold, and what was refused.
    #[must_use]
    pub const fn changes_nothing(&self) -> bool {
        matches!(self.action, Action::Get)
            || matches!(self.end, End::Refused | End::Answered(_, Answer::Held(false)))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, key, invoked, .. } = self;
        write!(f, "{invoked}..")?;
        if let Some(at) = self.answered() {
            write!(f, "{at}")?;
        }
        write!(f, " client {client} key {key} ")?;
        match self.action {
            Action::Put(value) => write!(f, "put {value}")?,
            Action::Get => write!(f, "get")?,
            Action::CompareAndSet(expected, value) => write!(f, "cas {} to {value}", Shown(expected))?,
            Action::Delete => write!(f, "delete")?,
        }
        match self.end {
            End::Answered(_, Answer::Done) => f.write_str(": done"),
            End::Answered(_, Answer::Found(value)) => write!(f, ": {}", Shown(value)),
            End::Answered(_, Answer::Held(held)) => write!(f, ": {held}"),
            End::Refused => f.write_str(": refused"),
            End::Unknown => f.write_str(": unknown"),
        }
    }
}

struct Shown(Option<Value>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value}"),
            None => f.write_str("absent"),
        }
    }
}

/// What a key holds after an action.
#[must_use]
pub fn after(action: Action, held: Option<Value>) -> Option<Value> {
    match action {
        Action::Put(value) => Some(value),
        Action::Get => held,
        Action::CompareAndSet(expected, value) => {
            if held == expected {
                Some(value)
            } else {
                held
            }
        }
        Action::Delete => None,
    }
}

/// Whether an action on a key that holds this is answered so.
#[must_use]
pub fn explains(action: Action, held: Option<Value>, answer: Answer) -> bool {
    match (action, answer) {
        (Action::Put(_) | Action::Delete, Answer::Done) => true,
        (Action::Get, Answer::Found(found)) => found == held,
        (Action::CompareAndSet(expected, _), Answer::Held(said)) => said == (held == expected),
        (_, Answer::Done | Answer::Found(_) | Answer::Held(_)) => false,
    }
}

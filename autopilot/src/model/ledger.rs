//! What a leader knows, in the form in which it is handed to the next one.

use std::time::Duration;

use raft_types::{LogIndex, ServerId, Term};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Hand, InputsHash, Memory};

/// The health history, the limits used up, the tombstones and the orders of a leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    pub(crate) format: u32,
    pub(crate) term: Term,
    pub(crate) configuration_index: LogIndex,
    pub(crate) voters: Vec<ServerId>,
    pub(crate) memory: Memory,
    pub(crate) hand: Hand,
    pub(crate) check: InputsHash,
}

/// A ledger is refused: the leader starts without history, and nothing else was changed. A retry fails again.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerError {
    /// It is written in another form.
    #[error("the ledger has format {found}, this is {}", Ledger::FORMAT)]
    Format {
        /// Its form.
        found: u32,
    },
    /// It is not what was written, or no leader can have written it.
    #[error("the ledger is corrupt: {what}")]
    Corrupt {
        /// What is wrong.
        what: &'static str,
    },
    /// It is about another cluster: too few of its voters are members here.
    #[error("the ledger is about another cluster: {members} of its {voters} voters are members here")]
    Foreign {
        /// How many of its voters are members here.
        members: usize,
        /// How many voters it knows.
        voters: usize,
    },
    /// It was not made by an earlier leader of this cluster.
    #[error("the ledger was made in term {made}, this is term {current}")]
    NotEarlier {
        /// When it was made.
        made: Term,
        /// The present term.
        current: Term,
    },
    /// It knows a later configuration than the one in force, so it belongs to another history.
    #[error(
        "the ledger was made for the configuration at index {made}, the one in force stands at {current}"
    )]
    Ahead {
        /// Where its configuration stands.
        made: LogIndex,
        /// Where the one in force stands.
        current: LogIndex,
    },
    /// Too much time has passed since it was made.
    #[error("the ledger is {} old, {} is the limit", humantime::format_duration(*.age), humantime::format_duration(Ledger::AGE_MAX))]
    TooOld {
        /// How old it is, as the application says.
        age: Duration,
    },
}

impl LedgerError {
    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Format { .. } => "format",
            Self::Corrupt { .. } => "corrupt",
            Self::Foreign { .. } => "foreign",
            Self::NotEarlier { .. } => "not-earlier",
            Self::Ahead { .. } => "ahead",
            Self::TooOld { .. } => "too-old",
        }
    }
}

impl Ledger {
    /// The form of this version.
    pub const FORMAT: u32 = 1;
    /// The oldest ledger that is taken over: within this time a server can hardly have failed and come back unseen
    /// more than once.
    pub const AGE_MAX: Duration = Duration::from_secs(60);
    /// The most servers that a ledger holds.
    pub const SERVERS_MAX: usize = 65_536;
}

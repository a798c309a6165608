//! What is remembered about a server that was removed.

use raft_types::{LogIndex, ServerId, Term, Time};
use serde::{Deserialize, Serialize};

use super::{Actor, Reason};

/// That a server was removed, so that it can be told and does not come back by accident.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tombstone {
    /// Who was removed.
    pub id: ServerId,
    /// In which of its lives, if the application counts them.
    #[serde(default)]
    pub incarnation: Option<u64>,
    /// Who removed it.
    pub by: Actor,
    /// Why.
    pub why: Reason,
    /// When.
    pub at: Time,
    /// In which Raft term.
    pub term: Term,
    /// Where the configuration without it stands in the log.
    #[serde(default)]
    pub index: Option<LogIndex>,
}

impl Tombstone {
    /// Whether a server with this id that comes by itself is the one that was removed, and not a later life of it. One
    /// whose life cannot be told is taken for the one that was removed.
    #[must_use]
    pub fn holds(&self, incarnation: Option<u64>) -> bool {
        match (self.incarnation, incarnation) {
            (Some(removed), Some(now)) => now <= removed,
            (None, _) | (_, None) => true,
        }
    }
}

//! The cluster and the engine, as the engine tells of them.

use std::collections::{BTreeMap, BTreeSet};

use raft_types::{Configuration, EntryId, LogIndex, ServerId, Term};
use serde::{Deserialize, Serialize};

use super::ServerStats;

/// What an engine can do. The default is everything but changing several members at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Capabilities {
    /// Members without a vote.
    pub nonvoters: bool,
    /// Taking a vote while the member stays.
    pub demotion: bool,
    /// Handing leadership to a chosen voter.
    pub transfer: bool,
    /// Checking a change against the configuration it was decided on.
    pub compare_and_set: bool,
    /// Changing several members in one step, after which either all or none are changed.
    #[serde(default)]
    pub atomic: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { nonvoters: true, demotion: true, transfer: true, compare_and_set: true, atomic: false }
    }
}

/// A cluster as one server sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterView {
    /// The server that looks.
    pub id: ServerId,
    /// The current term.
    pub term: Term,
    /// Who leads, as far as the server knows.
    pub leader: Option<ServerId>,
    /// Whether the server itself leads.
    pub is_leader: bool,
    /// Whether the leader has committed an entry of its own term, before which it may not change members.
    pub ready: bool,
    /// The configuration in force.
    pub configuration: Configuration,
    /// Where it stands in the log: the stamp for compare and set.
    pub configuration_index: LogIndex,
    /// Whether it is committed. While it is not, no other change can be made.
    pub configuration_committed: bool,
    /// The last entry of the server's own log.
    pub last: EntryId,
    /// What is measured about members. A leader that has no entry for itself is taken to be up to date.
    pub stats: BTreeMap<ServerId, ServerStats>,
    /// To whom a snapshot is on its way, so that no progress in the log is to be expected.
    #[serde(default)]
    pub installing: BTreeSet<ServerId>,
}

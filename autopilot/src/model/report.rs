//! What happened: answers to requests, and the events of a timeline.

use std::fmt;

use raft_types::{LogIndex, ServerId, Term, Time};
use serde::{Deserialize, Serialize};

use super::{DeadClass, Reason, Step};

/// What a removal of dead servers did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneReport {
    /// Who was removed, in order.
    pub removed: Vec<RemovedServer>,
    /// Which dead or doubtful members stay, and why.
    pub kept: Vec<KeptServer>,
}

/// A dead server that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedServer {
    /// Who.
    pub id: ServerId,
    /// What kind of dead it was.
    pub class: DeadClass,
    /// Where the configuration without it stands in the log.
    pub index: LogIndex,
}

/// A dead server that was not removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptServer {
    /// Who.
    pub id: ServerId,
    /// Why not.
    pub reason: Reason,
}

/// What came of performing a proposal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyReport {
    /// The steps that were performed, in order.
    pub performed: Vec<AppliedStep>,
    /// How many steps of the proposal are left, because they have to wait or the cluster has changed.
    pub left: usize,
    /// Why it ended before the last step that was due, if it did.
    pub stopped: Option<Reason>,
}

/// One step that was performed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedStep {
    /// What was done.
    pub step: Step,
    /// Where the resulting configuration stands in the log; `None` when leadership moved.
    pub index: Option<LogIndex>,
}

/// What adding a server did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AddServerOutcome {
    /// It was a member at this address already.
    Unchanged,
    /// It is a new member without a vote.
    Added {
        /// Where the configuration with it stands in the log.
        index: LogIndex,
        /// Members that had the same address under another id and were removed for it.
        removed: Vec<ServerId>,
    },
    /// It was a member elsewhere; its address was changed and its suffrage was kept.
    AddressChanged {
        /// Where the configuration with the new address stands in the log.
        index: LogIndex,
        /// Members that had the same address under another id and were removed for it.
        removed: Vec<ServerId>,
    },
}

/// Something that happened, for a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Time,
    /// In which Raft term.
    pub term: Term,
    /// What.
    pub what: EventKind,
    /// About whom.
    pub server: ServerId,
    /// Why.
    pub reason: Reason,
    /// Where the resulting configuration stands in the log, if there is one.
    pub index: Option<LogIndex>,
}

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EventKind {
    /// A server became a member, or its address changed.
    Added,
    /// A server got its vote.
    Promoted,
    /// A server lost its vote.
    Demoted,
    /// A server was removed.
    Removed,
    /// Leadership was handed over.
    Transferred,
    /// A step was refused; said once, and again when the reason changes.
    Refused,
    /// A step was tried and failed; it may have happened nonetheless when the reason says so.
    Failed,
    /// A server became healthy.
    BecameHealthy,
    /// A server became unhealthy.
    BecameUnhealthy,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Added => "added",
            Self::Promoted => "promoted",
            Self::Demoted => "demoted",
            Self::Removed => "removed",
            Self::Transferred => "transferred",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::BecameHealthy => "became-healthy",
            Self::BecameUnhealthy => "became-unhealthy",
        })
    }
}

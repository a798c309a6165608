//! What happened: answers to requests, and the events of a timeline.

use std::fmt;

use raft_types::{LogIndex, ServerId, Term, Time};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{Actor, DeadClass, Reason, Step};

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

/// Something that happened, for a timeline. Those that [`Event::is_change`] calls changes make up the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number in this run, from 1, without gaps.
    pub sequence: u64,
    /// When.
    pub at: Time,
    /// In which Raft term.
    pub term: Term,
    /// Who did it, or noticed it.
    pub actor: Actor,
    /// What.
    pub what: EventKind,
    /// About whom; the leader where it is about the whole cluster.
    pub server: ServerId,
    /// Why.
    pub reason: Reason,
    /// The configuration that it was decided on, if it was a change of members or of leadership.
    #[serde(default)]
    pub decided_on: Option<LogIndex>,
    /// Where the resulting configuration stands in the log, if there is one.
    pub index: Option<LogIndex>,
    /// The hash of what it was decided on, if a round decided it: it finds the record among `Autopilot::records`.
    #[serde(default)]
    pub inputs: Option<InputsHash>,
}

impl Event {
    /// Whether something was changed, tried, or ordered, and not only noticed.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        !matches!(
            self.what,
            EventKind::Refused | EventKind::Suspended | EventKind::BecameHealthy | EventKind::BecameUnhealthy
        )
    }
}

/// A hash of everything that a round looked at: the same inputs, the same hash. It tells records apart and is not made
/// against forgery.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InputsHash(pub u64);

impl fmt::Display for InputsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for InputsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for InputsHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InputsHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(D::Error::custom)
    }
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
    /// A server got the vote of another.
    Swapped,
    /// A server was ordered to get neither vote nor leadership.
    Cordoned,
    /// That order was lifted.
    Uncordoned,
    /// A server was ordered to give its vote and leadership away.
    Draining,
    /// A drained server has neither any more.
    DrainDone,
    /// That order was lifted.
    Undrained,
    /// Autopilot was paused.
    Paused,
    /// It goes on, because somebody said so or the time has run out.
    Resumed,
    /// A maintenance window was set.
    Scheduled,
    /// A maintenance window was taken back.
    Unscheduled,
    /// A server was told that it may stop.
    Released,
    /// A server that had been removed was let in again.
    Readmitted,
    /// Nothing is taken away for a moment, because what the leader sees cannot be trusted.
    Suspended,
    /// The history of an earlier leader was taken over.
    LedgerTaken,
    /// The history of an earlier leader was refused.
    LedgerRefused,
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
            Self::Swapped => "swapped",
            Self::Cordoned => "cordoned",
            Self::Uncordoned => "uncordoned",
            Self::Draining => "draining",
            Self::DrainDone => "drain-done",
            Self::Undrained => "undrained",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Scheduled => "scheduled",
            Self::Unscheduled => "unscheduled",
            Self::Released => "released",
            Self::Readmitted => "readmitted",
            Self::Suspended => "suspended",
            Self::LedgerTaken => "ledger-taken",
            Self::LedgerRefused => "ledger-refused",
            Self::BecameHealthy => "became-healthy",
            Self::BecameUnhealthy => "became-unhealthy",
        })
    }
}

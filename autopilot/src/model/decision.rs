//! What a round decided.

use std::fmt;

use raft_types::{
    Configuration, ConfigurationChange, ConfigurationError, LogIndex, ServerAddress, ServerId, Suffrage,
    Term, Time,
};
use serde::{Deserialize, Serialize};

use super::Reason;

/// What should happen next: at most one step, and a decision about everything that was considered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// When it was made.
    pub at: Time,
    /// The Raft term it is valid in.
    pub term: Term,
    /// The stamp of the configuration it was decided on; the step is refused on any other.
    pub configuration_index: LogIndex,
    /// The step, if one is due and safe.
    pub step: Option<PlannedStep>,
    /// What was considered, in the order of the rules.
    pub decisions: Vec<Decision>,
}

/// A step and why it is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// What to do.
    pub step: Step,
    /// Why.
    pub reason: Reason,
}

/// One change: of one server, or of two at once where the engine can.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Step {
    /// Give a member its vote.
    Promote {
        /// Who.
        id: ServerId,
        /// Where it is, as the configuration has it.
        address: ServerAddress,
    },
    /// Take a member's vote.
    Demote {
        /// Who.
        id: ServerId,
    },
    /// Take a dead member out.
    Remove {
        /// Who.
        id: ServerId,
        /// What kind of dead.
        class: DeadClass,
    },
    /// Give one member's vote to another, in one step.
    Swap {
        /// Who gets it.
        id: ServerId,
        /// Where that one is, as the configuration has it.
        address: ServerAddress,
        /// Who loses it.
        out: ServerId,
        /// What kind of dead that one is, and then it is taken out; otherwise it stays as a member without a vote.
        class: Option<DeadClass>,
    },
    /// Hand leadership over.
    Transfer {
        /// To whom.
        id: ServerId,
    },
}

impl Step {
    /// The server that it is about; the one that gets the vote if two are.
    #[must_use]
    pub const fn id(&self) -> &ServerId {
        match self {
            Self::Promote { id, .. }
            | Self::Demote { id }
            | Self::Remove { id, .. }
            | Self::Swap { id, .. }
            | Self::Transfer { id } => id,
        }
    }

    /// Who loses a vote or the membership by it.
    #[must_use]
    pub const fn loser(&self) -> Option<&ServerId> {
        match self {
            Self::Demote { id } | Self::Remove { id, .. } => Some(id),
            Self::Swap { out, .. } => Some(out),
            Self::Promote { .. } | Self::Transfer { .. } => None,
        }
    }

    /// The changes of members that it makes, all at once; none when leadership moves.
    #[must_use]
    pub fn changes(&self) -> Vec<ConfigurationChange> {
        let promote = |id: &ServerId, address: &ServerAddress| ConfigurationChange::AddVoter {
            id: id.clone(),
            address: address.clone(),
        };
        let demote = |id: &ServerId| ConfigurationChange::DemoteVoter { id: id.clone() };
        match self {
            Self::Promote { id, address } => vec![promote(id, address)],
            Self::Demote { id } => vec![demote(id)],
            Self::Remove { id, .. } => vec![ConfigurationChange::RemoveServer { id: id.clone() }],
            Self::Swap { id, address, out, class: None } => vec![promote(id, address), demote(out)],
            Self::Swap { id, address, out, class: Some(_) } => {
                vec![promote(id, address), ConfigurationChange::RemoveServer { id: out.clone() }]
            }
            Self::Transfer { .. } => Vec::new(),
        }
    }

    /// The configuration after it, when it is done; the same one when leadership moves.
    ///
    /// # Errors
    /// When the changes do not fit the configuration.
    pub fn apply(&self, before: &Configuration) -> Result<Configuration, ConfigurationError> {
        let after = before.apply_all(&self.changes())?;
        Ok(after.settled())
    }

    /// What kind of step it is.
    #[must_use]
    pub const fn action(&self) -> Action {
        match self {
            Self::Promote { .. } => Action::Promote,
            Self::Demote { .. } => Action::Demote,
            Self::Remove { .. } => Action::Remove,
            Self::Swap { .. } => Action::Swap,
            Self::Transfer { .. } => Action::Transfer,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promote { id, address } => write!(f, "promote server {id} at {address}"),
            Self::Demote { id } => write!(f, "demote server {id}"),
            Self::Remove { id, class } => write!(f, "remove {class} {id}"),
            Self::Swap { id, out, class: None, .. } => {
                write!(f, "give the vote of server {out} to server {id}")
            }
            Self::Swap { id, out, class: Some(class), .. } => {
                write!(f, "replace {class} {out} with server {id}")
            }
            Self::Transfer { id } => write!(f, "hand leadership to server {id}"),
        }
    }
}

/// A kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Give a vote.
    Promote,
    /// Take a vote.
    Demote,
    /// Take out of the configuration.
    Remove,
    /// Give one member's vote to another.
    Swap,
    /// Hand leadership over.
    Transfer,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Promote => "promote",
            Self::Demote => "demote",
            Self::Remove => "remove",
            Self::Swap => "swap",
            Self::Transfer => "transfer",
        })
    }
}

/// What kind of dead a member is, in the order in which they are removed: those without a vote first, because
/// removing them cannot touch a quorum, and of those the ones that nobody misses first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadClass {
    /// Unknown to the application, without a vote.
    StaleNonvoter,
    /// Down or gone, without a vote.
    FailedNonvoter,
    /// Unknown to the application, with a vote.
    StaleVoter,
    /// Down or gone, with a vote.
    FailedVoter,
}

impl DeadClass {
    /// The class of a dead member.
    #[must_use]
    pub const fn of(known: bool, suffrage: Suffrage) -> Self {
        match (known, suffrage) {
            (false, Suffrage::Nonvoter) => Self::StaleNonvoter,
            (true, Suffrage::Nonvoter) => Self::FailedNonvoter,
            (false, Suffrage::Voter) => Self::StaleVoter,
            (true, Suffrage::Voter) => Self::FailedVoter,
        }
    }

    /// Whether such a server votes.
    #[must_use]
    pub const fn is_voter(self) -> bool {
        matches!(self, Self::StaleVoter | Self::FailedVoter)
    }

    /// Whether the application knows such a server, and therefore must be told of its removal.
    #[must_use]
    pub const fn is_failed(self) -> bool {
        matches!(self, Self::FailedNonvoter | Self::FailedVoter)
    }
}

impl fmt::Display for DeadClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::StaleNonvoter => "stale non-voter",
            Self::FailedNonvoter => "failed non-voter",
            Self::StaleVoter => "stale voter",
            Self::FailedVoter => "failed voter",
        })
    }
}

/// What was decided about one step that somebody wanted or that a rule considered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Who it is about. A promoter may name servers that do not exist.
    pub server: ServerId,
    /// What was considered.
    pub action: Action,
    /// What came of it.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {} ({}: {})",
            self.action,
            self.server,
            self.verdict,
            self.reason.code(),
            self.reason
        )
    }
}

/// What came of a considered step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is the step of this plan.
    Chosen,
    /// Nothing speaks against it, but not now.
    Deferred,
    /// It would be wrong as things stand.
    Refused,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Chosen => "chosen",
            Self::Deferred => "deferred",
            Self::Refused => "refused",
        })
    }
}

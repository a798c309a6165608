//! Why a request to a running autopilot failed.

use raft_types::{LogIndex, ServerId, Term};
use thiserror::Error;

use crate::model::{HandError, Tombstone};
use crate::ports::ClusterError;

/// Why a request was not taken up or not answered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// Autopilot does not run here, usually because this server does not lead. Nothing was changed.
    #[error("autopilot is not running on this server")]
    NotRunning,
    /// Too many requests are waiting. Nothing was changed; retry after a pause.
    #[error("too many requests are waiting")]
    Overloaded,
    /// Autopilot was stopped while the request was under way. Something may have been changed: look before a retry.
    #[error("autopilot was stopped while the request was under way")]
    Stopped,
    /// The engine failed. [`ClusterError::may_have_changed`] tells about changes.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// What an earlier leader left, orders and removals included, is not read yet. Nothing was changed; retry after a pause:
    /// it is asked for again in every round.
    #[error("what an earlier leader left is not read yet, retry later: {why}")]
    LedgerUnread {
        /// Why not.
        why: String,
    },
    /// The promoter panicked or did not answer in time. Nothing was changed; a retry is safe, and of use once it answers.
    #[error("the promoter gave no answer: {fault}")]
    Promoter {
        /// What went wrong.
        fault: String,
    },
}

/// Why a server was not added.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddServerError {
    /// The request itself failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The address belongs to other voters, and removing them would cost the quorum. Nothing was changed.
    #[error(
        "adding server {id} would first remove {would_remove} voters with the same address, {allowed} may go"
    )]
    TooManyRemovals {
        /// Who was to be added.
        id: ServerId,
        /// How many voters have its address.
        would_remove: usize,
        /// How many may go.
        allowed: usize,
    },
    /// The address belongs to the leader under another id. Nothing was changed.
    #[error("server {id} has the address of the leader {leader}")]
    AddressOfLeader {
        /// Who was to be added.
        id: ServerId,
        /// Who leads.
        leader: ServerId,
    },
    /// It was removed and comes by itself. Nothing was changed; a retry fails again until somebody adds it, or it starts
    /// again and says so by a higher incarnation.
    #[error("server {} was removed by {}: {}", .tombstone.id, .tombstone.by, .tombstone.why)]
    Removed {
        /// When, by whom and why.
        tombstone: Box<Tombstone>,
    },
    /// Servers with the same address were removed, and then the engine failed. A retry is safe.
    #[error("removed {} with the same address, then failed: {source}", list(.removed))]
    PartlyDone {
        /// Who was removed.
        removed: Vec<ServerId>,
        /// What failed.
        source: ClusterError,
    },
}

impl From<ClusterError> for AddServerError {
    fn from(error: ClusterError) -> Self {
        Self::Request(error.into())
    }
}

/// Why an order was not taken. Nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrderError {
    /// The request itself failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The order cannot be taken.
    #[error(transparent)]
    Refused(#[from] HandError),
}

/// Why a server was not removed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoveServerError {
    /// The request itself failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It is no member. Nothing was changed.
    #[error("server {id} is not in the configuration")]
    NotMember {
        /// Who was to be removed.
        id: ServerId,
    },
}

impl From<ClusterError> for RemoveServerError {
    fn from(error: ClusterError) -> Self {
        Self::Request(error.into())
    }
}

/// Why a proposal was not performed. Nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplyError {
    /// The request itself failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It was made for another configuration. Make a new one and look at it.
    #[error(
        "the proposal was made for the configuration at index {proposed}, the one in force stands at {current}"
    )]
    Stale {
        /// What it was made for.
        proposed: LogIndex,
        /// What is in force.
        current: LogIndex,
    },
    /// It was made in another term. Make a new one and look at it.
    #[error("the proposal was made in term {proposed}, this is term {current}")]
    OtherTerm {
        /// When it was made.
        proposed: Term,
        /// The term of this run.
        current: Term,
    },
}

impl From<ClusterError> for ApplyError {
    fn from(error: ClusterError) -> Self {
        Self::Request(error.into())
    }
}

/// Why the removal of dead servers could not even be judged. What was removed before the error is in the events.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PruneError {
    /// The request itself failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl From<ClusterError> for PruneError {
    fn from(error: ClusterError) -> Self {
        Self::Request(error.into())
    }
}

fn list(ids: &[ServerId]) -> String {
    ids.iter().map(ServerId::as_str).collect::<Vec<_>>().join(", ")
}

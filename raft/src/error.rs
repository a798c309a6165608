//! One error enum for each operation. Every variant says whether a retry is safe and whether anything may have changed.

use raft_types::{ConfigurationError, LogIndex, ServerId};
use thiserror::Error;

use crate::config::ConfigError;
use crate::core::Peer;
use crate::storage::StorageError;

/// Why a server did not start. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A tunable is out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data cannot be read or trusted.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state machine refused its own snapshot.
    #[error("the state machine cannot restore the snapshot: {0}")]
    Restore(#[source] std::io::Error),
}

/// Why a cluster was not bootstrapped.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BootstrapError {
    /// This server has Raft state already. Nothing was changed; a retry fails again.
    #[error("this server already has Raft state")]
    AlreadyBootstrapped,
    /// The members make no valid configuration. Nothing was changed.
    #[error(transparent)]
    Invalid(#[from] ConfigurationError),
    /// The server was shut down or its store failed; whether the configuration is durable shows at the next start.
    #[error("the server has stopped")]
    Stopped,
}

/// Why a command was not applied.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProposeError {
    /// Ask the leader. Certainly not applied.
    #[error("{}", not_leader(.leader.as_ref()))]
    NotLeader {
        /// The leader, as far as this server knows.
        leader: Option<Peer>,
    },
    /// Too much is waiting, or leadership is being handed over. Certainly not applied; retry after a pause.
    #[error("too much is waiting to be committed; retry after a pause")]
    Overloaded,
    /// The command is larger than the limit. Certainly not applied; a retry fails again.
    #[error("the command has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Leadership was lost, or the server stopped, while the command waited. It **may** be applied yet: read before trying
    /// again.
    #[error("leadership was lost while the command waited; it may be applied yet")]
    OutcomeUnknown,
    /// A snapshot from outside replaced the state while the command waited. Its effect is gone with the old state, unless
    /// the restore fails: read before trying again.
    #[error("a snapshot was restored while the command waited")]
    AbortedByRestore,
    /// The server was shut down or its store failed before it took the command. Certainly not applied.
    #[error("the server has stopped")]
    Stopped,
}

impl ProposeError {
    /// Whether the command may have been applied, or may be yet. Otherwise it certainly is not, and trying again is safe.
    #[must_use]
    pub const fn may_be_applied(&self) -> bool {
        match self {
            Self::NotLeader { .. } | Self::Overloaded | Self::TooLarge { .. } | Self::Stopped => false,
            Self::OutcomeUnknown | Self::AbortedByRestore => true,
        }
    }
}

/// Why a linearizable read cannot be served here. Nothing was changed; all may be retried.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// This server does not lead, where only a leader can answer; or it follows no leader; or leadership changed before
    /// the read was confirmed. Ask the leader, or retry.
    #[error("{}", not_leader(.leader.as_ref()))]
    NotLeader {
        /// The leader, as far as this server knows.
        leader: Option<Peer>,
    },
    /// The leader that this server follows has not shown that it answers for reads on other servers: it is another
    /// implementation, an older version, or was heard for the first time a moment ago. Ask it directly, or retry shortly.
    #[error("the leader {} at {} has not shown that it answers for reads on other servers", leader.id, leader.address)]
    NotSpoken {
        /// The leader.
        leader: Peer,
    },
    /// The leader did not confirm the read in time, or what it had committed did not get here in time, or a snapshot took the
    /// place of the state meanwhile. Retry.
    #[error("the leader did not confirm the read in time")]
    Unconfirmed,
    /// Too many reads wait. Retry after a pause.
    #[error("too many reads are waiting")]
    Overloaded,
    /// The server was shut down or its store failed.
    #[error("the server has stopped")]
    Stopped,
}

/// Why the members were not changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeError {
    /// Ask the leader. Certainly not applied.
    #[error("{}", not_leader(.leader.as_ref()))]
    NotLeader {
        /// The leader, as far as this server knows.
        leader: Option<Peer>,
    },
    /// The leader has not committed an entry of its own term yet, or is handing over. Certainly not applied; retry shortly.
    #[error("the leader is not ready to change members yet")]
    NotReady,
    /// An earlier change is not committed yet. Certainly not applied; retry later.
    #[error("the configuration change at index {index} is not committed yet")]
    ChangeInProgress {
        /// Where it stands.
        index: LogIndex,
    },
    /// The configuration in force is not the expected one. Certainly not applied; read it and decide again.
    #[error("the configuration has changed; it now stands at index {index}")]
    ConfigurationMoved {
        /// Where the one in force stands.
        index: LogIndex,
    },
    /// The change makes no valid configuration. Certainly not applied; a retry fails again.
    #[error(transparent)]
    Invalid(#[from] ConfigurationError),
    /// This member has not shown that it understands joint configurations: it is of another implementation, was never
    /// heard, or is no member yet. Certainly not applied; change one server at a time, or add it as a non-voter first.
    #[error("{server} has not shown that it understands changes of several servers at once")]
    NotSpoken {
        /// Which member.
        server: ServerId,
    },
    /// Too few of the voters that would remain have answered this leader, or too many with other data than they voted with.
    /// Certainly not applied; retry once they do.
    #[error("too few of the voters that would remain have answered")]
    VotersUnheard,
    /// This server lags too far behind, or does not answer: as a voter it would stand in the way of every commit. It was
    /// given no vote; if it was no member before, it is a non-voter now. A retry goes on from there.
    #[error("{server} does not catch up: it is {behind} entries behind")]
    NotCaughtUp {
        /// Which server.
        server: ServerId,
        /// Entries that it misses.
        behind: u64,
    },
    /// Leadership was lost, or the server stopped, while the change waited. It **may** take effect yet: read the
    /// configuration before anything else.
    #[error("leadership was lost while the change waited; it may take effect yet")]
    OutcomeUnknown,
    /// The server was shut down or its store failed before it took the change. Certainly not applied.
    #[error("the server has stopped")]
    Stopped,
}

impl ChangeError {
    /// Whether the change may have taken effect, or may do so yet. Otherwise it certainly did not, save that a server may have
    /// become a non-voter ([`ChangeError::NotCaughtUp`]).
    #[must_use]
    pub const fn may_be_applied(&self) -> bool {
        match self {
            Self::NotLeader { .. }
            | Self::NotReady
            | Self::ChangeInProgress { .. }
            | Self::ConfigurationMoved { .. }
            | Self::NotSpoken { .. }
            | Self::VotersUnheard
            | Self::NotCaughtUp { .. }
            | Self::Stopped
            | Self::Invalid(_) => false,
            Self::OutcomeUnknown => true,
        }
    }
}

/// Why leadership was not handed over.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferError {
    /// Ask the leader. Nothing was changed.
    #[error("{}", not_leader(.leader.as_ref()))]
    NotLeader {
        /// The leader, as far as this server knows.
        leader: Option<Peer>,
    },
    /// The target is unknown, does not vote, or leads already; or there is no other voter. A retry fails again.
    #[error("leadership can only go to another voter")]
    InvalidTarget,
    /// A hand-over is under way already. Retry in an election timeout.
    #[error("a leadership transfer is already in progress")]
    InProgress,
    /// A snapshot from outside is being restored into the cluster. Nothing was changed; retry later.
    #[error("a snapshot is being restored into the cluster")]
    RestoreInProgress,
    /// The target did not take over in time; this server leads on. A retry is safe. The target may still campaign.
    #[error("the target did not take over in time")]
    Failed,
    /// The server was shut down or its store failed.
    #[error("the server has stopped")]
    Stopped,
}

/// Why no snapshot was taken. The log is as before.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Nothing was applied since the last one.
    #[error("nothing new to snapshot")]
    NothingNew,
    /// The disk failed or is full. A retry is safe.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The server was shut down or its store failed.
    #[error("the server has stopped")]
    Stopped,
}

/// Why a snapshot from outside was not restored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Ask the leader. Nothing was changed.
    #[error("{}", not_leader(.leader.as_ref()))]
    NotLeader {
        /// The leader, as far as this server knows.
        leader: Option<Peer>,
    },
    /// The leader has not committed an entry of its own term yet, or is handing over, or restores another snapshot. Nothing
    /// was changed; retry later.
    #[error("the leader is not ready to restore a snapshot")]
    NotReady,
    /// A change of members is not committed yet. Nothing was changed; retry later.
    #[error("the configuration change at index {index} is not committed yet")]
    ChangeInProgress {
        /// Where it stands.
        index: LogIndex,
    },
    /// The index that the snapshot claims leaves no room for more. Nothing was changed; a retry fails again.
    #[error("no log can go on after the index that the snapshot claims")]
    Invalid,
    /// The state could not be read. Nothing was changed.
    #[error("the state cannot be read: {0}")]
    State(#[source] std::io::Error),
    /// The state is longer or shorter than announced. Nothing was changed.
    #[error("the state has not the announced size: {read} bytes came, {expected} were announced")]
    WrongSize {
        /// What was announced, in bytes.
        expected: u64,
        /// What came, in bytes; reading ended beyond what was announced.
        read: u64,
    },
    /// The state could not be written. Nothing was changed; a retry is safe.
    #[error("the state cannot be written: {0}")]
    Write(#[source] std::io::Error),
    /// The disk failed or is full. Nothing was changed; a retry is safe.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Leadership was lost, or the server stopped, before a quorum had the snapshot. It **may** be the state of the
    /// cluster yet: read before trying again.
    #[error("leadership was lost during the restore; it may take effect yet")]
    OutcomeUnknown,
    /// The server was shut down or its store failed before it began. Nothing was changed.
    #[error("the server has stopped")]
    Stopped,
}

/// Why tunables were not changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReloadError {
    /// A tunable is out of bounds. Nothing was changed; a retry fails again.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server was shut down. Nothing was changed that lasts.
    #[error("the server has stopped")]
    Stopped,
}

fn not_leader(leader: Option<&Peer>) -> String {
    leader.map_or_else(
        || "not the leader, and no leader is known".to_owned(),
        |peer| format!("not the leader; the leader is {} at {}", peer.id, peer.address),
    )
}

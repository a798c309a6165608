//! What reaches the actor: what clients ask, and what disk and state machine report.

use bytes::Bytes;
use raft_types::{Configuration, ConfigurationChange, EntryId, LogIndex, ServerAddress, ServerId};
use tokio::sync::{mpsc, oneshot};

use super::LeaseRead;
use super::apply::ApplyReply;
use super::restores::{Outside, Stored};
use super::waiters::Client;
use crate::config::{ConfigError, ReloadableConfig};
use crate::core::{Peer, Regard, Request, RequestId, Sequence, SnapshotMeta, WriteId};
use crate::error::{
    BootstrapError, ChangeError, ProposeError, ReadError, RestoreError, SnapshotError, TransferError,
};
use crate::storage::StorageError;
use crate::transport::Responder;

/// What clients ask.
pub(super) enum Command {
    Propose {
        data: Bytes,
        extensions: Bytes,
        client: Client,
    },
    Barrier {
        reply: ApplyReply,
    },
    Read {
        reply: oneshot::Sender<Result<LogIndex, ReadError>>,
    },
    Verify {
        reply: oneshot::Sender<Result<(), ReadError>>,
    },
    Reload {
        config: ReloadableConfig,
        reply: oneshot::Sender<Result<(), ConfigError>>,
    },
    LeaseRead {
        reply: oneshot::Sender<Result<LeaseRead, ReadError>>,
    },
    Bootstrap {
        configuration: Configuration,
        reply: oneshot::Sender<Result<(), BootstrapError>>,
    },
    AddVoter {
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
        reply: oneshot::Sender<Result<LogIndex, ChangeError>>,
    },
    Change {
        change: ConfigurationChange,
        expected: Option<LogIndex>,
        reply: oneshot::Sender<Result<LogIndex, ChangeError>>,
    },
    Transfer {
        to: Option<ServerId>,
        reply: oneshot::Sender<Result<(), TransferError>>,
    },
    ChangeMembership {
        changes: Vec<ConfigurationChange>,
        expected: Option<LogIndex>,
        /// Also with voters that lag.
        unchecked: bool,
        reply: oneshot::Sender<Result<LogIndex, ChangeError>>,
    },
    Snapshot {
        reply: oneshot::Sender<Result<SnapshotMeta, SnapshotError>>,
    },
    Restore(Box<Outside>),
}

impl Command {
    /// Tells a client that the server has stopped and never took the command, where that makes a difference.
    pub(super) fn turn_away(self) {
        match self {
            Self::Propose { client, .. } => client.refuse(ProposeError::Stopped),
            Self::Barrier { reply } => drop(reply.send(Err(ProposeError::Stopped))),
            Self::AddVoter { reply, .. }
            | Self::Change { reply, .. }
            | Self::ChangeMembership { reply, .. } => {
                let _ = reply.send(Err(ChangeError::Stopped));
            }
            Self::Restore(outside) => drop(outside.reply.send(Err(RestoreError::Stopped))),
            Self::Read { .. }
            | Self::Verify { .. }
            | Self::Reload { .. }
            | Self::LeaseRead { .. }
            | Self::Bootstrap { .. }
            | Self::Transfer { .. }
            | Self::Snapshot { .. } => {}
        }
    }
}

/// Why a request has no answer.
pub(super) enum Gone {
    /// The server never got it.
    Unsent,
    /// The server stopped while it had it.
    Unanswered,
}

impl Gone {
    pub(super) fn either<E>(self, unsent: E, unanswered: E) -> E {
        match self {
            Self::Unsent => unsent,
            Self::Unanswered => unanswered,
        }
    }
}

/// What the threads report.
pub(super) enum Report {
    Persisted {
        through: WriteId,
    },
    StorageFailed {
        error: StorageError,
    },
    Applied {
        index: LogIndex,
    },
    Restored {
        last: EntryId,
    },
    SnapshotStarted,
    SnapshotTaken {
        result: Result<SnapshotMeta, StorageError>,
    },
    SnapshotReceived {
        from: Peer,
        request: Request,
        regard: Option<Regard>,
        responder: Responder,
        result: Result<(), StorageError>,
    },
    RestoreStored {
        request: RequestId,
        last: EntryId,
        stored: Stored,
    },
    /// A snapshot from outside that was not restored is gone from the disk.
    RestoreRemoved {
        request: RequestId,
        last: EntryId,
        removed: Result<(), StorageError>,
    },
    SnapshotUnsendable {
        to: ServerId,
        sequence: Sequence,
        error: StorageError,
    },
}

/// Takes what waits in a queue, up to `most` in all.
pub(super) fn take_waiting<T>(queue: &mut mpsc::Receiver<T>, into: &mut Vec<T>, most: usize) {
    while into.len() < most
        && let Ok(item) = queue.try_recv()
    {
        into.push(item);
    }
}

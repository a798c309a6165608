//! What reaches the actor: what clients ask, and what disk and state machine report.

use bytes::Bytes;
use raft_types::{Configuration, ConfigurationChange, EntryId, LogIndex, ServerId};
use tokio::sync::{mpsc, oneshot};

use super::LeaseRead;
use super::apply::ApplyReply;
use crate::config::{ConfigError, ReloadableConfig};
use crate::core::{Peer, Regard, Request, Sequence, SnapshotMeta, WriteId};
use crate::error::{BootstrapError, ChangeError, ReadError, SnapshotError, TransferError};
use crate::storage::StorageError;
use crate::transport::Responder;

/// What clients ask.
pub(super) enum Command {
    Propose {
        data: Bytes,
        extensions: Bytes,
        reply: ApplyReply,
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
        reply: oneshot::Sender<Result<LogIndex, ChangeError>>,
    },
    Snapshot {
        reply: oneshot::Sender<Result<SnapshotMeta, SnapshotError>>,
    },
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

//! The handle's calls that put something into the log.

use bytes::Bytes;
use raft_types::EntryId;
use tokio::sync::{mpsc, oneshot};

use super::Raft;
use super::queues::Command;
use super::waiters::Client;
use crate::error::ProposeError;

/// A command that was committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its entry.
    pub id: EntryId,
    /// What the state machine answered.
    pub response: Bytes,
}

/// A command that is in the leader's log, see [`Raft::submit`]. Dropping it changes nothing.
#[derive(Debug)]
pub struct Proposed {
    /// Its entry, should it be committed.
    pub id: EntryId,
    done: oneshot::Receiver<Result<Applied, ProposeError>>,
}

impl Proposed {
    /// Waits until the command is applied, as [`Raft::propose`] does.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn applied(self) -> Result<Applied, ProposeError> {
        self.done.await.unwrap_or(Err(ProposeError::OutcomeUnknown))
    }
}

impl Raft {
    /// Replicates a command and applies it. Done once the state machine **of this server** has applied it.
    ///
    /// Resolves exactly once: done, certainly not applied, or unknown ([`ProposeError::may_be_applied`]); at the latest
    /// when the server has stopped. A deadline is `tokio::time::timeout` around it; one that passed leaves the outcome
    /// unknown. For a command that must take effect once however often it is tried, see [`crate::sessions`].
    ///
    /// # Errors
    /// See [`ProposeError`]. Dropping the future does not undo the call.
    pub async fn propose(&self, command: impl Into<Bytes>) -> Result<Applied, ProposeError> {
        self.propose_with(command, Bytes::new()).await
    }

    /// Like [`Raft::propose`], with opaque bytes beside the command.
    ///
    /// # Errors
    /// See [`ProposeError`]. Dropping the future does not undo the call.
    pub async fn propose_with(
        &self,
        command: impl Into<Bytes>,
        extensions: Bytes,
    ) -> Result<Applied, ProposeError> {
        let done = self.queue(command.into(), extensions, None)?;
        done.await.unwrap_or(Err(ProposeError::OutcomeUnknown))
    }

    /// Puts a command into the log and answers at once where it stands there; it may never be committed. Whoever is
    /// interested can wait with [`Proposed::applied`].
    ///
    /// # Errors
    /// See [`ProposeError`]; certainly not applied unless [`ProposeError::may_be_applied`]. Dropping the future does not
    /// undo the call.
    pub async fn submit(&self, command: impl Into<Bytes>) -> Result<Proposed, ProposeError> {
        let (placed, place) = oneshot::channel();
        let done = self.queue(command.into(), Bytes::new(), Some(placed))?;
        match place.await {
            Ok(id) => Ok(Proposed { id, done }),
            // The reason was sent before.
            Err(_) => Err(done.await.ok().and_then(Result::err).unwrap_or(ProposeError::OutcomeUnknown)),
        }
    }

    /// Waits until everything proposed before is applied on this server, by way of an entry in the log.
    ///
    /// # Errors
    /// See [`ProposeError`]. Dropping the future does not undo the call.
    pub async fn barrier(&self) -> Result<EntryId, ProposeError> {
        let (reply, done) = oneshot::channel();
        self.queue_now(Command::Barrier { reply })?;
        done.await.unwrap_or(Err(ProposeError::OutcomeUnknown)).map(|applied| applied.id)
    }

    fn queue(
        &self,
        data: Bytes,
        extensions: Bytes,
        placed: Option<oneshot::Sender<EntryId>>,
    ) -> Result<oneshot::Receiver<Result<Applied, ProposeError>>, ProposeError> {
        let size = data.len() + extensions.len();
        let limit = self.inner.command_bytes_max;
        if size > limit {
            return Err(ProposeError::TooLarge { size, limit });
        }
        let (done, receiver) = oneshot::channel();
        self.queue_now(Command::Propose { data, extensions, client: Client { placed, done } })?;
        Ok(receiver)
    }

    fn queue_now(&self, command: Command) -> Result<(), ProposeError> {
        self.inner.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ProposeError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
        })
    }
}

//! The `Raft` handle and the tasks behind it: one actor that owns the core, a disk thread, an apply thread.
//!
//! The actor is the only place where the core is stepped. Everything else reaches it through three bounded queues: what
//! clients ask, what the transport brings, what disk and state machine report. This is the only part of the crate that
//! reads a clock or starts tasks.
#![allow(clippy::disallowed_methods, reason = "the driver is where clock, tasks and threads belong")]

mod actor;
mod ages;
mod apply;
mod builder;
mod disk;
mod executor;
mod members;
mod observation;
mod observe;
mod proposals;
mod queues;
mod reads;
mod restores;
mod snapshots;
mod stats;
mod views;
mod waiters;

use std::fmt;
use std::sync::Arc;

use raft_types::{Configuration, EntryId, LogIndex, ServerAddress, ServerId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::config::ReloadableConfig;
use crate::core::{Peer, SnapshotMeta};
use crate::error::{BootstrapError, ReadError, ReloadError, SnapshotError, TransferError};
use crate::storage::{SnapshotStore, StorageError};
use crate::transport::SnapshotState;

pub use builder::RaftBuilder;
pub use executor::{Executor, Operation};
pub use members::ConfigurationState;
pub use observation::{Observation, Observer};
pub use observe::{Leadership, LeadershipWatch, Metrics, PeerMetrics};
pub use proposals::{Applied, Proposed};
pub use stats::Stats;

use queues::{Command, Gone};
use views::Views;

/// Requests of other servers that may wait before the core.
const INBOX: usize = 1024;

/// One server of a cluster. A handle: cheap to clone, usable from any task; the server stops when the last one is
/// dropped or [`Raft::shutdown`] is called.
#[derive(Clone)]
pub struct Raft {
    inner: Arc<Inner>,
}

struct Inner {
    me: Peer,
    command_bytes_max: usize,
    snapshots: Arc<dyn SnapshotStore>,
    commands: mpsc::Sender<Command>,
    views: Views,
    stop: CancellationToken,
    stopped: watch::Receiver<bool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Permission to read the state machine, see [`Raft::lease_read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRead {
    /// The state machine has applied everything up to here.
    pub index: LogIndex,
    until: Option<tokio::time::Instant>,
}

impl LeaseRead {
    /// Whether the lease still holds; to be asked after the state was read, for the process may have been paused in between
    /// (catalogue L07). Good for the reads that began before [`Raft::lease_read`] was called: leadership may have been handed
    /// over since, so a later read needs a permission of its own.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.until.is_none_or(|until| tokio::time::Instant::now() < until)
    }
}

impl Raft {
    /// This server's id.
    #[must_use]
    pub fn id(&self) -> &ServerId {
        &self.inner.me.id
    }

    /// The address under which the others reach this server.
    #[must_use]
    pub fn address(&self) -> &ServerAddress {
        &self.inner.me.address
    }

    /// Writes the first configuration of a new cluster. Call it on one server; the other members receive it.
    ///
    /// # Errors
    /// See [`BootstrapError`]. Dropping the future does not undo the call.
    pub async fn bootstrap(&self, configuration: Configuration) -> Result<(), BootstrapError> {
        self.ask(|reply| Command::Bootstrap { configuration, reply })
            .await
            .unwrap_or(Err(BootstrapError::Stopped))
    }

    /// Whether this server has a term, a log or a snapshot: it was bootstrapped, or joined a cluster.
    #[must_use]
    pub fn has_state(&self) -> bool {
        let metrics = self.inner.views.metrics.borrow();
        metrics.term.0 > 0 || metrics.last.index.0 > 0
    }

    /// After this, reads of this server's state machine see every command acknowledged before the call, on any server of the
    /// cluster, voter or not: the leader has a quorum confirm that it still leads; any other server asks the leader to do
    /// so for it, then waits until it has applied what the leader had committed. Reads so never go back, also where one
    /// client asks several servers. Writes nothing; costs one round trip on the leader, two elsewhere. Reads that wait share
    /// rounds, so many cost hardly more than one.
    ///
    /// On a server that does not lead this ends within two election timeouts, or once what was confirmed is applied.
    ///
    /// # Errors
    /// See [`ReadError`]; where the leader is of another implementation, only it can serve. Safe to drop.
    pub async fn linearizable_read(&self) -> Result<LogIndex, ReadError> {
        self.ask_now(|reply| Command::Read { reply }, ReadError::Overloaded, ReadError::Stopped).await
    }

    /// Has a quorum confirm that this server leads now. Unlike [`Raft::linearizable_read`] it does not wait for the state
    /// machine.
    ///
    /// # Errors
    /// See [`ReadError`]. Safe to drop.
    pub async fn verify_leader(&self) -> Result<(), ReadError> {
        self.ask_now(|reply| Command::Verify { reply }, ReadError::Overloaded, ReadError::Stopped).await
    }

    /// The tunables that can be changed now, as they are.
    #[must_use]
    pub fn reloadable_config(&self) -> ReloadableConfig {
        self.inner.views.reloadable.borrow().clone()
    }

    /// Changes tunables without a restart. They last until the process ends. The election timeout stays as it is while
    /// [`Config::lease_reads`](crate::Config::lease_reads) is on.
    ///
    /// # Errors
    /// See [`ReloadError`]. Dropping the future does not undo the call.
    pub async fn reload_config(&self, config: ReloadableConfig) -> Result<(), ReloadError> {
        let reload = self.ask(|reply| Command::Reload { config, reply });
        Ok(reload.await.map_err(|_| ReloadError::Stopped)??)
    }

    /// Like [`Raft::linearizable_read`], but by lease where this server holds one ([`Config::lease_reads`](crate::Config::lease_reads)): no message is sent. Read
    /// the state, then ask [`LeaseRead::is_valid`]; if it says no, what was read may be stale: ask again.
    ///
    /// # Errors
    /// See [`ReadError`]. Safe to drop.
    pub async fn lease_read(&self) -> Result<LeaseRead, ReadError> {
        self.ask_now(|reply| Command::LeaseRead { reply }, ReadError::Overloaded, ReadError::Stopped).await
    }

    /// Hands leadership to a voter, by default the one with the longest log. Proposals are refused meanwhile.
    ///
    /// # Errors
    /// See [`TransferError`]. Dropping the future does not undo the call.
    pub async fn transfer_leadership(&self, to: Option<ServerId>) -> Result<(), TransferError> {
        let transfer = self.ask(|reply| Command::Transfer { to, reply });
        transfer.await.unwrap_or(Err(TransferError::Stopped))
    }

    /// Takes a snapshot now and shortens the log behind it.
    ///
    /// # Errors
    /// See [`SnapshotError`]. Dropping the future does not undo the call.
    pub async fn snapshot(&self) -> Result<SnapshotMeta, SnapshotError> {
        self.ask(|reply| Command::Snapshot { reply }).await.unwrap_or(Err(SnapshotError::Stopped))
    }

    /// Opens a stored snapshot to read its state, from blocking code: the one that [`Raft::snapshot`] answered, or the newest,
    /// whose last entry the [`Metrics`] name. It can be read to its end even if it is no longer kept.
    ///
    /// # Errors
    /// It is not kept any more, or cannot be read. Nothing was changed.
    pub async fn open_snapshot(&self, last: EntryId) -> Result<(SnapshotMeta, SnapshotState), StorageError> {
        let snapshots = Arc::clone(&self.inner.snapshots);
        let open = tokio::task::spawn_blocking(move || snapshots.open(last)).await;
        open.unwrap_or_else(|error| Err(StorageError::io("open", "a snapshot", std::io::Error::other(error))))
    }

    /// What this server knows and does; changes at least 20 ms apart, except for role, leader and configuration, which
    /// show at once.
    #[must_use]
    pub fn metrics(&self) -> watch::Receiver<Arc<Metrics>> {
        self.inner.views.metrics.clone()
    }

    /// This server's figures, under the names that hashicorp/raft gives them.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::new(&self.inner.views.metrics.borrow(), self.id(), *self.inner.stopped.borrow())
    }

    /// What happens from now on in this server, as far as `filter` lets it pass. An observer that is 256 observations
    /// behind misses the oldest and is told how many; the server never waits for it.
    #[must_use]
    pub fn observe(&self, filter: impl FnMut(&Observation) -> bool + Send + 'static) -> Observer {
        self.inner.views.observations.observe(Box::new(filter))
    }

    /// Whether this server leads, as a stream whose first item is the present.
    #[must_use]
    pub fn leadership(&self) -> LeadershipWatch {
        LeadershipWatch::new(self.inner.views.leadership.clone())
    }

    /// Stops the server: not gracefully, see [`Raft::transfer_leadership`] for that. Resolves when all its tasks have
    /// ended, or after five seconds when disk or state machine do not return; what clients still wait for ends as
    /// stopped. May be called more than once.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        let mut stopped = self.inner.stopped.clone();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Queues a request, waiting for room.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Gone> {
        let (sender, receiver) = oneshot::channel();
        self.inner.commands.send(command(sender)).await.map_err(|_| Gone::Unsent)?;
        receiver.await.map_err(|_| Gone::Unanswered)
    }

    /// Queues a request, or fails at once if there is no room.
    async fn ask_now<T, E>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Command,
        full: E,
        stopped: E,
    ) -> Result<T, E> {
        let (sender, receiver) = oneshot::channel();
        match self.inner.commands.try_send(command(sender)) {
            Ok(()) => receiver.await.unwrap_or(Err(stopped)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(stopped),
        }
    }
}

impl fmt::Debug for Raft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raft").field("id", &self.inner.me.id).finish_non_exhaustive()
    }
}

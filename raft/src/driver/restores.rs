//! The actor's part in restoring a snapshot from outside into the whole cluster.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use raft_types::{EntryId, LogIndex};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Raft;
use super::actor::Actor;
use super::executor::Operation;
use super::queues::{Command, Report};
use super::waiters::Waiter;
use crate::core::{Input, RequestId, Role, SnapshotMeta};
use crate::error::RestoreError;
use crate::storage::{SnapshotStore, StorageError};
use crate::telemetry;

/// Who waits for a restore.
pub(super) type RestoreReply = oneshot::Sender<Result<EntryId, RestoreError>>;

/// A snapshot from outside.
pub(super) struct Outside {
    /// What it stood for where it came from.
    pub(super) meta: SnapshotMeta,
    pub(super) state: Box<dyn Read + Send>,
    pub(super) reply: RestoreReply,
}

/// A snapshot from outside that is being stored.
pub(super) struct Storing {
    /// Who waits for the end of the restore.
    request: RequestId,
    last: EntryId,
    /// Whoever sets it decides: the one who stores, that the snapshot becomes durable; the actor, that it never does.
    decided: Arc<AtomicBool>,
}

/// What became of the bytes of a snapshot from outside.
pub(super) enum Stored {
    /// It is durable.
    Durable(SnapshotMeta),
    /// It was given up before.
    GivenUp,
    /// It could not be stored. The disk may hold it all the same if it could not be removed either.
    Failed(RestoreError, Result<(), StorageError>),
}

const CHUNK: usize = 64 << 10;
/// What a snapshot may claim, so that a log can go on after it.
const INDEX_MAX: LogIndex = LogIndex(1 << 62);

impl Raft {
    /// Replaces the state of the whole cluster by a snapshot from outside, such as a backup. Only on the leader.
    ///
    /// `meta` is what [`Raft::open_snapshot`] said of the snapshot, in this cluster or another; of it, only the size is checked
    /// and the index is used: the snapshot gets the present term and an index above that one and above everything in
    /// the log, so that indexes never fall. The members stay as they are. Followers get the state as a snapshot. Resolves
    /// once an entry after it is committed, with the snapshot's new identity; proposals are refused while it is stored, and
    /// what waited to be applied ends as [`ProposeError::AbortedByRestore`](crate::ProposeError::AbortedByRestore).
    ///
    /// For disaster recovery: a leader that fails before a quorum has the snapshot may be left behind with a state that the
    /// others do not have. Such a server takes no part until the others' snapshots are past that index; clear it and
    /// join it anew.
    ///
    /// # Errors
    /// See [`RestoreError`]. Dropping the future while the state is being stored gives the restore up; afterwards it does
    /// not undo the call.
    pub async fn restore(
        &self,
        meta: SnapshotMeta,
        state: impl Read + Send + 'static,
    ) -> Result<EntryId, RestoreError> {
        if meta.last.index > INDEX_MAX {
            return Err(RestoreError::Invalid);
        }
        let outside = |reply| Command::Restore(Box::new(Outside { meta, state: Box::new(state), reply }));
        match self.ask(outside).await {
            Ok(done) => done,
            Err(gone) => Err(gone.either(RestoreError::Stopped, RestoreError::OutcomeUnknown)),
        }
    }
}

impl Actor {
    pub(super) fn begin_restore(&mut self, outside: Box<Outside>) {
        metrics::counter!(telemetry::RESTORE).increment(1);
        let above = outside.meta.last.index;
        let request = self.wait(Waiter::BeginRestore(outside));
        self.step(Input::BeginRestore { request, above });
    }

    /// Stores the state beside everything else, under the identity that the core gave it.
    pub(super) fn store_restore(&mut self, meta: SnapshotMeta, outside: Outside) {
        info!(last = %meta.last, bytes = outside.meta.size, "restoring a snapshot from outside");
        let Outside { meta: of_origin, state, reply } = outside;
        let (last, size) = (meta.last, of_origin.size);
        let request = self.wait(Waiter::Restore(reply));
        let decided = Arc::new(AtomicBool::new(false));
        self.storing = Some(Storing { request, last, decided: Arc::clone(&decided) });
        let snapshots = Arc::clone(&self.snapshots);
        let reports = self.report_sender.clone();
        let pace = self.executor.clone();
        self.executor.run(async move {
            pace.pause(Operation::Store).await;
            let since = Instant::now();
            let stored = store(&*snapshots, &meta, size, state, &decided)
                .unwrap_or_else(|error| Stored::Failed(error, snapshots.remove(last)));
            telemetry::took(telemetry::USER_RESTORE, since);
            let _ = reports.send(Report::RestoreStored { request, last, stored }).await;
        });
    }

    pub(super) fn on_restore_stored(&mut self, request: RequestId, last: EntryId, stored: Stored) {
        self.storing.take_if(|storing| storing.request == request);
        match stored {
            Stored::GivenUp => {}
            Stored::Durable(meta) => {
                self.step(Input::RestoreStored { request, last, size: Some(meta.size) });
                if self.snapshot_index() < last.index {
                    self.discard(request, last);
                }
            }
            Stored::Failed(error, removed) => {
                warn!(%error, "no restore");
                if let Some(Waiter::Restore(reply)) = self.waiters.remove(&request) {
                    let _ = reply.send(Err(error));
                }
                self.on_restore_removed(request, last, removed);
            }
        }
    }

    /// Nobody waits for the restore any more and its state may never come, or leadership was lost meanwhile: proposals, or the
    /// next leader, need not wait for it. Not if it is about to be durable: what became of it is known soon then.
    pub(super) fn give_up_unwanted_restore(&mut self) {
        let Some(Storing { request, last, decided }) = &self.storing else { return };
        let (request, last) = (*request, *last);
        let waits = matches!(self.waiters.get(&request), Some(Waiter::Restore(reply)) if !reply.is_closed());
        let leads = self.core.role() == Role::Leader && self.core.term() == last.term;
        let unwanted = !waits || !leads;
        if unwanted && !decided.swap(true, Ordering::AcqRel) {
            self.storing = None;
            self.step(Input::RestoreStored { request, last, size: None });
        }
    }

    /// Leadership was lost before the snapshot was taken over; it must not pass for the newest one at the next start.
    fn discard(&self, request: RequestId, last: EntryId) {
        let snapshots = Arc::clone(&self.snapshots);
        let reports = self.report_sender.clone();
        self.executor.run(async move {
            let removed = snapshots.remove(last);
            let _ = reports.send(Report::RestoreRemoved { request, last, removed }).await;
        });
    }

    /// Only once it is gone may the core give its word again on what it holds.
    pub(super) fn on_restore_removed(
        &mut self,
        request: RequestId,
        last: EntryId,
        removed: Result<(), StorageError>,
    ) {
        match removed {
            Ok(()) => self.step(Input::RestoreStored { request, last, size: None }),
            Err(error) => {
                warn!(%last, "could not remove a snapshot that was not restored");
                self.on_storage_failed(&error);
            }
        }
    }
}

fn store(
    snapshots: &dyn SnapshotStore,
    meta: &SnapshotMeta,
    size: u64,
    mut state: Box<dyn Read + Send>,
    decided: &AtomicBool,
) -> Result<Stored, RestoreError> {
    let mut sink = snapshots.create(meta)?;
    let mut chunk = vec![0; CHUNK];
    let mut read = 0;
    loop {
        let count = match state.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(RestoreError::State(error)),
        };
        read += count as u64;
        if read > size {
            break;
        }
        sink.write_all(&chunk[..count]).map_err(RestoreError::Write)?;
    }
    if read != size {
        return Err(RestoreError::WrongSize { expected: size, read });
    }
    if decided.swap(true, Ordering::AcqRel) {
        return Ok(Stored::GivenUp);
    }
    Ok(Stored::Durable(sink.finish()?))
}

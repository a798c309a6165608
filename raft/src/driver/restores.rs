//! The actor's part in restoring a snapshot from outside into the whole cluster.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use raft_types::{EntryId, LogIndex};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Raft;
use super::actor::Actor;
use super::executor::Operation;
use super::queues::{Command, Report};
use super::waiters::Waiter;
use crate::core::{Input, RequestId, SnapshotMeta};
use crate::error::RestoreError;
use crate::storage::SnapshotStore;
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
        self.storing = Some((request, last));
        let snapshots = Arc::clone(&self.snapshots);
        let reports = self.report_sender.clone();
        let pace = self.executor.clone();
        self.executor.run(async move {
            pace.pause(Operation::Store).await;
            let since = Instant::now();
            let result = store(&*snapshots, &meta, size, state);
            telemetry::took(telemetry::USER_RESTORE, since);
            let _ = reports.send(Report::RestoreStored { request, last, result }).await;
        });
    }

    pub(super) fn on_restore_stored(
        &mut self,
        request: RequestId,
        last: EntryId,
        result: Result<SnapshotMeta, RestoreError>,
    ) {
        self.storing.take_if(|(_, storing)| *storing == last);
        match result {
            Ok(meta) => {
                self.step(Input::RestoreStored { request, last, size: Some(meta.size) });
                if self.snapshot_index() < last.index {
                    self.discard(last);
                }
            }
            Err(error) => {
                warn!(%error, "no restore");
                if let Some(Waiter::Restore(reply)) = self.waiters.remove(&request) {
                    let _ = reply.send(Err(error));
                }
                self.step(Input::RestoreStored { request, last, size: None });
            }
        }
    }

    /// Nobody waits for the restore any more, and its state may never come: proposals need not wait for it.
    pub(super) fn give_up_unwanted_restore(&mut self) {
        let Some((request, last)) = self.storing else { return };
        let wanted = matches!(self.waiters.get(&request), Some(Waiter::Restore(reply)) if !reply.is_closed());
        if !wanted {
            self.storing = None;
            self.waiters.remove(&request);
            self.step(Input::RestoreStored { request, last, size: None });
        }
    }

    /// Leadership was lost before the snapshot was taken over; it must not pass for the newest one at the next start.
    fn discard(&self, last: EntryId) {
        let snapshots = Arc::clone(&self.snapshots);
        self.executor.run(async move {
            if let Err(error) = snapshots.remove(last) {
                warn!(%error, %last, "could not remove a snapshot that was not restored; remove it by hand");
            }
        });
    }
}

fn store(
    snapshots: &dyn SnapshotStore,
    meta: &SnapshotMeta,
    size: u64,
    mut state: Box<dyn Read + Send>,
) -> Result<SnapshotMeta, RestoreError> {
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
    Ok(sink.finish()?)
}

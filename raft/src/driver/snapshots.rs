//! The actor's part in snapshots: taking them, storing a leader's, and when.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft_types::{EntryId, LogIndex};
use rand::RngExt;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::actor::Actor;
use super::apply::Work;
use super::executor::Operation;
use super::observation::Observation;
use super::queues::Report;
use crate::core::{Input, Peer, Regard, Request, SnapshotMeta};
use crate::storage::{SnapshotStore, StorageError};
use crate::transport::Responder;

/// How long no other snapshot is tried by itself after one failed: a full disk does not get emptier by trying.
const RETRY: Duration = Duration::from_secs(5);

impl Actor {
    /// Whether the sender can be the leader: of a newer term, or the one that is known.
    fn is_leaders(&self, from: &Peer, request: &Request) -> bool {
        let newer = request.term().is_some_and(|term| term > self.core.term());
        newer || self.core.leader().is_none_or(|leader| leader.id == from.id)
    }

    /// Stores a snapshot beside everything else; the core sees the request once it is durable. One at a time: the
    /// sender of another one tries again.
    pub(super) fn receive_snapshot(
        &mut self,
        from: Peer,
        request: Request,
        regard: Option<Regard>,
        meta: SnapshotMeta,
        mut state: mpsc::Receiver<std::io::Result<Bytes>>,
        responder: Responder,
    ) {
        let stale = request.term().is_none_or(|term| term < self.core.term());
        let known = meta.last.index <= self.core.commit_index();
        // The core can tell without the state, and nothing is stored that might pass for the newest snapshot later.
        let heard = self.core.listens_to(regard);
        if stale || known || !heard || !self.is_leaders(&from, &request) {
            self.on_request(from, request, regard, responder);
            return;
        }
        if self.receiving_snapshot || self.core.storage_failed() {
            return;
        }
        self.receiving_snapshot = true;
        info!(leader = %from.id, last = %meta.last, bytes = meta.size, "receiving a snapshot");
        let snapshots = Arc::clone(&self.snapshots);
        let reports = self.report_sender.clone();
        let pace = self.executor.clone();
        self.executor.run(async move {
            pace.pause(Operation::Store).await;
            let result = store_snapshot(&*snapshots, &meta, &mut state).await;
            let _ = reports.send(Report::SnapshotReceived { from, request, regard, responder, result }).await;
        });
    }

    pub(super) fn snapshot_index(&self) -> LogIndex {
        self.core.snapshot().map_or(LogIndex::ZERO, |meta| meta.last.index)
    }

    pub(super) fn snapshot_due(&self) -> bool {
        let applied = self.core.applied_index();
        let news = applied.ahead_of(self.snapshot_index());
        // The state machine must be idle at exactly the applied index.
        !self.snapshotting
            && (self.now() >= self.snapshot_retry || !self.snapshot_waiters.is_empty())
            && applied == self.handed
            && news > 0
            && ((news >= self.config.snapshot_threshold && self.now() >= self.snapshot_after)
                || self.core.log_bytes() >= self.config.snapshot_threshold_bytes
                || !self.snapshot_waiters.is_empty())
    }

    pub(super) fn begin_snapshot(&mut self) {
        let index = self.core.applied_index();
        let Some(term) = self.core.term_at(index) else { return };
        let (configuration_index, configuration) = self.core.configuration_at(index);
        let meta = SnapshotMeta {
            last: EntryId { term, index },
            configuration: configuration.clone(),
            configuration_index,
            size: 0,
        };
        self.snapshotting = true;
        let interval = self.config.snapshot_interval;
        self.snapshot_after = self.now() + interval.mul_f64(self.jitter.random_range(1.0..2.0));
        self.give(Work::Snapshot(meta));
    }

    pub(super) fn on_snapshot_taken(&mut self, result: Result<SnapshotMeta, StorageError>) {
        self.snapshotting = false;
        let waiters = std::mem::take(&mut self.snapshot_waiters);
        match result {
            Ok(meta) => {
                debug!(last = %meta.last, bytes = meta.size, "snapshot");
                self.step(Input::SnapshotTaken { meta: meta.clone() });
                self.observers.tell(Observation::SnapshotTaken { last: meta.last });
                for reply in waiters {
                    let _ = reply.send(Ok(meta.clone()));
                }
            }
            Err(error) => {
                warn!(%error, "no snapshot");
                self.snapshot_retry = self.now() + RETRY;
                let text = error.to_string();
                for reply in waiters {
                    let source = std::io::Error::other(text.clone());
                    let _ = reply.send(Err(StorageError::io("store", "the snapshot", source).into()));
                }
            }
        }
    }
}

async fn store_snapshot(
    snapshots: &dyn SnapshotStore,
    meta: &SnapshotMeta,
    state: &mut mpsc::Receiver<std::io::Result<Bytes>>,
) -> Result<(), StorageError> {
    let mut sink = snapshots.create(meta)?;
    let mut received = 0;
    while let Some(chunk) = state.recv().await {
        let chunk = chunk.map_err(|error| StorageError::io("receive", "a snapshot", error))?;
        received += chunk.len() as u64;
        sink.write_all(&chunk).map_err(|error| StorageError::io("write", "a snapshot", error))?;
    }
    if received != meta.size {
        let text = format!("{received} of {} bytes came", meta.size);
        let short = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, text);
        return Err(StorageError::io("receive", "a snapshot", short));
    }
    sink.finish().map(drop)
}

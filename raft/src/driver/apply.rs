//! The apply thread: owns the state machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use raft_types::EntryId;
use tokio::sync::{mpsc, oneshot};

use super::Applied;
use super::disk::unless_it_panics;
use super::executor::{Executor, Operation};
use super::queues::Report;
use crate::core::{Entry, EntryKind, SnapshotMeta};
use crate::error::ProposeError;
use crate::state_machine::StateMachine;
use crate::storage::{SnapshotStore, StorageError};
use crate::telemetry::{self, Saturation};

/// Who waits for an entry.
pub(super) type ApplyReply = oneshot::Sender<Result<Applied, ProposeError>>;

pub(super) enum Work {
    /// Consecutive committed entries and who waits for each.
    Entries(Vec<Entry>, Vec<Option<ApplyReply>>),
    /// Replace the state by this stored snapshot.
    Restore(SnapshotMeta),
    /// Store the present state as this snapshot.
    Snapshot(SnapshotMeta),
}

/// Who waits for the entries that the thread has, by position. Kept outside the thread, so that a state machine that
/// never returns keeps no client waiting once the server has stopped.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<Vec<Option<ApplyReply>>>>);

impl Waiting {
    fn replace(&self, replies: Vec<Option<ApplyReply>>) {
        let old = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), replies);
        drop(old);
    }

    fn take(&self, positions: &[usize]) -> Vec<Option<ApplyReply>> {
        let mut replies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        positions.iter().map(|position| replies.get_mut(*position).and_then(Option::take)).collect()
    }
}

/// Tells whoever still waits that the server has stopped.
struct Release(Waiting);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.replace(Vec::new());
    }
}

/// Takes one piece of work at a time.
pub(super) struct Apply {
    work: mpsc::Sender<Work>,
    ended: oneshot::Receiver<()>,
    release: Release,
}

impl Apply {
    pub(super) fn start(
        mut state_machine: Box<dyn StateMachine>,
        snapshots: Arc<dyn SnapshotStore>,
        reports: mpsc::Sender<Report>,
        executor: &Executor,
    ) -> Self {
        let (work, mut receiver) = mpsc::channel::<Work>(1);
        let (end, ended) = oneshot::channel();
        let waiting = Waiting::default();
        let release = Release(waiting.clone());
        let pace = executor.clone();
        executor.start("raft-apply", async move {
            let mut saturation = Saturation::new(telemetry::FSM_SATURATION);
            loop {
                saturation.idle();
                let Some(work) = receiver.recv().await else { break };
                saturation.busy();
                pace.pause(Operation::Apply).await;
                let done = unless_it_panics("run", "the state machine", || {
                    perform(&mut *state_machine, &snapshots, &reports, &waiting, &pace, work)
                });
                pace.pause(Operation::Applied).await;
                let failed = done.is_err();
                if failed {
                    waiting.replace(Vec::new());
                }
                let report = done.unwrap_or_else(|error| Report::StorageFailed { error });
                if reports.send(report).await.is_err() || failed {
                    break;
                }
            }
            drop(state_machine);
            let _ = end.send(());
        });
        Self { work, ended, release }
    }

    /// Hands over work. The actor sends the next only after the report on this, so there is always room.
    pub(super) fn submit(&self, work: Work) {
        let work = match work {
            Work::Entries(entries, replies) => {
                self.release.0.replace(replies);
                Work::Entries(entries, Vec::new())
            }
            other => other,
        };
        let _ = self.work.try_send(work);
    }

    /// Lets the thread finish what it has and returns what resolves when it has ended. Whoever waits for an entry is
    /// answered by then, or when the future is dropped.
    pub(super) async fn stop(self) {
        let Self { work, ended, release } = self;
        drop(work);
        let _ = ended.await;
        drop(release);
    }
}

fn perform(
    state_machine: &mut dyn StateMachine,
    snapshots: &Arc<dyn SnapshotStore>,
    reports: &mpsc::Sender<Report>,
    waiting: &Waiting,
    executor: &Executor,
    work: Work,
) -> Report {
    match work {
        Work::Entries(entries, _) => apply(state_machine, waiting, entries),
        Work::Restore(meta) => restore(state_machine, &**snapshots, &meta),
        Work::Snapshot(meta) => {
            take_snapshot(state_machine, snapshots, meta, reports.clone(), executor);
            Report::SnapshotStarted
        }
    }
}

/// Commands on their way to the state machine, and where each stands among the entries.
#[derive(Default)]
struct Batch {
    commands: Vec<Entry>,
    positions: Vec<usize>,
}

fn apply(state_machine: &mut dyn StateMachine, waiting: &Waiting, entries: Vec<Entry>) -> Report {
    let mut index = raft_types::LogIndex::ZERO;
    let mut batch =
        Batch { commands: Vec::with_capacity(entries.len()), positions: Vec::with_capacity(entries.len()) };
    for (position, entry) in entries.into_iter().enumerate() {
        index = entry.id.index;
        match &entry.kind {
            EntryKind::Command => {
                batch.positions.push(position);
                batch.commands.push(entry);
            }
            EntryKind::Configuration(configuration) => {
                answer(state_machine, waiting, &mut batch);
                state_machine.configuration_committed(entry.id.index, configuration);
            }
            EntryKind::Noop => {}
            EntryKind::Barrier => {
                answer(state_machine, waiting, &mut batch);
                send(waiting, &[position], [(entry.id, Bytes::new())]);
            }
        }
    }
    answer(state_machine, waiting, &mut batch);
    Report::Applied { index }
}

fn answer(state_machine: &mut dyn StateMachine, waiting: &Waiting, batch: &mut Batch) {
    if batch.commands.is_empty() {
        return;
    }
    let since = Instant::now();
    let responses = state_machine.apply(&batch.commands);
    telemetry::took(telemetry::FSM_APPLY, since);
    metrics::histogram!(telemetry::FSM_APPLY_NUM).record(telemetry::count(batch.commands.len()));
    assert_eq!(responses.len(), batch.commands.len(), "the state machine answers every command");
    let ids = batch.commands.drain(..).map(|entry| entry.id);
    send(waiting, &batch.positions, ids.zip(responses));
    batch.positions.clear();
}

fn send(waiting: &Waiting, positions: &[usize], answers: impl IntoIterator<Item = (EntryId, Bytes)>) {
    for (reply, (id, response)) in waiting.take(positions).into_iter().zip(answers) {
        if let Some(reply) = reply {
            let _ = reply.send(Ok(Applied { id, response }));
        }
    }
}

fn restore(
    state_machine: &mut dyn StateMachine,
    snapshots: &dyn SnapshotStore,
    meta: &SnapshotMeta,
) -> Report {
    let since = Instant::now();
    let restored = snapshots.open(meta.last).and_then(|(_, mut state)| {
        state_machine.restore(&mut *state).map_err(|error| StorageError::io("restore", meta.last, error))
    });
    match restored {
        Ok(()) => {
            telemetry::restored(since);
            state_machine.configuration_committed(meta.configuration_index, &meta.configuration);
            Report::Restored { last: meta.last }
        }
        Err(error) => Report::StorageFailed { error },
    }
}

/// Writes the snapshot from a thread of its own, beside later applies.
fn take_snapshot(
    state_machine: &dyn StateMachine,
    snapshots: &Arc<dyn SnapshotStore>,
    meta: SnapshotMeta,
    reports: mpsc::Sender<Report>,
    executor: &Executor,
) {
    let began = Instant::now();
    let writer = state_machine.snapshot();
    telemetry::took(telemetry::FSM_SNAPSHOT, began);
    let snapshots = Arc::clone(snapshots);
    let pace = executor.clone();
    executor.start("raft-snapshot", async move {
        pace.pause(Operation::Store).await;
        let store = || {
            let since = Instant::now();
            let mut sink = snapshots.create(&meta)?;
            telemetry::took(telemetry::SNAPSHOT_CREATE, since);
            let since = Instant::now();
            writer(&mut *sink).map_err(|error| StorageError::io("write", "the snapshot", error))?;
            let stored = sink.finish()?;
            telemetry::took(telemetry::SNAPSHOT_PERSIST, since);
            telemetry::took(telemetry::SNAPSHOT_TAKE, began);
            Ok(stored)
        };
        let result = unless_it_panics("write", "the snapshot", store).flatten();
        let _ = reports.send(Report::SnapshotTaken { result }).await;
    });
}

//! The apply thread: owns the state machine.

use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Applied;
use super::actor::Report;
use crate::core::{Entry, EntryKind, SnapshotMeta};
use crate::error::ProposeError;
use crate::state_machine::StateMachine;
use crate::storage::{SnapshotStore, StorageError};

/// Who waits for an entry.
pub(super) type ApplyReply = oneshot::Sender<Result<Applied, ProposeError>>;

pub(super) enum Work {
    /// Consecutive committed entries and who waits for each.
    Entries(Vec<(Entry, Option<ApplyReply>)>),
    /// Replace the state by this stored snapshot.
    Restore(SnapshotMeta),
    /// Store the present state as this snapshot.
    Snapshot(SnapshotMeta),
}

/// Takes one piece of work at a time.
pub(super) struct Apply {
    work: mpsc::Sender<Work>,
    ended: oneshot::Receiver<()>,
}

impl Apply {
    pub(super) fn start(
        mut state_machine: Box<dyn StateMachine>,
        snapshots: Arc<dyn SnapshotStore>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        let (work, mut receiver) = mpsc::channel::<Work>(1);
        let (end, ended) = oneshot::channel();
        let run = move || {
            while let Some(work) = receiver.blocking_recv() {
                let report = match work {
                    Work::Entries(entries) => apply(&mut *state_machine, entries),
                    Work::Restore(meta) => restore(&mut *state_machine, &*snapshots, &meta),
                    Work::Snapshot(meta) => {
                        take_snapshot(&*state_machine, &snapshots, meta, reports.clone());
                        Report::SnapshotStarted
                    }
                };
                if reports.blocking_send(report).is_err() {
                    break;
                }
            }
            drop(state_machine);
            let _ = end.send(());
        };
        thread::Builder::new()
            .name("raft-apply".to_owned())
            .spawn(run)
            .expect("the system can start a thread");
        Self { work, ended }
    }

    /// Hands over work. The actor sends the next only after the report on this, so there is always room.
    pub(super) fn submit(&self, work: Work) {
        let _ = self.work.try_send(work);
    }

    /// Lets the thread finish what it has and returns what resolves when it has ended.
    pub(super) fn stop(self) -> oneshot::Receiver<()> {
        self.ended
    }
}

fn apply(state_machine: &mut dyn StateMachine, entries: Vec<(Entry, Option<ApplyReply>)>) -> Report {
    let mut index = raft_types::LogIndex::ZERO;
    let mut commands = Vec::with_capacity(entries.len());
    let mut replies = Vec::with_capacity(entries.len());
    for (entry, reply) in entries {
        index = entry.id.index;
        match &entry.kind {
            EntryKind::Command => {
                replies.push((entry.id, reply));
                commands.push(entry);
            }
            EntryKind::Configuration(configuration) => {
                answer(state_machine, &mut commands, &mut replies);
                state_machine.configuration_committed(entry.id.index, configuration);
            }
            EntryKind::Noop => {}
            EntryKind::Barrier => {
                answer(state_machine, &mut commands, &mut replies);
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(Applied { id: entry.id, response: Bytes::new() }));
                }
            }
        }
    }
    answer(state_machine, &mut commands, &mut replies);
    Report::Applied { index }
}

fn answer(
    state_machine: &mut dyn StateMachine,
    commands: &mut Vec<Entry>,
    replies: &mut Vec<(raft_types::EntryId, Option<ApplyReply>)>,
) {
    if commands.is_empty() {
        return;
    }
    let responses = state_machine.apply(commands);
    assert_eq!(responses.len(), commands.len(), "the state machine answers every command");
    commands.clear();
    for ((id, reply), response) in replies.drain(..).zip(responses) {
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
    let restored = snapshots.open(meta.last).and_then(|(_, mut state)| {
        state_machine.restore(&mut *state).map_err(|error| StorageError::io("restore", meta.last, error))
    });
    match restored {
        Ok(()) => {
            state_machine.configuration_committed(meta.configuration_index, &meta.configuration);
            Report::Applied { index: meta.last.index }
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
) {
    let writer = state_machine.snapshot();
    let snapshots = Arc::clone(snapshots);
    let run = move || {
        let result = snapshots.create(&meta).and_then(|mut sink| {
            writer(&mut *sink).map_err(|error| StorageError::io("write", "the snapshot", error))?;
            sink.finish()
        });
        let _ = reports.blocking_send(Report::SnapshotTaken { result });
    };
    thread::Builder::new()
        .name("raft-snapshot".to_owned())
        .spawn(run)
        .expect("the system can start a thread");
}

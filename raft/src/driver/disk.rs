//! The disk thread: carries out batches of writes, each with one sync.

use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::actor::Report;
use crate::core::Write;
use crate::storage::LogStore;

/// Takes one batch at a time. While it syncs one, the actor gathers the next: that is the group commit.
pub(super) struct Disk {
    batches: mpsc::Sender<Vec<Write>>,
    ended: oneshot::Receiver<()>,
}

impl Disk {
    pub(super) fn start(mut store: Box<dyn LogStore>, reports: mpsc::Sender<Report>) -> Self {
        let (batches, mut receiver) = mpsc::channel::<Vec<Write>>(1);
        let (end, ended) = oneshot::channel();
        let run = move || {
            while let Some(batch) = receiver.blocking_recv() {
                let through = batch.last().map(|write| write.id).unwrap_or_default();
                let result = store.write(&batch);
                let failed = result.is_err();
                let report = match result {
                    Ok(()) => Report::Persisted { through },
                    Err(error) => Report::StorageFailed { error },
                };
                if reports.blocking_send(report).is_err() || failed {
                    break;
                }
            }
            drop(store);
            let _ = end.send(());
        };
        thread::Builder::new()
            .name("raft-disk".to_owned())
            .spawn(run)
            .expect("the system can start a thread");
        Self { batches, ended }
    }

    /// Hands over a batch. The actor sends the next only after the report on this one, so there is always room.
    pub(super) fn submit(&self, batch: Vec<Write>) {
        let _ = self.batches.try_send(batch);
    }

    /// Lets the thread finish what it has and returns what resolves when it has ended.
    pub(super) fn stop(self) -> oneshot::Receiver<()> {
        self.ended
    }
}

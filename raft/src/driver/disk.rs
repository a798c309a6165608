//! The disk: carries out batches of writes, each with one sync, on a thread of its own.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::{mpsc, oneshot};

use super::executor::{Executor, Operation};
use super::queues::Report;
use crate::core::Write;
use crate::storage::{LogStore, StorageError};
use crate::telemetry;

/// Takes one batch at a time. While it syncs one, the actor gathers the next: that is the group commit.
pub(super) struct Disk {
    batches: mpsc::Sender<Vec<Write>>,
    ended: oneshot::Receiver<()>,
}

impl Disk {
    pub(super) fn start(
        mut store: Box<dyn LogStore>,
        reports: mpsc::Sender<Report>,
        executor: &Executor,
    ) -> Self {
        let (batches, mut receiver) = mpsc::channel::<Vec<Write>>(1);
        let (end, ended) = oneshot::channel();
        let pace = executor.clone();
        executor.start("raft-disk", async move {
            while let Some(batch) = receiver.recv().await {
                let through = batch.last().map(|write| write.id).unwrap_or_default();
                pace.pause(Operation::Write).await;
                let since = std::time::Instant::now();
                let result = unless_it_panics("write to", "the log", || store.write(&batch)).flatten();
                telemetry::took(telemetry::DISPATCH_LOG, since);
                let entries = batch.iter().map(|write| write.entries.len()).sum();
                metrics::histogram!(telemetry::DISPATCH_NUM_LOGS).record(telemetry::count(entries));
                pace.pause(Operation::Written).await;
                let failed = result.is_err();
                let report = match result {
                    Ok(()) => Report::Persisted { through },
                    Err(error) => Report::StorageFailed { error },
                };
                if reports.send(report).await.is_err() || failed {
                    break;
                }
            }
            drop(store);
            let _ = end.send(());
        });
        Self { batches, ended }
    }

    /// Hands over a batch. The actor sends the next only after the report on this one, so there is always room.
    pub(super) fn submit(&self, batch: Vec<Write>) {
        let _ = self.batches.try_send(batch);
    }

    /// Lets the thread finish what it has; done when it has ended.
    pub(super) async fn stop(self) {
        drop(self.batches);
        let _ = self.ended.await;
    }
}

/// Runs foreign code. A panic must not end its thread in silence: everyone would wait for a report that never comes.
pub(super) fn unless_it_panics<T>(
    action: &'static str,
    on: &'static str,
    run: impl FnOnce() -> T,
) -> Result<T, StorageError> {
    // Whatever it left behind is not used again.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        StorageError::io(action, on, io::Error::other(format!("it panicked: {text}")))
    })
}

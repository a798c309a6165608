//! Stores for tests: with faults, and one that keeps nothing. Memory stores without faults are
//! [`MemoryLog`](crate::storage::MemoryLog) and [`MemorySnapshots`](crate::storage::MemorySnapshots); a network with
//! links that can be cut is `MemoryNetwork` in `transport`.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raft_types::EntryId;

use crate::core::{SnapshotMeta, Write};
use crate::storage::{LogStore, Recovered, SnapshotSink, SnapshotStore, StorageError};

/// What a store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`LogStore::recover`].
    Recover,
    /// [`LogStore::write`]; nothing of the batch is carried out.
    Write,
    /// [`SnapshotStore::create`].
    CreateSnapshot,
    /// Bytes written to a snapshot.
    WriteSnapshot,
    /// [`SnapshotSink::finish`].
    FinishSnapshot,
    /// [`SnapshotStore::latest`] and [`SnapshotStore::open`].
    ReadSnapshot,
}

/// The faults of a [`Faulty`] store, from outside of the server that uses it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    next: Vec<(Operation, u64)>,
    failed: u64,
}

impl Faults {
    /// No faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next operation of this kind fails, after `spared` that do not.
    pub fn fail(&self, operation: Operation, spared: u64) {
        self.plan().next.push((operation, spared));
    }

    /// How many operations failed so far.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.plan().failed
    }

    /// A store with these faults.
    pub fn store<S>(&self, store: S) -> Faulty<S> {
        Faulty { store, faults: self.clone() }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, operation: Operation) -> io::Result<()> {
        let mut plan = self.plan();
        let Some(at) = plan.next.iter().position(|(planned, _)| *planned == operation) else { return Ok(()) };
        if plan.next[at].1 > 0 {
            plan.next[at].1 -= 1;
            return Ok(());
        }
        plan.next.remove(at);
        plan.failed += 1;
        Err(io::Error::other(format!("{operation:?} fails, as a test wants it")))
    }

    fn check_stored(&self, operation: Operation) -> Result<(), StorageError> {
        self.check(operation).map_err(|error| StorageError::io("use", "a faulty store", error))
    }
}

/// A store whose operations fail when a test wants it.
#[derive(Clone, Debug)]
pub struct Faulty<S> {
    store: S,
    faults: Faults,
}

impl<S: LogStore> LogStore for Faulty<S> {
    fn recover(&mut self) -> Result<Recovered, StorageError> {
        self.faults.check_stored(Operation::Recover)?;
        self.store.recover()
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StorageError> {
        self.faults.check_stored(Operation::Write)?;
        self.store.write(writes)
    }
}

impl<S: SnapshotStore> SnapshotStore for Faulty<S> {
    fn create(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotSink>, StorageError> {
        self.faults.check_stored(Operation::CreateSnapshot)?;
        Ok(Box::new(FaultySink { sink: self.store.create(meta)?, faults: self.faults.clone() }))
    }

    fn latest(&self) -> Result<Option<SnapshotMeta>, StorageError> {
        self.faults.check_stored(Operation::ReadSnapshot)?;
        self.store.latest()
    }

    fn open(&self, last: EntryId) -> Result<(SnapshotMeta, Box<dyn Read + Send>), StorageError> {
        self.faults.check_stored(Operation::ReadSnapshot)?;
        self.store.open(last)
    }

    fn remove(&self, last: EntryId) -> Result<(), StorageError> {
        self.store.remove(last)
    }
}

struct FaultySink {
    sink: Box<dyn SnapshotSink>,
    faults: Faults,
}

impl io::Write for FaultySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.faults.check(Operation::WriteSnapshot)?;
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl SnapshotSink for FaultySink {
    fn finish(self: Box<Self>) -> Result<SnapshotMeta, StorageError> {
        self.faults.check_stored(Operation::FinishSnapshot)?;
        self.sink.finish()
    }
}

/// A snapshot store that keeps nothing: the log is then never shortened.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardSnapshots;

impl SnapshotStore for DiscardSnapshots {
    fn create(&self, _meta: &SnapshotMeta) -> Result<Box<dyn SnapshotSink>, StorageError> {
        Ok(Box::new(DiscardSink))
    }

    fn latest(&self) -> Result<Option<SnapshotMeta>, StorageError> {
        Ok(None)
    }

    fn open(&self, last: EntryId) -> Result<(SnapshotMeta, Box<dyn Read + Send>), StorageError> {
        Err(StorageError::NoSnapshot { last })
    }

    fn remove(&self, _last: EntryId) -> Result<(), StorageError> {
        Ok(())
    }
}

struct DiscardSink;

impl io::Write for DiscardSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SnapshotSink for DiscardSink {
    /// Says that nothing was kept: whoever believed otherwise would shorten the log.
    fn finish(self: Box<Self>) -> Result<SnapshotMeta, StorageError> {
        let source = io::Error::other("this store keeps no snapshots");
        Err(StorageError::io("keep", "a snapshot", source))
    }
}

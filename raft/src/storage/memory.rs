//! Stores that forget everything when the process ends: for tests, the simulator and servers without a disk.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use raft_types::{EntryId, LogIndex};

use super::shape::Shape;
use super::{LogStore, RETAINED_MIN, Recovered, SnapshotSink, SnapshotStore, StorageError};
use crate::core::{SnapshotMeta, Write};

/// A log in memory. Clones share it, so a test can start a server again with what the last one left.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    shared: Arc<Mutex<Recovered>>,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A log of its own with the same content, for a test that goes back to it.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { shared: Arc::new(Mutex::new(self.content().clone())) }
    }

    /// How many bytes its entries hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.content().entries.iter().map(crate::core::Entry::size).sum()
    }

    fn content(&self) -> MutexGuard<'_, Recovered> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recovered {
    fn shape(&self) -> Shape {
        let last = self.entries.last().map_or(self.base.index, |entry| entry.id.index);
        Shape { hard_state: self.hard_state.clone(), base: self.base, last, commit: self.commit }
    }

    /// Drops the entries up to `through`, which becomes the base; nothing when it is not beyond the base.
    pub(super) fn compact(&mut self, through: EntryId) {
        if through.index > self.base.index {
            let drop = through.index.ahead_of(self.base.index).min(self.entries.len() as u64);
            self.entries.drain(..usize::try_from(drop).unwrap_or(usize::MAX));
            self.base = through;
        }
    }

    /// Carries out one write that fits.
    fn apply(&mut self, write: &Write) {
        if let Some(hard_state) = &write.hard_state {
            self.hard_state.clone_from(hard_state);
        }
        if let Some(base) = write.reset_to {
            self.entries.clear();
            self.base = base;
            self.commit = LogIndex::ZERO;
        }
        if let Some(from) = write.truncate_from {
            let keep = from.previous().ahead_of(self.base.index);
            self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        }
        self.entries.extend(write.entries.iter().cloned());
        if let Some(through) = write.compact_through {
            self.compact(through);
        }
        self.commit = self.commit.max(write.commit.unwrap_or_default());
    }
}

impl LogStore for MemoryLog {
    fn recover(&mut self) -> Result<Recovered, StorageError> {
        Ok(self.content().clone())
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StorageError> {
        let mut content = self.content();
        for write in writes {
            content.shape().after(write).map_err(|detail| misfit("the log in memory", &detail))?;
            content.apply(write);
        }
        Ok(())
    }
}

/// A write that does not fit the log: a defect of the caller, nothing was changed by that write.
pub(super) fn misfit(path: impl std::fmt::Display, detail: &str) -> StorageError {
    StorageError::io("append to", path, io::Error::new(io::ErrorKind::InvalidInput, detail))
}

/// Snapshots in memory. Clones share them.
#[derive(Clone, Debug)]
pub struct MemorySnapshots {
    shared: Arc<Mutex<Vec<(SnapshotMeta, Bytes)>>>,
    retain: usize,
}

impl MemorySnapshots {
    /// Keeps the `retain` newest snapshots, at least two.
    #[must_use]
    pub fn new(retain: usize) -> Self {
        Self { shared: Arc::default(), retain: retain.max(RETAINED_MIN) }
    }

    fn list(&self) -> MutexGuard<'_, Vec<(SnapshotMeta, Bytes)>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemorySnapshots {
    /// Keeps two.
    fn default() -> Self {
        Self::new(2)
    }
}

impl SnapshotStore for MemorySnapshots {
    fn create(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotSink>, StorageError> {
        Ok(Box::new(MemorySink { store: self.clone(), meta: meta.clone(), state: Vec::new() }))
    }

    fn latest(&self) -> Result<Option<SnapshotMeta>, StorageError> {
        Ok(self.list().first().map(|(meta, _)| meta.clone()))
    }

    fn open(&self, last: EntryId) -> Result<(SnapshotMeta, Box<dyn Read + Send>), StorageError> {
        let list = self.list();
        let found = list.iter().find(|(meta, _)| meta.last == last);
        let (meta, state) = found.ok_or(StorageError::NoSnapshot { last })?;
        Ok((meta.clone(), Box::new(io::Cursor::new(state.clone()))))
    }

    fn remove(&self, last: EntryId) -> Result<(), StorageError> {
        self.list().retain(|(meta, _)| meta.last != last);
        Ok(())
    }
}

struct MemorySink {
    store: MemorySnapshots,
    meta: SnapshotMeta,
    state: Vec<u8>,
}

impl io::Write for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.state.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SnapshotSink for MemorySink {
    fn finish(self: Box<Self>) -> Result<SnapshotMeta, StorageError> {
        let Self { store, mut meta, state } = *self;
        meta.size = state.len() as u64;
        let mut list = store.list();
        // Before those that are as new: the latest of them counts.
        let at = list.partition_point(|(other, _)| other.last > meta.last);
        list.insert(at, (meta.clone(), state.into()));
        list.truncate(store.retain);
        Ok(meta)
    }
}

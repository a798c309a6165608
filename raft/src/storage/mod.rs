//! What survives a crash: term and vote, the log, snapshots.
//!
//! Two traits, each with a file and a memory implementation. All calls block; the driver makes them from its disk
//! thread. Files go through [`FileSystem`], so that the simulator runs the same code over disks that fail.
//! [`DataDirectory`] is where a server begins: it guards a directory and gives the stores in it.

mod directory;
mod fs;
mod memory;
mod memory_fs;
mod shape;
mod snapshot_file;
mod wal;

use std::fmt;
use std::io;

use raft_types::{EntryId, LogIndex};

use crate::core::{Entry, HardState, SnapshotMeta, Write};

pub use directory::DataDirectory;
pub use fs::{File, FileSystem, LockGuard, StdFileSystem};
pub use memory::{MemoryLog, MemorySnapshots};
pub use memory_fs::{Always, CrashChoice, Kept, LostPages, MemoryFileSystem, Torn};
pub use snapshot_file::FileSnapshots;
pub use wal::{FileLog, LogOptions};

/// The log together with term and vote.
///
/// An error from [`LogStore::write`] poisons the store: nothing later may be acknowledged (catalogue D01). The driver never
/// calls it again.
pub trait LogStore: Send + 'static {
    /// What is on disk. Called once, before any write.
    ///
    /// # Errors
    /// A store that cannot be read or whose content cannot be trusted.
    fn recover(&mut self) -> Result<Recovered, StorageError>;

    /// Carries out these writes in order and makes all of them durable before returning, with as few syncs as
    /// possible. Within each write the fields apply in the order in which [`Write`] declares them.
    ///
    /// # Errors
    /// Any failure; what is durable is then unknown until the next [`LogStore::recover`].
    fn write(&mut self, writes: &[Write]) -> Result<(), StorageError>;
}

/// What a [`LogStore`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// The entry before the first of `entries`: zero, or the last one compacted.
    pub base: EntryId,
    /// The log, consecutive.
    pub entries: Vec<Entry>,
    /// The highest [`Write::commit`] since the log was last reset; a store that does not keep it says zero, and the entries wait for a leader.
    pub commit: LogIndex,
}

/// Snapshots that a store keeps at least: while it is not decided whether one from outside becomes the state of the cluster, the
/// one before it is what a restart needs.
const RETAINED_MIN: usize = 2;

/// Snapshots, newest first by (term, index).
pub trait SnapshotStore: Send + Sync + 'static {
    /// Starts a snapshot; it counts only once [`SnapshotSink::finish`] returned.
    ///
    /// # Errors
    /// A full or broken disk.
    fn create(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotSink>, StorageError>;

    /// The newest snapshot whose metadata reads well; `None` if there is none.
    ///
    /// # Errors
    /// A directory that cannot be read.
    fn latest(&self) -> Result<Option<SnapshotMeta>, StorageError>;

    /// Opens the state of the newest snapshot at this entry, after checking its checksum.
    ///
    /// # Errors
    /// No such snapshot, or a checksum that does not fit.
    fn open(&self, last: EntryId) -> Result<(SnapshotMeta, Box<dyn io::Read + Send>), StorageError>;

    /// Removes every snapshot at this entry; nothing if there is none. For one that was stored and then not used.
    ///
    /// # Errors
    /// A directory that cannot be changed.
    fn remove(&self, last: EntryId) -> Result<(), StorageError>;
}

/// A snapshot being written. Dropping it without [`SnapshotSink::finish`] discards it.
pub trait SnapshotSink: io::Write + Send {
    /// Makes the snapshot durable and drops older ones beyond the number to keep.
    ///
    /// # Errors
    /// A full or broken disk; the snapshot then does not count.
    fn finish(self: Box<Self>) -> Result<SnapshotMeta, StorageError>;
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused. A retry is not safe: what reached the disk is unknown.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried, as in "write".
        action: &'static str,
        /// On what.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// Bytes that were once durable are not what they were. Nothing was changed; restore the server from its peers.
    #[error(
        "{path} is corrupt at byte {offset}: {detail}; the server must not vote with it: remove the data directory and join it again as a new server"
    )]
    Corrupt {
        /// Which file.
        path: String,
        /// Where.
        offset: u64,
        /// What is wrong.
        detail: String,
    },
    /// The directory is not this program's, or a version that it does not know. Nothing was changed.
    #[error("{path} is not a data directory of this program: {detail}")]
    Foreign {
        /// Which file or directory.
        path: String,
        /// What was found.
        detail: String,
    },
    /// Another process uses the directory. Nothing was changed.
    #[error("{path} is in use by another process")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// No snapshot at this entry.
    #[error("there is no snapshot at {last}")]
    NoSnapshot {
        /// The entry asked for.
        last: EntryId,
    },
}

impl StorageError {
    /// Wraps an error of the operating system.
    pub fn io(action: &'static str, path: impl fmt::Display, source: io::Error) -> Self {
        Self::Io { action, path: path.to_string(), source }
    }
}

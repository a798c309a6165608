//! The log on disk: term, vote and entries in one append-only, segmented file.
//!
//! ```text
//! log/00000000000000000007.log   oldest segment still needed
//! log/00000000000000000008.log
//! log/00000000000000000009.log   the last: frames are appended here
//! ```
//!
//! A call of [`write`](LogStore::write) is one frame: one write and one `fdatasync`, however many entries, votes and
//! truncations it holds. Removing entries appends a record that says so, and nothing is ever overwritten, so a crash leaves
//! the log of before or of after the call (catalogue D08, D16). Each segment starts with the term, the vote and the bounds
//! of the log at that moment; a segment whose entries are all compacted is deleted after the record that says so was synced.
//! A segment gets its name only once its start is durable.
//!
//! Byte layouts: frames in `wal/frame.rs`, records in `wal/record.rs`.

mod frame;
mod record;
mod recovery;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raft_types::{EntryId, LogIndex};

use super::fs::{File, FileSystem, LockGuard};
use super::memory::misfit;
use super::shape::Shape;
use super::{LogStore, Recovered, StorageError};
use crate::core::Write;

/// Tunables of a [`FileLog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogOptions {
    /// A segment of this many bytes or more is closed and the next one started. Default 16 MiB. Smaller frees disk space
    /// sooner after a compaction and costs two more syncs for each segment.
    pub segment_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20 }
    }
}

/// The buffer for a batch is given back when a batch made it larger than this.
const BUFFER_KEPT: usize = 4 << 20;

/// A log in files: one write and one `fdatasync` for each call of [`LogStore::write`], whatever it holds.
///
/// The first error of a write or sync makes every later call fail without touching the disk (catalogue D01); open the log
/// again to find out what is there.
pub struct FileLog {
    fs: Arc<dyn FileSystem>,
    directory: PathBuf,
    options: LogOptions,
    /// A log without any segment is damage, not a new log.
    must_exist: bool,
    /// Kept for as long as the log may be written.
    _lock: Option<Arc<dyn LockGuard>>,
    active: Option<Active>,
    poisoned: bool,
    buffer: Vec<u8>,
}

impl fmt::Debug for FileLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, options, poisoned, .. } = self;
        f.debug_struct("FileLog")
            .field("directory", directory)
            .field("options", options)
            .field("poisoned", poisoned)
            .finish_non_exhaustive()
    }
}

/// What is known once the log was read.
struct Active {
    file: Box<dyn File>,
    path: PathBuf,
    /// Where the next frame goes.
    offset: u64,
    /// All bytes before this offset are durable.
    synced: u64,
    /// The segment has its size; nothing unsynced is in it.
    full: bool,
    shape: Shape,
    segments: Segments,
}

/// Which entries each segment holds, as far as it takes to know when it is no longer needed.
#[derive(Debug, Default)]
struct Segments {
    /// Oldest first: sequence, and an index at or above every live entry in it.
    list: VecDeque<(u64, LogIndex)>,
}

impl Segments {
    fn current(&self) -> u64 {
        self.list.back().map_or(0, |(sequence, _)| *sequence)
    }

    fn push(&mut self, sequence: u64) {
        self.list.push_back((sequence, LogIndex::ZERO));
    }

    fn appended(&mut self, last: LogIndex) {
        if let Some((_, high)) = self.list.back_mut() {
            *high = last;
        }
    }

    fn truncated(&mut self, from: LogIndex) {
        for (_, high) in &mut self.list {
            *high = (*high).min(from.previous());
        }
    }

    fn reset(&mut self) {
        for (_, high) in &mut self.list {
            *high = LogIndex::ZERO;
        }
    }

    /// The oldest segment that holds an entry behind `base`; the current one if none does.
    fn first_needed(&self, base: EntryId) -> u64 {
        self.list
            .iter()
            .find(|(_, high)| *high > base.index)
            .map_or_else(|| self.current(), |(sequence, _)| *sequence)
    }

    /// Takes a segment older than `first` off the list.
    fn pop_before(&mut self, first: u64) -> Option<u64> {
        let sequence = self.list.front()?.0;
        (sequence < first).then(|| {
            self.list.pop_front();
            sequence
        })
    }
}

impl FileLog {
    /// A log in this directory, which exists. Nothing is read or written before [`LogStore::recover`].
    #[must_use]
    pub fn new(fs: Arc<dyn FileSystem>, directory: impl Into<PathBuf>, options: LogOptions) -> Self {
        Self {
            fs,
            directory: directory.into(),
            options,
            must_exist: false,
            _lock: None,
            active: None,
            poisoned: false,
            buffer: Vec::new(),
        }
    }

    /// The same, for a log that is known to have been there: its absence is an error. The lock is held as long as the log.
    pub(super) fn existing(mut self, lock: Arc<dyn LockGuard>) -> Self {
        self.must_exist = true;
        self._lock = Some(lock);
        self
    }

    /// Makes the first segment unless there is one.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn initialise(&self) -> Result<(), StorageError> {
        if recovery::sequences(self.fs.as_ref(), &self.directory)?.is_empty() {
            self.start_segment(1, &Shape::default(), 1)?;
        }
        Ok(())
    }

    fn segment_path(&self, sequence: u64) -> PathBuf {
        segment_path(&self.directory, sequence)
    }

    /// Makes a segment durable under its name; gives the open file and where its first frame ends.
    fn start_segment(
        &self,
        sequence: u64,
        shape: &Shape,
        first_segment: u64,
    ) -> Result<(Box<dyn File>, u64), StorageError> {
        let path = self.segment_path(sequence);
        let beside = path.with_extension("tmp");
        let mut bytes = Vec::with_capacity(256);
        frame::put_preamble(&mut bytes);
        let start = bytes.len();
        frame::begin(&mut bytes);
        record::put_start(&mut bytes, record::Start { base: shape.base, last: shape.last, first_segment });
        record::put_hard_state(&mut bytes, &shape.hard_state);
        record::put_commit(&mut bytes, shape.commit);
        frame::finish(&mut bytes, start, sequence, start as u64, 0)
            .map_err(|detail| misfit(path.display(), &detail))?;
        let make = || -> io::Result<Box<dyn File>> {
            let mut file = self.fs.create(&beside)?;
            file.write_at(0, &bytes)?;
            file.sync_data()?;
            self.fs.rename(&beside, &path)?;
            self.fs.sync_dir(&self.directory)?;
            Ok(file)
        };
        let file = make().map_err(|error| StorageError::io("start", path.display(), error))?;
        Ok((file, bytes.len() as u64))
    }

    fn try_write(&mut self, writes: &[Write]) -> Result<(), StorageError> {
        let Some(mut active) = self.active.take() else {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "the log was not recovered first");
            return Err(StorageError::io("write", self.directory.display(), error));
        };
        if active.full {
            let sequence = active.segments.current() + 1;
            active.segments.push(sequence);
            let first = active.segments.first_needed(active.shape.base);
            let (file, offset) = self.start_segment(sequence, &active.shape, first)?;
            active.file = file;
            active.path = self.segment_path(sequence);
            (active.offset, active.synced, active.full) = (offset, offset, false);
        }
        let needed = self.encode(&mut active, writes)?;
        active
            .file
            .write_at(active.offset, &self.buffer)
            .map_err(|error| StorageError::io("write", active.path.display(), error))?;
        active.file.sync_data().map_err(|error| StorageError::io("sync", active.path.display(), error))?;
        active.offset += self.buffer.len() as u64;
        active.synced = active.offset;
        while let Some(sequence) = active.segments.pop_before(needed) {
            remove_segment(self.fs.as_ref(), &segment_path(&self.directory, sequence));
        }
        active.full = active.offset >= self.options.segment_bytes;
        if !active.full && mark(&mut active).is_err() {
            // What was asked for is durable. Only the next write cannot stand behind half a mark.
            self.poisoned = true;
        }
        self.active = Some(active);
        Ok(())
    }

    /// Puts the frame of these writes into the buffer. Gives the oldest segment that is still needed as the records in it say;
    /// recovery goes by them, so more must not be deleted.
    fn encode(&mut self, active: &mut Active, writes: &[Write]) -> Result<u64, StorageError> {
        let mut needed = 0;
        let buffer = &mut self.buffer;
        if buffer.capacity() > BUFFER_KEPT {
            *buffer = Vec::new();
        }
        buffer.clear();
        frame::begin(buffer);
        for write in writes {
            active.shape = std::mem::take(&mut active.shape)
                .after(write)
                .map_err(|detail| misfit(active.path.display(), &detail))?;
            if let Some(hard_state) = &write.hard_state {
                record::put_hard_state(buffer, hard_state);
            }
            if let Some(base) = write.reset_to {
                record::put_reset(buffer, base);
                active.segments.reset();
                needed = active.segments.current();
            }
            if let Some(from) = write.truncate_from {
                record::put_truncate(buffer, from);
                active.segments.truncated(from);
            }
            for entry in &write.entries {
                record::put_entry(buffer, entry);
            }
            if let Some(entry) = write.entries.last() {
                active.segments.appended(entry.id.index);
            }
            if let Some(through) = write.compact_through {
                let first = active.segments.first_needed(active.shape.base);
                record::put_compact(buffer, through, first);
                needed = needed.max(first);
            }
            if let Some(commit) = write.commit {
                record::put_commit(buffer, commit);
            }
        }
        frame::finish(buffer, 0, active.segments.current(), active.offset, active.synced)
            .map_err(|detail| misfit(active.path.display(), &detail))?;
        Ok(needed)
    }
}

/// Notes behind the last frame that all before it is durable, so that damage to it is not taken for an interrupted write.
/// Not synced itself: the next sync makes it durable, and if there is none, the page cache keeps it unless power fails.
fn mark(active: &mut Active) -> Result<(), StorageError> {
    let mut bytes = Vec::with_capacity(frame::HEADER_LEN);
    frame::begin(&mut bytes);
    frame::finish(&mut bytes, 0, active.segments.current(), active.offset, active.synced)
        .map_err(|detail| misfit(active.path.display(), &detail))?;
    active
        .file
        .write_at(active.offset, &bytes)
        .map_err(|error| StorageError::io("write", active.path.display(), error))?;
    active.offset += bytes.len() as u64;
    Ok(())
}

fn segment_path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:020}.log"))
}

/// A segment that stays costs space only: it is older than the log's start, and the next recovery removes it.
fn remove_segment(fs: &dyn FileSystem, path: &Path) {
    if let Err(error) = fs.remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "could not remove an old log segment");
    }
}

impl LogStore for FileLog {
    fn recover(&mut self) -> Result<Recovered, StorageError> {
        let recovery::Found { recovered, mut active, unmarked } = recovery::run(self)?;
        // A full disk does not keep the log from being read.
        self.poisoned = unmarked && mark(&mut active).is_err();
        self.active = Some(active);
        Ok(recovered)
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StorageError> {
        if self.poisoned {
            let error =
                io::Error::other("an earlier write failed; what is durable is unknown until a restart");
            return Err(StorageError::io("write", self.directory.display(), error));
        }
        if writes.iter().all(is_empty) {
            return Ok(());
        }
        let result = self.try_write(writes);
        if result.is_err() {
            self.poisoned = true;
            self.active = None;
        }
        result
    }
}

/// A commit index alone is not worth a sync.
const fn is_empty(write: &Write) -> bool {
    let Write { id: _, hard_state, reset_to, truncate_from, entries, compact_through, commit: _ } = write;
    hard_state.is_none()
        && reset_to.is_none()
        && truncate_from.is_none()
        && entries.is_empty()
        && compact_through.is_none()
}

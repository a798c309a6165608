//! Snapshots in files, in the layout of hashicorp/raft, so that its tools and ours read each other's.
//!
//! ```text
//! snapshots/
//!   7-42-1795176681949/        <term>-<index>-<milliseconds since 1970>
//!     meta.json                one line: what it stands for, size and checksum of the state
//!     state.bin                the state machine's bytes
//!   8-50-1795176690000.tmp/    being written, or left behind by a crash and removed at the next start
//! ```
//!
//! Written in this order, so that a crash leaves a whole snapshot or none (catalogue D05): meta.json without checksum,
//! state.bin, sync, meta.json again, sync, sync of the names, rename, sync of `snapshots`, and only then the removal of old ones.

mod crc64;
mod meta;

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use raft_types::EntryId;

use self::crc64::Crc64;
use self::meta::StoredMeta;
use super::fs::{File, FileSystem, LockGuard, StdFileSystem, read_file};
use super::{RETAINED_MIN, SnapshotSink, SnapshotStore, StorageError};
use crate::core::SnapshotMeta;

const BUFFER: usize = 256 << 10;
/// Far above what any cluster's configuration takes; a larger meta.json is not read.
const META_BYTES_MAX: u64 = 16 << 20;

/// Snapshots in a directory. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct FileSnapshots {
    fs: Arc<dyn FileSystem>,
    directory: PathBuf,
    retain: usize,
    /// Directories whose state turned out damaged; they are passed over from then on.
    damaged: Arc<Mutex<BTreeSet<String>>>,
    milliseconds: fn() -> u64,
    _lock: Option<Arc<dyn LockGuard>>,
}

/// The wall clock, for the name of a snapshot's directory and nothing else: hashicorp/raft's layout has it there.
#[allow(clippy::disallowed_methods, reason = "only part of a name; no decision depends on it")]
fn wall_clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A snapshot as found on disk.
struct Stored {
    name: String,
    meta: StoredMeta,
}

impl FileSnapshots {
    /// The snapshots in this directory, which is made if needed. The `retain` newest are kept, at least two. What an
    /// interrupted write left is removed.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(directory: impl Into<PathBuf>, retain: usize) -> Result<Self, StorageError> {
        Self::open_on(StdFileSystem::shared(), directory, retain)
    }

    /// The same on another file system.
    ///
    /// # Errors
    /// As [`FileSnapshots::open`].
    pub fn open_on(
        fs: Arc<dyn FileSystem>,
        directory: impl Into<PathBuf>,
        retain: usize,
    ) -> Result<Self, StorageError> {
        let store = Self {
            fs,
            directory: directory.into(),
            retain: retain.max(RETAINED_MIN),
            damaged: Arc::default(),
            milliseconds: wall_clock,
            _lock: None,
        };
        store.fs.create_dir_all(&store.directory).map_err(|error| store.failed("create", error))?;
        for name in store.names()?.iter().filter(|name| name.ends_with(".tmp")) {
            let path = store.directory.join(name);
            store
                .fs
                .remove_dir_all(&path)
                .map_err(|error| StorageError::io("remove", path.display(), error))?;
        }
        // A process that was killed may have left a name that only the cache knows; the log is compacted behind it.
        store.fs.sync_dir(&store.directory).map_err(|error| store.failed("sync", error))?;
        Ok(store)
    }

    /// Takes the milliseconds in names from here instead of the wall clock, for tests that must repeat exactly.
    #[must_use]
    pub fn with_clock(mut self, milliseconds_since_1970: fn() -> u64) -> Self {
        self.milliseconds = milliseconds_since_1970;
        self
    }

    pub(super) fn holding(mut self, lock: Arc<dyn LockGuard>) -> Self {
        self._lock = Some(lock);
        self
    }

    fn failed(&self, action: &'static str, error: io::Error) -> StorageError {
        StorageError::io(action, self.directory.display(), error)
    }

    fn names(&self) -> Result<Vec<String>, StorageError> {
        self.fs.list(&self.directory).map_err(|error| self.failed("list", error))
    }

    /// All snapshots that read well, newest first: by term, then index, then name.
    fn stored(&self) -> Result<Vec<Stored>, StorageError> {
        let mut stored = Vec::new();
        for name in self.names()? {
            if name.ends_with(".tmp") || self.is_damaged(&name) {
                continue;
            }
            match self.read_meta(&name) {
                Ok(meta) => stored.push(Stored { name, meta }),
                Err(error) => tracing::warn!(snapshot = name, %error, "passed over an unreadable snapshot"),
            }
        }
        stored.sort_by(|a, b| (b.meta.meta.last, &b.name).cmp(&(a.meta.meta.last, &a.name)));
        Ok(stored)
    }

    fn read_meta(&self, name: &str) -> io::Result<StoredMeta> {
        let path = self.directory.join(name);
        let file = path.join("meta.json");
        if self.fs.file_len(&file)? > META_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "meta.json is too large"));
        }
        let meta = StoredMeta::decode(&read_file(self.fs.as_ref(), &file)?)
            .map_err(|detail| io::Error::new(io::ErrorKind::InvalidData, detail))?;
        let length = self.fs.file_len(&path.join("state.bin"))?;
        if length != meta.meta.size {
            let detail = format!("state.bin has {length} bytes instead of {}", meta.meta.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
        }
        Ok(meta)
    }

    fn is_damaged(&self, name: &str) -> bool {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn set_damaged(&self, name: &str) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// Reads all of the state once to compare the checksum.
    fn verify(&self, path: &Path, expected: u64) -> Result<(), StorageError> {
        let read = || -> io::Result<u64> {
            let mut reader = self.fs.reader(path)?;
            let mut crc = Crc64::default();
            let mut buffer = vec![0; BUFFER];
            loop {
                match reader.read(&mut buffer) {
                    Ok(0) => return Ok(crc.value()),
                    Ok(count) => crc.update(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        };
        let found = read().map_err(|error| StorageError::io("read", path.display(), error))?;
        if found == expected {
            return Ok(());
        }
        Err(StorageError::Corrupt {
            path: path.display().to_string(),
            offset: 0,
            detail: format!("the checksum is {found:016x} instead of {expected:016x}"),
        })
    }

    fn take_away(&self, name: &str) -> io::Result<()> {
        // Under another name first: a half removed directory is then no snapshot, and goes at the next start.
        let doomed = self.directory.join(format!("{name}.tmp"));
        self.fs.rename(&self.directory.join(name), &doomed)?;
        self.fs.sync_dir(&self.directory)?;
        self.fs.remove_dir_all(&doomed)
    }

    /// Removes what is beyond the number to keep. Failure costs space only.
    fn reap(&self) -> Result<(), StorageError> {
        for old in self.stored()?.iter().skip(self.retain) {
            if let Err(error) = self.take_away(&old.name) {
                tracing::warn!(snapshot = old.name, %error, "could not remove an old snapshot");
            }
        }
        Ok(())
    }
}

impl SnapshotStore for FileSnapshots {
    fn create(&self, meta: &SnapshotMeta) -> Result<Box<dyn SnapshotSink>, StorageError> {
        let mut milliseconds = (self.milliseconds)();
        let (name, unfinished) = loop {
            let name = format!("{}-{}-{milliseconds}", meta.last.term, meta.last.index);
            let unfinished = self.directory.join(format!("{name}.tmp"));
            let finished = self.directory.join(&name);
            if self.fs.list(&finished).is_err() {
                match self.fs.create_dir(&unfinished) {
                    Ok(()) => break (name, unfinished),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(StorageError::io("create", unfinished.display(), error)),
                }
            }
            milliseconds += 1;
        };
        let begin = || -> io::Result<(Box<dyn File>, Box<dyn File>)> {
            let empty = StoredMeta { meta: SnapshotMeta { size: 0, ..meta.clone() }, crc: None };
            let mut meta_file = self.fs.create(&unfinished.join("meta.json"))?;
            meta_file.write_at(0, &empty.encode(&name)?)?;
            Ok((meta_file, self.fs.create(&unfinished.join("state.bin"))?))
        };
        match begin() {
            Ok((meta_file, state_file)) => Ok(Box::new(FileSink {
                store: self.clone(),
                meta: meta.clone(),
                name,
                unfinished: Some(unfinished),
                meta_file,
                state_file,
                crc: Crc64::default(),
                written: 0,
                buffer: Vec::with_capacity(BUFFER),
                failed: false,
            })),
            Err(error) => {
                let failed = StorageError::io("create", unfinished.display(), error);
                discard(self.fs.as_ref(), &unfinished);
                Err(failed)
            }
        }
    }

    fn latest(&self) -> Result<Option<SnapshotMeta>, StorageError> {
        Ok(self.stored()?.into_iter().next().map(|stored| stored.meta.meta))
    }

    /// A snapshot whose checksum does not fit is passed over from then on, so [`SnapshotStore::latest`] names the next older
    /// one.
    fn open(&self, last: EntryId) -> Result<(SnapshotMeta, Box<dyn Read + Send>), StorageError> {
        let found = self.stored()?.into_iter().find(|stored| stored.meta.meta.last == last);
        let Stored { name, meta } = found.ok_or(StorageError::NoSnapshot { last })?;
        let path = self.directory.join(&name).join("state.bin");
        self.verify(&path, meta.crc.unwrap_or(0)).inspect_err(|error| {
            if matches!(error, StorageError::Corrupt { .. }) {
                self.set_damaged(&name);
            }
        })?;
        let reader =
            self.fs.reader(&path).map_err(|error| StorageError::io("read", path.display(), error))?;
        Ok((meta.meta, reader))
    }

    fn remove(&self, last: EntryId) -> Result<(), StorageError> {
        for stored in self.stored()?.iter().filter(|stored| stored.meta.meta.last == last) {
            let path = self.directory.join(&stored.name);
            self.take_away(&stored.name)
                .map_err(|error| StorageError::io("remove", path.display(), error))?;
        }
        Ok(())
    }
}

fn discard(fs: &dyn FileSystem, path: &Path) {
    if let Err(error) = fs.remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "could not remove an unfinished snapshot");
    }
}

struct FileSink {
    store: FileSnapshots,
    meta: SnapshotMeta,
    name: String,
    /// The directory to discard, under the name that it has now; `None` once the snapshot counts.
    unfinished: Option<PathBuf>,
    meta_file: Box<dyn File>,
    state_file: Box<dyn File>,
    crc: Crc64,
    /// Bytes handed to the file.
    written: u64,
    buffer: Vec<u8>,
    /// A write failed: the file may lack bytes in the middle, so it must never count.
    failed: bool,
}

impl FileSink {
    fn write_through(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier write of this snapshot failed"));
        }
        self.failed = true;
        self.state_file.write_at(self.written, bytes)?;
        self.failed = false;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = if buffer.is_empty() { Ok(()) } else { self.write_through(&buffer) };
        buffer.clear();
        self.buffer = buffer;
        result
    }

    fn try_finish(&mut self, unfinished: &Path) -> io::Result<SnapshotMeta> {
        self.flush_buffer()?;
        if self.failed {
            return Err(io::Error::other("an earlier write of this snapshot failed"));
        }
        self.state_file.sync_data()?;
        let meta = SnapshotMeta { size: self.written, ..self.meta.clone() };
        let stored = StoredMeta { meta: meta.clone(), crc: Some(self.crc.value()) };
        let text = stored.encode(&self.name)?;
        self.meta_file.set_len(0)?;
        self.meta_file.write_at(0, &text)?;
        self.meta_file.sync_data()?;
        let store = &self.store;
        store.fs.sync_dir(unfinished)?;
        let finished = store.directory.join(&self.name);
        store.fs.rename(unfinished, &finished)?;
        self.unfinished = Some(finished);
        store.fs.sync_dir(&store.directory)?;
        Ok(meta)
    }
}

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush_buffer()?;
        }
        if bytes.len() >= BUFFER {
            self.write_through(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.crc.update(bytes);
        Ok(bytes.len())
    }

    /// Hands everything to the file system; durable only after [`SnapshotSink::finish`].
    fn flush(&mut self) -> io::Result<()> {
        self.flush_buffer()
    }
}

impl SnapshotSink for FileSink {
    fn finish(mut self: Box<Self>) -> Result<SnapshotMeta, StorageError> {
        let unfinished = self.unfinished.clone().unwrap_or_default();
        let meta = self
            .try_finish(&unfinished)
            .map_err(|error| StorageError::io("write snapshot", unfinished.display(), error))?;
        self.unfinished = None;
        // The new one is durable whatever becomes of the old ones.
        if let Err(error) = self.store.reap() {
            tracing::warn!(%error, "could not look for old snapshots");
        }
        Ok(meta)
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            discard(self.store.fs.as_ref(), unfinished);
        }
    }
}

//! The real stores of a server over a simulated file system, and what goes wrong with it.
//!
//! ```text
//! writes ──► FileLog ────────┐
//! snapshots ► FileSnapshots ─┴─► MemoryFileSystem ── crash ──► DataDirectory::open, recover, latest, open
//! ```
//!
//! A crash stops the stores at a random operation in the middle of what was under way, then keeps a random part of what
//! was not synced. The next start reads everything back with the stores' own code.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use raft::core::{SnapshotMeta, Write};
use raft::storage::{
    CrashChoice, DataDirectory, FileLog, FileSnapshots, FileSystem, Kept, LogOptions, LogStore, LostPages,
    MemoryFileSystem, Recovered, SnapshotStore, StorageError, Torn,
};
use raft::{EntryId, ServerId};
use rand::RngExt;

use crate::machine::{Machine, Snapshot};
use crate::random::{Random, chance};

/// Snapshots that stay on disk.
pub(super) const RETAIN: usize = 3;
const DATA: &str = "data";

/// The stores of one server and the disk below them.
#[derive(Debug)]
pub struct Files {
    fs: MemoryFileSystem,
    segment_bytes: u64,
    open: Option<Open>,
    /// A fault is switched on: calls may fail until the next crash.
    armed: bool,
    /// Bytes at rest were damaged: the next start may refuse them.
    rotten: bool,
}

#[derive(Debug)]
struct Open {
    log: FileLog,
    snapshots: FileSnapshots,
}

/// What a start found.
#[derive(Debug)]
pub struct Found {
    /// Term, vote and log.
    pub recovered: Recovered,
    /// The newest snapshot.
    pub snapshot: Option<Snapshot>,
}

/// Keeps a random part of what was not synced.
struct Dice<'a>(&'a mut Random);

impl CrashChoice for Dice<'_> {
    fn file(&mut self, _path: &Path, units: u64) -> Kept {
        let kept = match self.0.random_range(0..10) {
            0..=2 => 0,
            3..=4 => u64::MAX,
            _ => self.0.random_range(0..=units),
        };
        let torn = [Torn::Cut, Torn::Zeros, Torn::Garbage][self.0.random_range(0..3)];
        Kept { units: kept, torn, hole: chance(self.0, 200) }
    }

    fn name(&mut self, _path: &Path) -> bool {
        chance(self.0, 500)
    }
}

impl Files {
    /// An empty disk.
    #[must_use]
    pub fn new(segment_bytes: u64) -> Self {
        Self { fs: MemoryFileSystem::new(), segment_bytes, open: None, armed: false, rotten: false }
    }

    /// An image of the disk, with the stores closed.
    #[must_use]
    pub fn image(&self) -> Self {
        Self { fs: self.fs.image(), open: None, ..*self }
    }

    /// Whether a fault is switched on.
    #[must_use]
    pub const fn is_armed(&self) -> bool {
        self.armed
    }

    /// Whether bytes at rest were damaged since the last start.
    #[must_use]
    pub const fn is_rotten(&self) -> bool {
        self.rotten
    }

    /// From now on syncs fail, once or for ever; what the failed one should have written may be lost.
    pub fn fail_syncs(&mut self, random: &mut Random) {
        let pages = if chance(random, 500) { LostPages::Lost } else { LostPages::Kept };
        self.fs.fail_syncs(if chance(random, 500) { 1 } else { u64::MAX }, pages);
        self.armed = true;
    }

    /// From now on there is room for a few bytes only.
    pub fn fill(&mut self, random: &mut Random) {
        self.fs.set_capacity(Some(self.fs.used() + random.random_range(0..2000)));
        self.armed = true;
    }

    /// Carries out a batch of writes. False when the disk failed, so that what is durable is unknown.
    ///
    /// # Errors
    /// The store refused although nothing was wrong with the disk.
    pub fn write(&mut self, batch: &[Write]) -> Result<bool, String> {
        let Some(open) = &mut self.open else { return Err("a write to a closed store".to_owned()) };
        match open.log.write(batch) {
            Ok(()) => Ok(true),
            Err(_) if self.armed => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Stores a snapshot. `None` when the disk failed.
    ///
    /// # Errors
    /// The store refused although nothing was wrong with the disk.
    pub fn store(&mut self, snapshot: &Snapshot) -> Result<Option<SnapshotMeta>, String> {
        let Some(open) = &self.open else { return Err("a snapshot for a closed store".to_owned()) };
        let stored = open.snapshots.create(&snapshot.meta).and_then(|mut sink| {
            let state = snapshot.state.encode();
            std::io::Write::write_all(&mut sink, &state)
                .map_err(|error| StorageError::io("write", "a snapshot", error))?;
            sink.finish()
        });
        match stored {
            Ok(meta) => Ok(Some(meta)),
            Err(_) if self.armed => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Removes a snapshot. False when the disk failed.
    pub fn remove(&mut self, last: EntryId) -> bool {
        self.open.as_ref().is_some_and(|open| open.snapshots.remove(last).is_ok())
    }

    /// Reads a snapshot back; `None` if there is none at this entry.
    ///
    /// # Errors
    /// It is there but cannot be read.
    pub fn read(&self, last: EntryId) -> Result<Option<Snapshot>, String> {
        let Some(open) = &self.open else { return Err("a closed store is read".to_owned()) };
        match read_snapshot(&open.snapshots, last) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(StorageError::NoSnapshot { .. }) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Stops the stores in the middle of a batch of writes or of a snapshot, at any operation. True if the batch was
    /// durable nevertheless.
    pub fn interrupt(&mut self, random: &mut Random, batch: &[Write], snapshot: Option<&Snapshot>) -> bool {
        if let Some(snapshot) = snapshot {
            self.fs.stop_after(Some(random.random_range(0..14)));
            self.armed = true;
            // Whether it counts is for the next start to find out.
            let _ = self.store(snapshot);
        }
        self.fs.stop_after(Some(random.random_range(0..9)));
        self.armed = true;
        self.write(batch).is_ok_and(|durable| durable)
    }

    /// The process dies; with `power`, the machine does, and what was not synced is kept in part.
    pub fn crash(&mut self, random: &mut Random, power: bool) {
        self.open = None;
        if power {
            self.fs.crash(&mut Dice(random));
        } else {
            self.fs.kill();
        }
        self.armed = false;
    }

    /// Starts on what is there. Some starts are interrupted themselves, and begin again.
    ///
    /// # Errors
    /// What a real server would refuse to start with.
    pub fn start(&mut self, random: &mut Random, id: &ServerId) -> Result<Found, StorageError> {
        if chance(random, 100) {
            self.fs.stop_after(Some(random.random_range(0..12)));
            let interrupted = self.read_all(id).is_err();
            let power = chance(random, 700);
            self.crash(random, power);
            if interrupted {
                // Once more, so that leftovers of the leftovers are met too.
                self.fs.stop_after(Some(random.random_range(0..12)));
                let _ = self.read_all(id);
                self.crash(random, true);
            }
        }
        let found = self.read_all(id);
        self.rotten &= found.is_err();
        found
    }

    fn read_all(&mut self, id: &ServerId) -> Result<Found, StorageError> {
        self.open = None;
        let mut directory = DataDirectory::open_on(Arc::new(self.fs.clone()), DATA)?;
        directory.bind_id(id)?;
        let mut options = LogOptions::default();
        options.segment_bytes = self.segment_bytes;
        let mut log = directory.log(options)?;
        let snapshots = directory.snapshots(RETAIN)?.with_clock(|| 1000);
        let recovered = log.recover()?;
        let newest = snapshots.latest()?;
        let snapshot = newest.map(|meta| read_snapshot(&snapshots, meta.last)).transpose()?;
        self.open = Some(Open { log, snapshots });
        Ok(Found { recovered, snapshot })
    }

    /// Damages bytes at rest that are known to be durable: a flipped bit, or a write for elsewhere that landed here.
    /// Says where.
    pub fn rot(&mut self, random: &mut Random) -> Option<String> {
        let (path, range) = if chance(random, 300) { self.state_bytes() } else { None }
            .or_else(|| self.sealed_bytes(random))?;
        let offset = random.random_range(0..range);
        if chance(random, 500) {
            self.fs.flip(&path, offset, 1 << random.random_range(0..8));
        } else {
            let content = self.fs.content(&path).ok()?;
            let from = random.random_range(0..content.len());
            let mut changed = false;
            for (at, byte) in content.iter().skip(from).take(64).enumerate() {
                let target = offset + at as u64;
                let Some(old) = usize::try_from(target).ok().and_then(|at| content.get(at)) else { break };
                if target < range && old != byte {
                    self.fs.flip(&path, target, old ^ byte);
                    changed = true;
                }
            }
            if !changed {
                self.fs.flip(&path, offset, 0xff);
            }
        }
        self.rotten = true;
        Some(format!("{} from byte {offset} on", path.display()))
    }

    /// The newest snapshot's state.
    fn state_bytes(&self) -> Option<(PathBuf, u64)> {
        let directory = Path::new(DATA).join("snapshots");
        let name = self.fs.list(&directory).ok()?.pop()?;
        let path = directory.join(name).join("state.bin");
        let length = self.fs.file_len(&path).ok()?;
        (length > 0).then_some((path, length))
    }

    /// A segment of the log, as far as a later write proves it to be durable.
    fn sealed_bytes(&self, random: &mut Random) -> Option<(PathBuf, u64)> {
        let directory = Path::new(DATA).join("log");
        let mut names = self.fs.list(&directory).ok()?;
        names.retain(|name| name.ends_with(".log"));
        let last = names.pop()?;
        if names.is_empty() {
            // The last segment has its name only since its start is durable.
            return Some((directory.join(last), 16));
        }
        let path = directory.join(names.swap_remove(random.random_range(0..names.len())));
        let length = self.fs.file_len(&path).ok()?;
        (length > 0).then_some((path, length))
    }
}

fn read_snapshot(snapshots: &FileSnapshots, last: EntryId) -> Result<Snapshot, StorageError> {
    let (meta, mut reader) = snapshots.open(last)?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut bytes)
        .map_err(|error| StorageError::io("read", "a snapshot", error))?;
    let state = Machine::decode(&meta, &bytes).ok_or_else(|| StorageError::Corrupt {
        path: format!("the snapshot at {last}"),
        offset: 0,
        detail: "no state machine's".to_owned(),
    })?;
    Ok(Snapshot { meta, state: Arc::new(state) })
}

//! A server's disk: what is durable, and the writes that are not yet.
//!
//! [`Disk`] says what must be durable; the invariants are judged by it. Below it lie the real stores ([`files`]), which are
//! read back at every start and must hold exactly that, or that and the whole batch that was interrupted. Without them
//! it is the disk: faster, and where a planted defect spoils what a restart finds.

pub mod files;

use std::collections::VecDeque;

use raft::core::{Entry, EntryKind, HardState, SnapshotMeta, Write, WriteId};
use raft::storage::StorageError;
use raft::{Configuration, EntryId, LogIndex, ServerId, Term, Time};
use rand::RngExt;

use self::files::Files;
use crate::machine::Snapshot;
use crate::mutant::Mutant;
use crate::random::{Random, chance};

/// A log as the writes make it; once for what the server holds in memory, once for what is durable.
#[derive(Clone, Debug, Default)]
pub struct LogImage {
    /// The entry before the first one.
    pub base: EntryId,
    /// Consecutive entries.
    pub entries: VecDeque<Entry>,
    /// The highest commit index that a write carried.
    pub commit: LogIndex,
}

impl LogImage {
    /// The last entry.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.entries.back().map_or(self.base, |entry| entry.id)
    }

    /// The term at an index, if it is here.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.id.term)
    }

    /// The entry at an index, if it is here.
    #[must_use]
    pub fn get(&self, index: LogIndex) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// Whether this entry is here or was compacted.
    #[must_use]
    pub fn holds(&self, id: EntryId) -> bool {
        id.index < self.base.index || self.term_at(id.index) == Some(id.term)
    }

    /// Whether this entry is here.
    #[must_use]
    pub fn lists(&self, id: EntryId) -> bool {
        self.get(id.index).is_some_and(|entry| entry.id == id)
    }

    /// The newest configuration in the log or, failing that, in the snapshot.
    #[must_use]
    pub fn configuration(&self, snapshot: Option<&SnapshotMeta>) -> (LogIndex, Configuration) {
        let logged = self.entries.iter().rev().find_map(|entry| match &entry.kind {
            EntryKind::Configuration(configuration) => Some((entry.id.index, configuration.clone())),
            EntryKind::Command | EntryKind::Noop | EntryKind::Barrier => None,
        });
        let stored = snapshot.map(|meta| (meta.configuration_index, meta.configuration.clone()));
        match (logged, stored) {
            (Some(logged), Some(stored)) if stored.0 > logged.0 => stored,
            (Some(logged), _) => logged,
            (None, stored) => stored.unwrap_or_default(),
        }
    }

    /// Carries out the part of a write that is about the log.
    ///
    /// # Errors
    /// A write that would leave a hole or remove what is not there.
    pub fn apply(&mut self, write: &Write) -> Result<(), String> {
        if let Some(base) = write.reset_to {
            self.base = base;
            self.entries.clear();
            self.commit = LogIndex::ZERO;
        }
        if let Some(from) = write.truncate_from {
            if from <= self.base.index {
                return Err(format!("truncates from {from}, but the log starts after {}", self.base));
            }
            while self.last().index >= from && self.entries.pop_back().is_some() {}
        }
        for entry in &write.entries {
            if entry.id.index != self.last().index.next() || entry.id.term < self.last().term {
                return Err(format!("writes {} after {}", entry.id, self.last()));
            }
            self.entries.push_back(entry.clone());
        }
        if let Some(through) = write.compact_through {
            if through.index > self.last().index {
                return Err(format!("compacts through {through}, but the log ends at {}", self.last()));
            }
            while self.base.index < through.index {
                self.base = self.entries.pop_front().expect("the last index is not reached yet").id;
            }
        }
        self.commit = self.commit.max(write.commit.unwrap_or_default());
        Ok(())
    }
}

/// One server's disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// Durable term and vote.
    pub hard_state: HardState,
    /// The durable log.
    pub log: LogImage,
    /// Durable snapshots, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Writes that a crash loses.
    pub queue: VecDeque<Write>,
    /// When the newest write is done.
    pub busy_until: Time,
    /// Writes take this many times as long until then.
    pub slow_until: Time,
    /// The device has failed and completes nothing any more.
    pub failed: bool,
    /// The real stores; without them this model is the disk.
    pub files: Option<Files>,
    /// A snapshot that is being written.
    pub writing: Option<Snapshot>,
    /// Writes of which nobody knows whether they reached the disk: all of them or none did.
    doubtful: Vec<Write>,
    /// Snapshots of which nobody knows.
    doubtful_snapshots: Vec<Snapshot>,
}

/// What a start found.
#[derive(Debug)]
pub enum Start {
    /// What was promised.
    Sound,
    /// Damage, and the store said so.
    Refused(StorageError),
}

impl Disk {
    /// A copy of what is durable. Where the real stores hold it, the server must be down, so that nothing changes meanwhile.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            hard_state: self.hard_state.clone(),
            log: self.log.clone(),
            snapshots: self.snapshots.clone(),
            files: self.files.as_ref().map(Files::image),
            doubtful: self.doubtful.clone(),
            doubtful_snapshots: self.doubtful_snapshots.clone(),
            ..Self::default()
        }
    }

    /// The newest snapshot.
    #[must_use]
    pub fn newest(&self) -> Option<&Snapshot> {
        self.snapshots.last()
    }

    /// Whether it has failed, or the next write may.
    #[must_use]
    pub fn is_doomed(&self) -> bool {
        self.failed || self.files.as_ref().is_some_and(Files::is_armed)
    }

    /// Stores a snapshot durably and drops the oldest beyond three. `None` when the disk failed.
    ///
    /// # Errors
    /// The store refused although nothing was wrong with the disk.
    pub fn store(&mut self, mut snapshot: Snapshot) -> Result<Option<SnapshotMeta>, String> {
        if let Some(files) = &mut self.files {
            let Some(meta) = files.store(&snapshot)? else {
                self.doubtful_snapshots.push(snapshot);
                return Ok(None);
            };
            snapshot.meta = meta;
        }
        let meta = snapshot.meta.clone();
        self.keep(snapshot);
        Ok(Some(meta))
    }

    fn keep(&mut self, snapshot: Snapshot) {
        self.snapshots.retain(|known| known.meta.last != snapshot.meta.last);
        self.snapshots.push(snapshot);
        self.snapshots.sort_by_key(|snapshot| snapshot.meta.last);
        if self.snapshots.len() > files::RETAIN {
            self.snapshots.remove(0);
        }
    }

    /// Removes a snapshot durably. False when the disk failed, so that it may still be found.
    pub fn remove(&mut self, last: EntryId) -> bool {
        let removed = self.files.as_mut().is_none_or(|files| files.remove(last));
        let (gone, kept) =
            std::mem::take(&mut self.snapshots).into_iter().partition(|snapshot| snapshot.meta.last == last);
        self.snapshots = kept;
        if !removed {
            self.doubtful_snapshots.extend::<Vec<Snapshot>>(gone);
        }
        removed
    }

    /// Reads a snapshot; `None` if there is none at this entry.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read_snapshot(&self, last: EntryId) -> Result<Option<Snapshot>, String> {
        match &self.files {
            Some(files) => files.read(last),
            None => Ok(self.snapshots.iter().find(|snapshot| snapshot.meta.last == last).cloned()),
        }
    }

    /// Makes all writes up to this one durable, with one sync. False when the disk failed.
    ///
    /// # Errors
    /// A write that does not fit the log, or that the store refused.
    pub fn complete(&mut self, through: WriteId) -> Result<bool, String> {
        let count = self.queue.iter().take_while(|write| write.id <= through).count();
        let batch: Vec<Write> = self.queue.drain(..count).collect();
        if let Some(files) = &mut self.files
            && !files.write(&batch)?
        {
            self.doubtful = batch;
            self.failed = true;
            return Ok(false);
        }
        batch.iter().try_for_each(|write| self.make_durable(write))?;
        Ok(true)
    }

    fn make_durable(&mut self, write: &Write) -> Result<(), String> {
        if let Some(hard_state) = &write.hard_state {
            self.hard_state = hard_state.clone();
        }
        self.log.apply(write)
    }

    /// The process dies, or power fails. Of the writes under way a random prefix reached the disk, the last of them perhaps
    /// in part. True if something was left half done.
    ///
    /// # Errors
    /// A write that does not fit the log.
    pub fn crash(&mut self, random: &mut Random) -> Result<bool, String> {
        let torn = if self.files.is_some() { self.crash_files(random)? } else { self.crash_model(random)? };
        self.queue.clear();
        self.writing = None;
        (self.busy_until, self.slow_until, self.failed) = (Time::ZERO, Time::ZERO, false);
        Ok(torn)
    }

    fn crash_model(&mut self, random: &mut Random) -> Result<bool, String> {
        let whole = random.random_range(0..=self.queue.len());
        let mut torn = false;
        for (position, mut write) in std::mem::take(&mut self.queue).into_iter().enumerate() {
            if position == whole && !write.entries.is_empty() && chance(random, 500) {
                let kept = random.random_range(0..write.entries.len());
                write.entries.truncate(kept);
                (write.compact_through, write.commit) = (None, None);
                self.make_durable(&write)?;
                torn = true;
            }
            if position >= whole {
                break;
            }
            self.make_durable(&write)?;
        }
        Ok(torn)
    }

    fn crash_files(&mut self, random: &mut Random) -> Result<bool, String> {
        let Some(files) = &mut self.files else { return Ok(false) };
        let count = random.random_range(0..=self.queue.len());
        let batch: Vec<Write> = self.queue.drain(..count).collect();
        let mut torn = false;
        if !self.failed && (!batch.is_empty() || self.writing.is_some()) {
            let durable = files.interrupt(random, &batch, self.writing.as_ref());
            self.doubtful_snapshots.extend(self.writing.take());
            torn = !durable;
            if durable {
                batch.iter().try_for_each(|write| {
                    if let Some(hard_state) = &write.hard_state {
                        self.hard_state = hard_state.clone();
                    }
                    self.log.apply(write)
                })?;
            } else {
                self.doubtful = batch;
            }
        }
        let power = chance(random, 700);
        files.crash(random, power);
        Ok(torn)
    }

    /// Reads everything back and compares it with what was promised.
    ///
    /// # Errors
    /// What is there is not what was promised.
    pub fn start(&mut self, random: &mut Random, id: &ServerId) -> Result<Start, String> {
        let Some(files) = &mut self.files else { return Ok(Start::Sound) };
        let rotten = files.is_rotten();
        let found = match files.start(random, id) {
            Ok(found) => found,
            Err(error @ (StorageError::Corrupt { .. } | StorageError::Foreign { .. })) if rotten => {
                return Ok(Start::Refused(error));
            }
            Err(error) => return Err(format!("{id} does not start: {error}")),
        };
        self.adopt_log(id, &found.recovered)?;
        self.adopt_snapshot(id, found.snapshot)?;
        Ok(Start::Sound)
    }

    fn adopt_log(&mut self, id: &ServerId, found: &raft::storage::Recovered) -> Result<(), String> {
        let doubtful = std::mem::take(&mut self.doubtful);
        if self.is(found) {
            return Ok(());
        }
        let promised = format!("{:?}, log {}..{}", self.hard_state, self.log.base, self.log.last());
        doubtful.iter().try_for_each(|write| self.make_durable(write))?;
        if self.is(found) {
            return Ok(());
        }
        let last = found.entries.last().map_or(found.base, |entry| entry.id);
        Err(format!(
            "{id} finds {:?}, log {}..{last} on its disk; promised was {promised}, and {} writes were under way",
            found.hard_state,
            found.base,
            doubtful.len()
        ))
    }

    fn is(&self, found: &raft::storage::Recovered) -> bool {
        self.hard_state == found.hard_state
            && self.log.base == found.base
            && self.log.commit == found.commit
            && self.log.entries.iter().eq(&found.entries)
    }

    fn adopt_snapshot(&mut self, id: &ServerId, found: Option<Snapshot>) -> Result<(), String> {
        let last = |snapshot: &Snapshot| snapshot.meta.last;
        let (newest, at) = (self.newest().map(last), found.as_ref().map(last));
        if at < newest {
            return Err(format!("{id} finds a snapshot at {at:?}, promised was {newest:?}"));
        }
        if let Some(found) = found {
            let same = |known: &&Snapshot| {
                known.meta.last == found.meta.last
                    && known.state.hash == found.state.hash
                    && known.state.values == found.state.values
                    && known.meta.configuration == found.meta.configuration
            };
            if !self.newest().iter().chain(&self.doubtful_snapshots.iter().collect::<Vec<_>>()).any(same) {
                return Err(format!("{id} finds a snapshot at {at:?} that it never took"));
            }
            self.keep(found);
        }
        // One that is not seen now may still come back: its removal may not be durable.
        self.doubtful_snapshots.retain(|snapshot| Some(snapshot.meta.last) > at);
        Ok(())
    }

    /// What a planted defect does to the disk when the server restarts.
    pub fn spoil(&mut self, mutant: Mutant) {
        let kept = self.newest().map_or(LogIndex::ZERO, |snapshot| snapshot.meta.last.index);
        match mutant {
            Mutant::VoteForgotten => self.hard_state.voted_for = None,
            Mutant::TermForgotten => self.hard_state = HardState::default(),
            Mutant::TailForgotten => {
                for _ in 0..3 {
                    if self.log.last().index > kept {
                        self.log.entries.pop_back();
                    }
                }
            }
            Mutant::OldDisk => {
                while self.log.last().index > kept {
                    self.log.entries.pop_back();
                }
                self.hard_state = HardState { term: self.log.last().term, ..HardState::default() };
            }
            Mutant::ConfigurationForgotten => {
                for entry in &mut self.log.entries {
                    if matches!(entry.kind, EntryKind::Configuration(_)) {
                        entry.kind = EntryKind::Noop;
                    }
                }
            }
            Mutant::OutgoingForgotten => {
                for entry in &mut self.log.entries {
                    if let EntryKind::Configuration(configuration) = &mut entry.kind {
                        *configuration = configuration.settled();
                    }
                }
            }
            _ => {}
        }
    }
}

impl LogImage {
    /// A copy as it is after a write's resets and truncations, before its entries.
    ///
    /// # Panics
    /// If the write would leave a hole, which is judged before.
    #[must_use]
    pub fn clone_without_entries_of(&self, write: &Write) -> Self {
        let mut copy = self.clone();
        let only = Write { reset_to: write.reset_to, truncate_from: write.truncate_from, ..Write::default() };
        copy.apply(&only).expect("a write that fits");
        copy
    }
}

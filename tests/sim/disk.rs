//! A server's disk: what is durable, and the writes that are not yet.

use std::collections::VecDeque;

use raft::core::{Entry, EntryKind, HardState, SnapshotMeta, Write, WriteId};
use raft::{Configuration, EntryId, LogIndex, Term, Time};
use rand::RngExt;

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
}

impl Disk {
    /// The newest snapshot.
    #[must_use]
    pub fn newest(&self) -> Option<&Snapshot> {
        self.snapshots.last()
    }

    /// Stores a snapshot durably and drops the oldest beyond three.
    pub fn store(&mut self, snapshot: Snapshot) {
        self.snapshots.retain(|known| known.meta.last != snapshot.meta.last);
        self.snapshots.push(snapshot);
        self.snapshots.sort_by_key(|snapshot| snapshot.meta.last);
        if self.snapshots.len() > 3 {
            self.snapshots.remove(0);
        }
    }

    /// Makes all writes up to this one durable.
    ///
    /// # Errors
    /// A write that does not fit the log.
    pub fn complete(&mut self, through: WriteId) -> Result<(), String> {
        while self.queue.front().is_some_and(|write| write.id <= through) {
            let write = self.queue.pop_front().expect("just seen");
            self.make_durable(&write)?;
        }
        Ok(())
    }

    fn make_durable(&mut self, write: &Write) -> Result<(), String> {
        if let Some(hard_state) = &write.hard_state {
            self.hard_state = hard_state.clone();
        }
        self.log.apply(write)
    }

    /// Power fails. Of the writes under way a random prefix reached the disk, the last of them perhaps in part.
    ///
    /// # Errors
    /// A write that does not fit the log.
    pub fn crash(&mut self, random: &mut Random) -> Result<bool, String> {
        let whole = random.random_range(0..=self.queue.len());
        let mut torn = false;
        for (position, mut write) in std::mem::take(&mut self.queue).into_iter().enumerate() {
            if position == whole && !write.entries.is_empty() && chance(random, 500) {
                let kept = random.random_range(0..write.entries.len());
                write.entries.truncate(kept);
                write.compact_through = None;
                self.make_durable(&write)?;
                torn = true;
            }
            if position >= whole {
                break;
            }
            self.make_durable(&write)?;
        }
        (self.busy_until, self.slow_until, self.failed) = (Time::ZERO, Time::ZERO, false);
        Ok(torn)
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
                self.hard_state = HardState { term: self.log.last().term, voted_for: None };
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

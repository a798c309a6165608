//! The replicated state machine: a hash over everything applied, the list of the commands' values, and the registers
//! that they write.

use std::sync::Arc;

use raft::core::{Entry, EntryKind, SnapshotMeta};
use raft::{Configuration, EntryId, LogIndex};

use crate::linearizable::Answer;
use crate::random::{fold, fold_number};
use crate::register::{Registers, decode};

/// One server's state machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The last entry applied.
    pub last: EntryId,
    /// Stands for everything applied, in order.
    pub hash: u64,
    /// The values of all commands, in order; each is unique.
    pub values: Vec<u64>,
    /// What the commands do.
    pub registers: Registers,
    /// The newest configuration among the entries applied, and where it stands.
    pub configuration: (LogIndex, Configuration),
    /// The newest snapshot from outside in its past: with it the history began anew. Zero if there was none.
    pub restored: EntryId,
}

/// A stored snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What it stands for.
    pub meta: SnapshotMeta,
    /// The state.
    pub state: Arc<Machine>,
}

impl Machine {
    /// Applies the entry that comes next; says what the client of a command is told.
    pub fn apply(&mut self, entry: &Entry) -> Option<Answer> {
        self.last = entry.id;
        self.hash = fold_number(self.hash, fingerprint(entry));
        match &entry.kind {
            EntryKind::Command => {
                self.values.push(value(entry));
                return decode(&entry.data).map(|(key, action)| self.registers.apply(key, action));
            }
            EntryKind::Configuration(configuration) => {
                self.configuration = (entry.id.index, configuration.clone());
            }
            EntryKind::Noop | EntryKind::Barrier => {}
        }
        None
    }

    /// The state as a snapshot's file holds it; the configuration stands beside it in the snapshot's metadata.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (last, restored) = (self.last, self.restored);
        let head = [last.term.0, last.index.0, restored.term.0, restored.index.0, self.hash];
        let head = head.into_iter().chain([self.values.len() as u64]);
        let registers = self.registers.iter().flat_map(|(key, value)| [u64::from(key), value]);
        let numbers = head.chain(self.values.iter().copied()).chain(registers);
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    /// Reads it back; `None` for bytes that [`Machine::encode`] never writes.
    #[must_use]
    pub fn decode(meta: &SnapshotMeta, bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let last = EntryId::new(numbers.next()?, numbers.next()?);
        let restored = EntryId::new(numbers.next()?, numbers.next()?);
        let hash = numbers.next()?;
        let count = usize::try_from(numbers.next()?).ok()?;
        let values: Vec<u64> = numbers.by_ref().take(count).collect();
        let mut registers = Vec::new();
        while let Some(key) = numbers.next() {
            registers.push((key.try_into().ok()?, numbers.next()?));
        }
        let whole = rest.is_empty() && values.len() == count;
        let registers = registers.into_iter().collect();
        let configuration = (meta.configuration_index, meta.configuration.clone());
        whole.then_some(Self { last, hash, values, registers, configuration, restored })
    }

    /// This state as a snapshot from outside that stands for `meta`.
    #[must_use]
    pub fn restored_as(&self, meta: &SnapshotMeta) -> Self {
        let (last, restored) = (meta.last, meta.last);
        let hash = fold_number(fold_number(self.hash, last.term.0), last.index.0 ^ 0xbac_0000);
        let configuration = (meta.configuration_index, meta.configuration.clone());
        Self { last, hash, configuration, restored, ..self.clone() }
    }

    /// A snapshot of the present state.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let meta = SnapshotMeta {
            last: self.last,
            configuration: self.configuration.1.clone(),
            configuration_index: self.configuration.0,
            size: 8 * (6 + self.values.len() + 2 * self.registers.iter().count()) as u64,
        };
        Snapshot { meta, state: Arc::new(self.clone()) }
    }
}

/// The value that a command carries in its first eight bytes.
#[must_use]
pub fn value(entry: &Entry) -> u64 {
    entry.data.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Stands for everything in an entry.
#[must_use]
pub fn fingerprint(entry: &Entry) -> u64 {
    let hash = fold_number(entry.id.term.0, entry.id.index.0);
    let hash = fold(hash, &entry.data);
    match &entry.kind {
        EntryKind::Command => fold_number(hash, 1),
        EntryKind::Noop => fold_number(hash, 2),
        EntryKind::Barrier => fold_number(hash, 3),
        EntryKind::Configuration(configuration) => {
            let both = configuration.servers().iter().chain(configuration.outgoing());
            let hash = fold_number(hash, configuration.servers().len() as u64);
            both.fold(hash, |hash, server| {
                let hash =
                    fold(fold(hash, server.id.as_str().as_bytes()), server.address.as_str().as_bytes());
                fold_number(hash, server.suffrage as u64 + 4)
            })
        }
    }
}

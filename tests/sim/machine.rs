//! The replicated state machine: a hash over everything applied, and the list of the commands' values.

use std::sync::Arc;

use raft::core::{Entry, EntryKind, SnapshotMeta};
use raft::{Configuration, EntryId, LogIndex};

use crate::random::{fold, fold_number};

/// One server's state machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The last entry applied.
    pub last: EntryId,
    /// Stands for everything applied, in order.
    pub hash: u64,
    /// The values of all commands, in order; each is unique.
    pub values: Vec<u64>,
    /// The newest configuration among the entries applied, and where it stands.
    pub configuration: (LogIndex, Configuration),
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
    /// Applies the entry that comes next.
    pub fn apply(&mut self, entry: &Entry) {
        self.last = entry.id;
        self.hash = fold_number(self.hash, fingerprint(entry));
        match &entry.kind {
            EntryKind::Command => self.values.push(value(entry)),
            EntryKind::Configuration(configuration) => {
                self.configuration = (entry.id.index, configuration.clone());
            }
            EntryKind::Noop | EntryKind::Barrier => {}
        }
    }

    /// A snapshot of the present state.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let meta = SnapshotMeta {
            last: self.last,
            configuration: self.configuration.1.clone(),
            configuration_index: self.configuration.0,
            size: 8 * self.values.len() as u64,
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

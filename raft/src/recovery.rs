//! Bringing a cluster back after a majority of its servers was lost for good.
//!
//! **What.** An operator says in `peers.json` who makes the cluster from now on, puts the file into the data directory of
//! a survivor and starts it. Everything in that server's log counts as committed: entries that were acknowledged
//! by a lost majority and never reached the survivor are gone, and entries that nobody acknowledged may appear.
//!
//! **How.** The newest snapshot and every entry after it are applied, and the result is stored as a new snapshot with
//! the forced configuration, one index after the last entry and [`RECOVERY_TERMS`] terms later. Only then the log is
//! reset, and only then the file is removed. A crash between any two of these steps leaves a server that
//! either knows nothing of the recovery yet or goes on with it; the forced configuration is durable before
//! anything acts on it (catalogue M16).
//!
//! **Why later in term.** The lost servers may have elected leaders and written entries that the survivor never saw. The
//! jump makes the recovered entry one that none of them can hold, so a lost server that comes back finds no match in the
//! log. It depends on the last entry alone: survivors with equal logs recover to the same entry, and of others the one
//! that an election would have preferred is ahead.
//!
//! **Not here.** A choice between survivors. Recover one server, the one whose last entry is newest by term, then index;
//! clear the data of the others and let them join it. Survivors whose logs ended differently must not be recovered side
//! by side.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use raft_types::{
    Configuration, ConfigurationError, EntryId, Incarnation, LogIndex, Server, ServerAddress, ServerId,
    Suffrage, Term,
};
use serde::Deserialize;

use crate::core::{Entry, EntryKind, HardState, SnapshotMeta, Write, WriteId};
use crate::state_machine::StateMachine;
use crate::storage::{
    DataDirectory, FileSystem, LogOptions, LogStore, Recovered, SnapshotStore, StdFileSystem, StorageError,
};

/// What the file is called, in the data directory.
pub const PEERS_FILE: &str = "peers.json";
/// How many terms the recovered entry lies after the last one found: more elections than any lost server has held.
pub const RECOVERY_TERMS: u64 = 1_000_000;
/// Far above what any cluster's configuration takes; a larger file is not read.
const PEERS_BYTES_MAX: u64 = 1 << 20;
/// Commands handed to the state machine at a time.
const APPLY_BATCH: usize = 1024;

/// Why `peers.json` cannot be used. Nothing was changed; correct the file and try again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeersError {
    /// The operating system refused.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The file is longer than any list of servers.
    #[error("{} has more than {PEERS_BYTES_MAX} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The text is neither of the two forms.
    #[error(
        "{}: {source}; expected [{{\"id\": \"...\", \"address\": \"host:port\", \"non_voter\": false}}, ...] or [\"host:port\", ...]",
        .path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The servers make no valid configuration.
    #[error("{}: {source}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ConfigurationError,
    },
}

/// Why a cluster was not recovered. What was durable before still is; a retry is safe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The file cannot be used. Nothing was changed.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The configuration is not valid. Nothing was changed.
    #[error(transparent)]
    Invalid(#[from] ConfigurationError),
    /// The file is about other servers than this one. Nothing was changed.
    #[error("{PEERS_FILE} does not name this server, {id}; remove the file here, or add this server to it")]
    NotNamed {
        /// This server.
        id: ServerId,
    },
    /// There is neither a log nor a snapshot to recover from. Nothing was changed.
    #[error(
        "there is no Raft state here to recover from; remove {PEERS_FILE} and let this server join the recovered cluster"
    )]
    Empty,
    /// Entries are missing between the newest snapshot and the log. Nothing was changed; a retry fails again.
    #[error(
        "the log starts after {base}, but the newest snapshot ends at {snapshot}: entries are missing between them"
    )]
    Gap {
        /// The entry before the log's first one.
        base: EntryId,
        /// The last entry in the snapshot; zero without one.
        snapshot: EntryId,
    },
    /// No term or index is left. Nothing was changed; a retry fails again.
    #[error("no entry can follow {last}")]
    Exhausted {
        /// The last entry.
        last: EntryId,
    },
    /// The state machine refused its own snapshot. Nothing was changed.
    #[error("the state machine cannot restore the snapshot: {0}")]
    Restore(#[source] io::Error),
    /// The disk failed. The snapshot may have been stored already, with which a restart goes on.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a recovery did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The last entry that was found. It and all before it are in the snapshot.
    pub last: EntryId,
    /// The snapshot from which the server starts now; its configuration is the forced one.
    pub snapshot: SnapshotMeta,
    /// The forced configuration was in place already, as after a crash between two steps.
    pub repeated: bool,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "recovered everything through {}; the cluster is now", self.last)?;
        for (position, server) in self.snapshot.configuration.servers().iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            let vote = if server.suffrage == Suffrage::Voter { "" } else { ", without a vote" };
            write!(f, "{comma} {} ({}{vote})", server.id, server.address)?;
        }
        Ok(())
    }
}

/// One member in the newer form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedPeer {
    id: String,
    address: String,
    #[serde(default)]
    non_voter: bool,
}

/// Reads `peers.json` in either form of hashicorp/raft: `[{"id", "address", "non_voter"}, …]`, or `["host:port", …]` with
/// voters only, whose ids are their addresses.
///
/// Stricter than the original: unknown keys are refused, because a misspelt `non_voter` would give a vote.
///
/// # Errors
/// See [`PeersError`].
pub fn read_peers_json(path: impl AsRef<Path>) -> Result<Configuration, PeersError> {
    read_peers_on(&StdFileSystem, path.as_ref())
}

fn read_peers_on(fs: &dyn FileSystem, path: &Path) -> Result<Configuration, PeersError> {
    let failed = |source| PeersError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    fs.reader(path).map_err(failed)?.take(PEERS_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > PEERS_BYTES_MAX {
        return Err(PeersError::TooLarge { path: path.to_owned() });
    }
    let configuration =
        parse_peers(&bytes).map_err(|source| PeersError::Malformed { path: path.to_owned(), source })?;
    configuration.validate().map_err(|source| PeersError::Invalid { path: path.to_owned(), source })?;
    Ok(configuration)
}

fn parse_peers(bytes: &[u8]) -> serde_json::Result<Configuration> {
    // The forms are told apart by the first element, so that the error is about the form that was meant.
    let first_is_text =
        bytes.iter().filter(|byte| !byte.is_ascii_whitespace()).nth(1).is_some_and(|byte| *byte == b'"');
    let servers = if first_is_text {
        let addresses: Vec<String> = serde_json::from_slice(bytes)?;
        addresses.into_iter().map(|address| Server::voter(address.as_str(), address.as_str())).collect()
    } else {
        let peers: Vec<NamedPeer> = serde_json::from_slice(bytes)?;
        peers
            .into_iter()
            .map(|peer| Server {
                id: ServerId::from(peer.id),
                address: ServerAddress::from(peer.address),
                suffrage: if peer.non_voter { Suffrage::Nonvoter } else { Suffrage::Voter },
                incarnation: Incarnation::FOUNDER,
            })
            .collect()
    };
    Ok(Configuration::new(servers))
}

/// Puts `configuration` in force on a server that is not running.
///
/// `log` must not have been recovered or written yet. `machine` is brought to the state of the last entry and can be thrown
/// away afterwards: the server restores its own from the snapshot. Calling it again with the same configuration
/// before the server ran changes nothing. All calls block.
///
/// # Errors
/// See [`RecoverError`].
pub fn recover_cluster(
    log: &mut dyn LogStore,
    snapshots: &dyn SnapshotStore,
    machine: &mut dyn StateMachine,
    configuration: &Configuration,
) -> Result<Recovery, RecoverError> {
    configuration.validate()?;
    let Recovered { hard_state, base, entries, .. } = log.recover()?;
    let snapshot = snapshots.latest()?;
    let from = snapshot.as_ref().map_or_else(EntryId::default, |meta| meta.last);
    if base.index > from.index {
        return Err(RecoverError::Gap { base, snapshot: from });
    }
    // A log that does not hold the snapshot's last entry was to be replaced by the snapshot.
    let continues = term_at(base, &entries, from.index) == Some(from.term);
    let news: Vec<Entry> =
        entries.into_iter().filter(|entry| continues && entry.id.index > from.index).collect();
    let last = news.last().map_or(from, |entry| entry.id);
    if last.index == LogIndex::ZERO {
        return Err(RecoverError::Empty);
    }
    let (meta, repeated) = match snapshot {
        Some(meta) if news.is_empty() && is_recovery_to(&meta, configuration) => (meta, true),
        found => {
            let id = recovered_entry(last)?;
            let before = found.as_ref().map_or(0, |meta| meta.configuration.epoch());
            let forced = configuration.clone().in_epoch(epoch(before, last, configuration));
            bring_up(snapshots, machine, found.as_ref(), &news)?;
            (store_snapshot(snapshots, machine, id, &forced)?, false)
        }
    };
    if !repeated || !continues || !hard_state.incarnation.is_founder() {
        // No vote of the old cluster binds in the new one: its terms are past, and this server is one of its founders.
        let hard_state = if hard_state.term >= meta.last.term && hard_state.incarnation.is_founder() {
            None
        } else {
            let term = hard_state.term.max(meta.last.term);
            Some(HardState { term, ..HardState::default() })
        };
        log.write(&[Write { id: WriteId(1), hard_state, reset_to: Some(meta.last), ..Write::default() }])?;
    }
    Ok(Recovery { last, snapshot: meta, repeated })
}

/// Whether a recovery to this configuration wrote the snapshot. Compaction may have made one with the same members, and on one
/// survivor only: taking that for a recovery would part it from the others.
fn is_recovery_to(snapshot: &SnapshotMeta, configuration: &Configuration) -> bool {
    let epoch = snapshot.configuration.epoch();
    epoch != 0
        && snapshot.configuration_index == snapshot.last.index
        && snapshot.configuration == configuration.clone().in_epoch(epoch)
}

/// Names the cluster that comes out of a recovery: the same for survivors whose logs are equal and who are forced to the same
/// members, another one for any others, so that what was recovered apart stays apart (catalogue M16).
fn epoch(before: u64, last: EntryId, configuration: &Configuration) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut fold = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for number in [before, last.term.0, last.index.0] {
        fold(&number.to_le_bytes());
    }
    for server in configuration.servers() {
        for text in [server.id.as_str(), server.address.as_str()] {
            fold(&(text.len() as u64).to_le_bytes());
            fold(text.as_bytes());
        }
        fold(&[u8::from(server.suffrage == Suffrage::Voter)]);
    }
    // Zero means that nothing was recovered.
    hash.max(1)
}

fn term_at(base: EntryId, entries: &[Entry], index: LogIndex) -> Option<Term> {
    if index == base.index {
        return Some(base.term);
    }
    let offset = index.0.checked_sub(base.index.0 + 1)?;
    entries.get(usize::try_from(offset).ok()?).map(|entry| entry.id.term)
}

fn recovered_entry(last: EntryId) -> Result<EntryId, RecoverError> {
    let term = last.term.0.checked_add(RECOVERY_TERMS);
    let index = last.index.0.checked_add(1);
    term.zip(index).map(|(term, index)| EntryId::new(term, index)).ok_or(RecoverError::Exhausted { last })
}

/// Brings the state machine to the last entry.
fn bring_up(
    snapshots: &dyn SnapshotStore,
    machine: &mut dyn StateMachine,
    snapshot: Option<&SnapshotMeta>,
    news: &[Entry],
) -> Result<(), RecoverError> {
    if let Some(meta) = snapshot {
        let (_, mut state) = snapshots.open(meta.last)?;
        machine.restore(&mut *state).map_err(RecoverError::Restore)?;
        machine.configuration_committed(meta.configuration_index, &meta.configuration);
    }
    let mut commands: Vec<Entry> = Vec::new();
    for entry in news {
        match &entry.kind {
            EntryKind::Command => commands.push(entry.clone()),
            EntryKind::Configuration(configuration) => {
                apply(machine, &mut commands);
                machine.configuration_committed(entry.id.index, configuration);
            }
            EntryKind::Noop | EntryKind::Barrier => {}
        }
        if commands.len() >= APPLY_BATCH {
            apply(machine, &mut commands);
        }
    }
    apply(machine, &mut commands);
    Ok(())
}

fn apply(machine: &mut dyn StateMachine, commands: &mut Vec<Entry>) {
    if !commands.is_empty() {
        // Nobody waits for the answers.
        let _ = machine.apply(commands);
        commands.clear();
    }
}

fn store_snapshot(
    snapshots: &dyn SnapshotStore,
    machine: &mut dyn StateMachine,
    last: EntryId,
    configuration: &Configuration,
) -> Result<SnapshotMeta, RecoverError> {
    let meta =
        SnapshotMeta { last, configuration: configuration.clone(), configuration_index: last.index, size: 0 };
    machine.configuration_committed(last.index, configuration);
    let writer = machine.snapshot();
    let mut sink = snapshots.create(&meta)?;
    writer(&mut *sink).map_err(|error| StorageError::io("write", "the recovered snapshot", error))?;
    Ok(sink.finish()?)
}

/// Applies the `peers.json` in a data directory, if there is one, and removes it. Call it before the server is started,
/// with any state machine of its kind. `None` where there is no file. All calls block.
///
/// # Errors
/// See [`RecoverError`]. The file stays, so the next start tries again.
pub fn recover_from_file(
    directory: &mut DataDirectory,
    id: &ServerId,
    options: LogOptions,
    snapshots_retained: usize,
    machine: &mut dyn StateMachine,
) -> Result<Option<Recovery>, RecoverError> {
    let path = directory.path().join(PEERS_FILE);
    let fs = directory.file_system();
    let names = fs
        .list(directory.path())
        .map_err(|error| StorageError::io("list", directory.path().display(), error))?;
    if !names.iter().any(|name| name == PEERS_FILE) {
        return Ok(None);
    }
    let configuration = read_peers_on(&*fs, &path)?;
    if configuration.server(id).is_none() {
        return Err(RecoverError::NotNamed { id: id.clone() });
    }
    let mut log = directory.log(options)?;
    let snapshots = directory.snapshots(snapshots_retained)?;
    let recovery = recover_cluster(&mut log, &snapshots, machine, &configuration)?;
    fs.remove_file(&path)
        .and_then(|()| fs.sync_dir(directory.path()))
        .map_err(|error| StorageError::io("remove", path.display(), error))?;
    Ok(Some(recovery))
}

#[cfg(test)]
mod tests;

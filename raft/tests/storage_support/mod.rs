//! Builders and a script of writes that the storage tests share.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use raft::core::{Entry, EntryKind, HardState, Write, WriteId};
use raft::storage::{FileLog, FileSystem, LogOptions, LogStore, MemoryFileSystem, MemoryLog, Recovered};
use raft::{Configuration, EntryId, LogIndex, Server, Term};

pub(crate) fn command(term: u64, index: u64, length: usize) -> Entry {
    let data = Bytes::from(vec![index as u8; length]);
    Entry::new(EntryId::new(term, index), EntryKind::Command, data)
}

pub(crate) fn append(term: u64, indexes: std::ops::RangeInclusive<u64>, length: usize) -> Write {
    Write { entries: indexes.map(|index| command(term, index, length)).collect(), ..Write::default() }
}

pub(crate) fn vote(term: u64, id: &str) -> Write {
    let voted_for = Some(id.into());
    let hard_state = HardState { term: Term(term), voted_for, ..HardState::default() };
    Write { hard_state: Some(hard_state), ..Write::default() }
}

pub(crate) fn truncate_and_append(from: u64, term: u64, through: u64) -> Write {
    Write { truncate_from: Some(LogIndex(from)), ..append(term, from..=through, 40) }
}

pub(crate) fn compact(term: u64, index: u64) -> Write {
    let commit = Some(LogIndex(index));
    Write { compact_through: Some(EntryId::new(term, index)), commit, ..Write::default() }
}

pub(crate) fn reset(term: u64, index: u64) -> Write {
    Write { reset_to: Some(EntryId::new(term, index)), ..Write::default() }
}

/// Calls of `write` that pass through everything that a log store does.
pub(crate) fn script() -> Vec<Vec<Write>> {
    let members = Configuration::new(vec![Server::voter("a", "a:1"), Server::nonvoter("b", "b:1")]);
    let configuration = Entry {
        extensions: Bytes::from_static(b"beside"),
        ..Entry::new(EntryId::new(1, 1), EntryKind::Configuration(members), Bytes::new())
    };
    let mut calls = vec![
        vec![vote(1, "a"), Write { entries: vec![configuration], ..Write::default() }],
        vec![append(1, 2..=4, 20)],
        vec![append(1, 5..=5, 700), append(1, 6..=9, 30)],
        vec![Write {
            hard_state: Some(HardState { term: Term(2), ..HardState::default() }),
            ..append(2, 10..=14, 50)
        }],
        // Conflict over several segments, with a vote in the same sync.
        vec![vote(3, "c"), truncate_and_append(4, 3, 7)],
        vec![append(3, 8..=20, 60)],
        vec![compact(3, 6)],
        vec![truncate_and_append(9, 4, 12), compact(3, 8)],
        vec![append(4, 13..=13, 10)],
        // A snapshot from the leader, far ahead, then far behind (catalogue D15).
        vec![reset(5, 1000), append(5, 1001..=1003, 100)],
        vec![append(5, 1004..=1030, 25), compact(5, 1020)],
        vec![compact(5, 1030)],
        vec![append(6, 1031..=1033, 600)],
        vec![reset(6, 50)],
        vec![vote(7, "b"), append(7, 51..=55, 33)],
    ];
    for (number, write) in calls.iter_mut().flatten().enumerate() {
        write.id = WriteId(number as u64 + 1);
    }
    calls
}

/// What a log holds before the first call and after each.
pub(crate) fn states(calls: &[Vec<Write>]) -> Vec<Recovered> {
    let mut model = MemoryLog::new();
    let mut states = vec![model.recover().expect("memory")];
    for call in calls {
        model.write(call).expect("the script fits");
        states.push(model.recover().expect("memory"));
    }
    states
}

pub(crate) const DIRECTORY: &str = "log";

/// An empty directory on a new disk.
pub(crate) fn disk() -> MemoryFileSystem {
    let fs = MemoryFileSystem::new();
    fs.create_dir(Path::new(DIRECTORY)).expect("a new disk");
    // The crash keeps all names: this is before the test begins.
    fs.crash(&mut raft::storage::Always { kept: raft::storage::Kept::NOTHING, names: true });
    fs
}

pub(crate) fn log_on(fs: &MemoryFileSystem, segment_bytes: u64) -> FileLog {
    let mut options = LogOptions::default();
    options.segment_bytes = segment_bytes;
    FileLog::new(Arc::new(fs.clone()), DIRECTORY, options)
}

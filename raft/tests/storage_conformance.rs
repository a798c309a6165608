//! What every log store and every snapshot store must do, run on all of them.

mod storage_support;

use std::fs;
use std::io::{Read, Write as _};
use std::path::Path;

use proptest::prelude::*;
use raft::core::{HardState, SnapshotMeta, Write};
use raft::storage::{
    DataDirectory, FileLog, FileSnapshots, LogOptions, LogStore, MemoryLog, MemorySnapshots, SnapshotStore,
    StdFileSystem, StorageError,
};
use raft::{Configuration, EntryId, Incarnation, LogIndex, Server, Suffrage, Term};
use storage_support::{append, command, compact, disk, log_on, reset, script, states};

/// `open` gives the store again, as a restarted process finds it.
fn log_conforms<L: LogStore>(mut open: impl FnMut() -> L) {
    let calls = script();
    let states = states(&calls);
    let mut log = open();
    assert_eq!(log.recover().expect("new"), states[0]);
    for (call, expected) in calls.iter().zip(&states[1..]) {
        log.write(call).expect("fits");
        drop(log);
        log = open();
        assert_eq!(&log.recover().expect("whole"), expected);
    }
    // The same without restarts between the calls.
    log.write(&[reset(8, 0)]).expect("fits");
    drop(log);
    let mut log = open();
    log.recover().expect("whole");
    let last = log_last(&states);
    for index in 1..=last {
        log.write(&[append(8, index..=index, 20)]).expect("fits");
    }
    log.write(&[]).expect("nothing to do");
    log.write(&[Write::default()]).expect("nothing to do");
    drop(log);
    assert_eq!(open().recover().expect("whole").entries.len() as u64, last);

    for wrong in [
        append(8, last + 2..=last + 2, 1),
        append(8, last..=last, 1),
        Write { truncate_from: Some(LogIndex(0)), ..Write::default() },
        Write { hard_state: Some(HardState::default()), ..Write::default() },
    ] {
        let mut log = open();
        let before = log.recover().expect("whole");
        assert!(matches!(log.write(&[wrong]), Err(StorageError::Io { .. })));
        drop(log);
        assert_eq!(open().recover().expect("whole"), before, "a write that does not fit changes nothing");
    }
}

fn log_last(states: &[raft::storage::Recovered]) -> u64 {
    states.iter().map(|state| state.entries.len() as u64).max().unwrap_or(0)
}

#[test]
fn memory_log_conforms() {
    let log = MemoryLog::new();
    log_conforms(|| log.clone());
}

#[test]
fn file_log_conforms_on_a_simulated_disk() {
    for segment_bytes in [1, 200, 1500, 1 << 20] {
        let fs = disk();
        log_conforms(|| log_on(&fs, segment_bytes));
    }
}

#[test]
fn file_log_conforms_on_a_real_disk() {
    let temporary = tempfile::tempdir().expect("a directory");
    let mut options = LogOptions::default();
    options.segment_bytes = 600;
    log_conforms(|| {
        let path = temporary.path().join("data");
        DataDirectory::open(path).expect("ours").log(options).expect("a log")
    });
}

#[test]
fn old_segments_are_deleted_by_compaction_and_reset() {
    let temporary = tempfile::tempdir().expect("a directory");
    let segments = || fs::read_dir(temporary.path()).expect("there").count();
    let mut options = LogOptions::default();
    options.segment_bytes = 1000;
    let mut log = FileLog::new(StdFileSystem::shared(), temporary.path(), options);
    log.recover().expect("new");
    for index in 1..=20 {
        log.write(&[append(1, index..=index, 1000)]).expect("fits");
    }
    assert_eq!(segments(), 20);
    log.write(&[compact(1, 15)]).expect("fits");
    assert_eq!(segments(), 6, "those with entries 16 to 20 and the one that says so");
    log.write(&[reset(3, 500)]).expect("fits");
    assert_eq!(segments(), 1);
}

#[test]
fn what_is_known_to_be_committed_is_kept_over_segments_and_forgotten_with_the_log() {
    let fs = disk();
    let known = || log_on(&fs, 1).recover().expect("whole").commit;
    let write = |write: Write| {
        let mut log = log_on(&fs, 1);
        log.recover().expect("whole");
        log.write(&[write]).expect("room");
    };
    write(Write { commit: Some(LogIndex(2)), ..append(1, 1..=4, 20) });
    assert_eq!(known(), LogIndex(2));
    for index in 5..9 {
        write(append(1, index..=index, 20));
    }
    assert_eq!(known(), LogIndex(2));
    write(compact(1, 8));
    write(append(1, 9..=9, 20));
    assert_eq!(known(), LogIndex(8), "its segment is gone by now");
    write(reset(2, 7));
    assert_eq!(known(), LogIndex::ZERO, "the snapshot knows better, and another log follows");
}

#[test]
fn a_log_must_be_recovered_before_it_is_written() {
    let fs = disk();
    log_on(&fs, 1000).write(&[append(1, 1..=1, 1)]).expect_err("not recovered");
}

/// What to do next; made to fit the log at hand.
#[derive(Clone, Debug)]
enum Step {
    Append { count: u64, length: usize },
    Truncate { back: u64, append: u64 },
    Compact { forward: u64 },
    Reset { index: u64 },
    Vote,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6_u64, 0..300_usize).prop_map(|(count, length)| Step::Append { count, length }),
        2 => (0..8_u64, 0..4_u64).prop_map(|(back, append)| Step::Truncate { back, append }),
        2 => (0..12_u64).prop_map(|forward| Step::Compact { forward }),
        1 => (0..100_u64).prop_map(|index| Step::Reset { index }),
        1 => Just(Step::Vote),
        2 => Just(Step::Reopen),
    ]
}

fn write_for(step: &Step, state: &raft::storage::Recovered, term: u64) -> Write {
    let base = state.base.index.0;
    let last = base + state.entries.len() as u64;
    match step {
        Step::Append { count, length } => append(term, last + 1..=last + count, *length),
        Step::Truncate { back, append: more } => {
            let from = (last + 1).saturating_sub(*back).max(base + 1);
            let entries = (from..from + more).map(|index| command(term, index, 9)).collect();
            Write { truncate_from: Some(LogIndex(from)), entries, ..Write::default() }
        }
        Step::Compact { forward } => compact(term, (base + forward).min(last)),
        Step::Reset { index } => reset(term, *index),
        Step::Vote => {
            let incarnation = Incarnation(term % 3);
            let hard_state = HardState { term: Term(term), voted_for: Some("someone".into()), incarnation };
            Write { hard_state: Some(hard_state), ..Write::default() }
        }
        Step::Reopen => Write::default(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_leaves_what_the_model_says(
        steps in proptest::collection::vec(proptest::collection::vec(step(), 1..4), 1..40),
        segment_bytes in 1..2000_u64,
    ) {
        let fs = disk();
        let mut log = log_on(&fs, segment_bytes);
        log.recover().expect("new");
        let mut model = MemoryLog::new();
        let mut term = 0;
        for call in &steps {
            let mut writes = Vec::new();
            for step in call {
                term += 1;
                let write = write_for(step, &model.recover().expect("memory"), term);
                model.write(std::slice::from_ref(&write)).expect("made to fit");
                writes.push(write);
            }
            log.write(&writes).expect("made to fit");
            if call.iter().any(|step| matches!(step, Step::Reopen)) {
                log = log_on(&fs, segment_bytes);
                prop_assert_eq!(log.recover().expect("whole"), model.recover().expect("memory"));
            }
        }
        let found = log_on(&fs, segment_bytes).recover().expect("whole");
        prop_assert_eq!(found, model.recover().expect("memory"));
    }
}

fn meta(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last: EntryId::new(term, index),
        configuration: Configuration::new(vec![Server::voter("a<&>\u{2028}", "a:1")]),
        configuration_index: LogIndex(1),
        size: 0,
    }
}

fn save(store: &dyn SnapshotStore, meta: &SnapshotMeta, state: &[u8]) -> SnapshotMeta {
    let mut sink = store.create(meta).expect("created");
    sink.write_all(state).expect("written");
    sink.finish().expect("finished")
}

fn read(store: &dyn SnapshotStore, last: EntryId) -> Vec<u8> {
    let (_, mut reader) = store.open(last).expect("there");
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("readable");
    bytes
}

fn snapshots_conform<S: SnapshotStore>(open: impl Fn() -> S) {
    let store = open();
    assert_eq!(store.latest().expect("readable"), None);
    assert!(matches!(store.open(EntryId::new(1, 1)), Err(StorageError::NoSnapshot { .. })));

    let first = save(&store, &meta(1, 5), b"first");
    assert_eq!(first, SnapshotMeta { size: 5, ..meta(1, 5) });
    let mut dropped = store.create(&meta(9, 9)).expect("created");
    dropped.write_all(b"never finished").expect("written");
    drop(dropped);
    assert_eq!(store.latest().expect("readable"), Some(first));

    // Large, in pieces of every size class, while the older one is being read.
    let (_, mut reader) = store.open(EntryId::new(1, 5)).expect("there");
    let large: Vec<u8> = (0..900_000_u32).map(|n| (n % 251) as u8).collect();
    let mut sink = store.create(&meta(2, 3)).expect("created");
    sink.write_all(&large[..10]).expect("written");
    sink.write_all(&large[10..600_000]).expect("written");
    sink.write_all(&large[600_000..600_001]).expect("written");
    sink.write_all(&large[600_001..]).expect("written");
    sink.finish().expect("finished");
    save(&store, &meta(1, 80), b"older by term");
    save(&store, &meta(2, 4), b"");
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("open readers outlive the removal");
    assert_eq!(bytes, b"first");

    // Two are kept: the newest by term, then index.
    drop(store);
    let store = open();
    assert_eq!(store.latest().expect("readable").map(|meta| meta.last), Some(EntryId::new(2, 4)));
    assert_eq!(read(&store, EntryId::new(2, 3)), large);
    assert_eq!(read(&store, EntryId::new(2, 4)), b"");
    for gone in [EntryId::new(1, 80), EntryId::new(1, 5), EntryId::new(9, 9)] {
        assert!(matches!(store.open(gone), Err(StorageError::NoSnapshot { .. })));
    }
    // The same entry twice: the later one counts.
    save(&store, &meta(2, 4), b"again");
    assert_eq!(read(&store, EntryId::new(2, 4)), b"again");
    // Removed with all its versions; what is not there is no error.
    store.remove(EntryId::new(2, 4)).expect("removed");
    store.remove(EntryId::new(2, 4)).expect("nothing to do");
    drop(store);
    let store = open();
    assert!(matches!(store.open(EntryId::new(2, 4)), Err(StorageError::NoSnapshot { .. })));
    let newest = store.latest().expect("readable").map(|meta| meta.last);
    assert_ne!(newest, Some(EntryId::new(2, 4)));
}

#[test]
fn memory_snapshots_conform() {
    let store = MemorySnapshots::default();
    snapshots_conform(|| store.clone());
}

#[test]
fn file_snapshots_conform() {
    let temporary = tempfile::tempdir().expect("a directory");
    snapshots_conform(|| {
        let path = temporary.path().join("data");
        DataDirectory::open(path).expect("ours").snapshots(2).expect("opens")
    });
}

fn copy_example() -> tempfile::TempDir {
    let temporary = tempfile::tempdir().expect("a directory");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join("snapshots");
    for snapshot in fs::read_dir(example).expect("test data") {
        let snapshot = snapshot.expect("test data");
        let to = temporary.path().join(snapshot.file_name());
        fs::create_dir(&to).expect("made");
        for file in fs::read_dir(snapshot.path()).expect("test data") {
            let file = file.expect("test data");
            fs::copy(file.path(), to.join(file.file_name())).expect("copied");
        }
    }
    temporary
}

/// Written by hashicorp/raft itself.
#[test]
fn snapshots_of_hashicorp_raft_are_read() {
    let example = copy_example();
    let store = FileSnapshots::open(example.path(), 5).expect("opens");
    let latest = store.latest().expect("readable").expect("there");
    assert_eq!(latest.last, EntryId::new(8, 9000), "the unfinished 8-10000 does not count");
    let (meta, mut reader) = store.open(EntryId::new(7, 42)).expect("the checksum fits");
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("readable");
    assert_eq!((meta.size, bytes.len(), meta.configuration_index), (12, 12, LogIndex(3)));
    let servers = meta.configuration.servers();
    assert_eq!(servers[0], Server::voter("n1", "127.0.0.1:8300"));
    assert_eq!((servers[2].id.as_str(), servers[2].suffrage), ("n3 <&> é", Suffrage::Nonvoter));
    assert!(!example.path().join("8-10000-1795176681956.tmp").exists(), "leftovers go");
}

/// What we write is what hashicorp/raft writes, byte for byte.
#[test]
fn snapshots_are_written_as_hashicorp_raft_writes_them() {
    let example = copy_example();
    let name = "7-42-1795176681949";
    let theirs = FileSnapshots::open(example.path(), 5).expect("opens");
    let (meta, mut reader) = theirs.open(EntryId::new(7, 42)).expect("there");
    let mut state = Vec::new();
    reader.read_to_end(&mut state).expect("readable");

    let temporary = tempfile::tempdir().expect("a directory");
    let ours = FileSnapshots::open(temporary.path(), 5).expect("opens").with_clock(|| 1_795_176_681_949);
    save(&ours, &meta, &state);
    for file in ["meta.json", "state.bin"] {
        let written = fs::read(temporary.path().join(name).join(file)).expect("written");
        let expected = fs::read(example.path().join(name).join(file)).expect("test data");
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&expected));
    }
}

#[test]
fn keys_are_found_in_any_case_and_odd_files_are_passed_over() {
    let example = copy_example();
    let file = example.path().join("8-9000-1795176681952").join("meta.json");
    let text = fs::read_to_string(&file).expect("test data");
    fs::write(&file, text.replace("\"Index\"", "\"inDEX\"").replace("\"CRC\"", "\"More\":{},\"crc\""))
        .expect("ok");
    let store = FileSnapshots::open(example.path(), 5).expect("opens");
    let latest = || store.latest().expect("readable").expect("there").last;
    assert_eq!(latest(), EntryId::new(8, 9000));
    for odd in
        ["", "{", "[]", "{\"Version\":1}", &text.replace("\"Version\":1", "\"Version\":7"), &text[..300]]
    {
        fs::write(&file, odd).expect("written");
        assert_eq!(latest(), EntryId::new(7, 42), "{odd}");
    }
    fs::write(example.path().join("a file"), "not a directory").expect("written");
    assert_eq!(latest(), EntryId::new(7, 42));
}

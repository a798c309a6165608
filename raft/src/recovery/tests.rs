use std::io::{Read, Write as IoWrite};
use std::sync::Arc;

use bytes::Bytes;
use raft_types::Time;

use super::*;
use crate::SnapshotWriter;
use crate::config::Config;
use crate::core::{Peer, Persisted, RaftCore};
use crate::storage::{Always, CrashChoice, Kept, MemoryFileSystem, MemoryLog, MemorySnapshots};

/// Keeps every command, one to a line.
#[derive(Default)]
struct Lines(Vec<String>);

impl StateMachine for Lines {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        self.0.extend(commands.iter().map(|entry| String::from_utf8_lossy(&entry.data).into_owned()));
        vec![Bytes::new(); commands.len()]
    }

    fn snapshot(&self) -> SnapshotWriter {
        let text = self.0.join("\n");
        Box::new(move |out: &mut dyn IoWrite| out.write_all(text.as_bytes()))
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        let text = io::read_to_string(state)?;
        self.0 = text.lines().map(str::to_owned).collect();
        Ok(())
    }
}

fn three() -> Configuration {
    Configuration::new(["a", "b", "c"].map(|id| Server::voter(id, format!("{id}:1"))).to_vec())
}

fn alone() -> Configuration {
    Configuration::new(vec![Server::voter("a", "a:1")])
}

fn command(term: u64, index: u64) -> Entry {
    Entry::new(EntryId::new(term, index), EntryKind::Command, Bytes::from(format!("command {index}")))
}

/// A server that took a snapshot at 4 and goes on to 9, the last entries in a term of their own.
fn fill(log: &mut dyn LogStore, snapshots: &dyn SnapshotStore) {
    let first = Entry::new(EntryId::new(1, 1), EntryKind::Configuration(three()), Bytes::new());
    let noop = Entry::new(EntryId::new(3, 7), EntryKind::Noop, Bytes::new());
    let mut entries = vec![first];
    entries.extend((2..=6).map(|index| command(1, index)));
    entries.push(noop);
    entries.extend((8..=9).map(|index| command(3, index)));
    let hard_state = HardState { term: Term(5), voted_for: Some("b".into()), ..HardState::default() };
    log.recover().expect("an empty log");
    log.write(&[Write { id: WriteId(1), hard_state: Some(hard_state), entries, ..Write::default() }])
        .expect("a good disk");
    let meta = SnapshotMeta {
        last: EntryId::new(1, 4),
        configuration: three(),
        configuration_index: LogIndex(1),
        size: 0,
    };
    let mut sink = snapshots.create(&meta).expect("a good disk");
    sink.write_all(b"command 2\ncommand 3\ncommand 4").expect("a good disk");
    sink.finish().expect("a good disk");
}

const EVERYTHING: [&str; 7] =
    ["command 2", "command 3", "command 4", "command 5", "command 6", "command 8", "command 9"];

/// Starts a core on what is stored, as a server would, and gives it with the state machine's content.
fn started(log: &mut dyn LogStore, snapshots: &dyn SnapshotStore) -> (RaftCore, Vec<String>) {
    let Recovered { hard_state, base, entries, commit } = log.recover().expect("readable");
    let snapshot = snapshots.latest().expect("readable");
    let mut machine = Lines::default();
    if let Some(meta) = &snapshot {
        machine.restore(&mut *snapshots.open(meta.last).expect("readable").1).expect("well formed");
    }
    let me = Peer { id: "a".into(), address: "a:1".into() };
    let persisted = Persisted { hard_state, snapshot, base, entries, commit };
    let core = RaftCore::restore(me, &Config::default(), 1, Time::ZERO, persisted, &mut Vec::new());
    (core.expect("a consistent disk"), machine.0)
}

#[test]
fn both_forms_of_the_file_are_read_and_everything_else_is_refused_with_its_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(PEERS_FILE);
    let read = |text: &str| {
        std::fs::write(&path, text).expect("a file");
        read_peers_json(&path)
    };
    let named = r#"
        [{"id": "a", "address": "a:1"}, {"address": "b:1", "id": "b", "non_voter": true}]"#;
    let expected = Configuration::new(vec![Server::voter("a", "a:1"), Server::nonvoter("b", "b:1")]);
    assert_eq!(read(named).expect("the newer form"), expected);
    let addresses = Configuration::new(vec![Server::voter("a:1", "a:1"), Server::voter("b:1", "b:1")]);
    assert_eq!(read(r#"[ "a:1", "b:1" ]"#).expect("the older form"), addresses);

    for (text, reason) in [
        ("", "EOF"),
        ("{}", "expected a sequence"),
        (r#"["a:1", {"id": "b", "address": "b:1"}]"#, "expected a string"),
        (r#"[{"id": "a", "address": "a:1"}, "b:1"]"#, "expected struct"),
        (r#"[{"id": "a"}]"#, "missing field `address`"),
        (r#"[{"id": "a", "address": "a:1", "nonvoter": true}]"#, "unknown field `nonvoter`"),
        (r#"[{"id": "a", "address": "a:1"}] ["#, "trailing"),
    ] {
        let error = read(text).expect_err(text);
        assert!(matches!(error, PeersError::Malformed { .. }), "{text}: {error}");
        assert!(error.to_string().contains(reason), "{text}: {error}");
        assert!(error.to_string().contains("non_voter"), "the forms are named: {error}");
    }
    for text in [
        "[]",
        r#"["a:1", "a:1"]"#,
        r#"[{"id": "", "address": "a:1"}]"#,
        r#"[{"id": "a", "address": "a:1", "non_voter": true}]"#,
    ] {
        assert!(matches!(read(text), Err(PeersError::Invalid { .. })), "{text}");
    }
    let large = " ".repeat(usize::try_from(PEERS_BYTES_MAX).expect("fits") + 1);
    assert!(matches!(read(&large), Err(PeersError::TooLarge { .. })));
    let missing = read_peers_json(directory.path().join("no such file"));
    assert!(matches!(missing, Err(PeersError::Io { .. })), "{missing:?}");
}

#[test]
fn everything_in_snapshot_and_log_survives_and_the_forced_configuration_is_in_force() {
    let (mut log, snapshots) = (MemoryLog::new(), MemorySnapshots::default());
    fill(&mut log, &snapshots);
    let recovery =
        recover_cluster(&mut log.clone(), &snapshots, &mut Lines::default(), &alone()).expect("recoverable");
    assert_eq!(recovery.last, EntryId::new(3, 9));
    assert_eq!(recovery.snapshot.last, EntryId::new(3 + RECOVERY_TERMS, 10));
    assert!(!recovery.repeated);
    let (core, lines) = started(&mut log, &snapshots);
    assert_eq!(lines, EVERYTHING);
    assert_eq!(core.configuration().servers(), alone().servers());
    assert_ne!(core.configuration().epoch(), 0, "nobody else is of this cluster");
    assert_eq!(core.configuration_index(), LogIndex(10), "a new stamp for changes");
    assert_eq!(core.hard_state(), &HardState { term: Term(3 + RECOVERY_TERMS), ..HardState::default() });
    assert_eq!((core.last(), core.commit_index()), (EntryId::new(3 + RECOVERY_TERMS, 10), LogIndex(10)));

    let again =
        recover_cluster(&mut log.clone(), &snapshots, &mut Lines::default(), &alone()).expect("recoverable");
    assert!(again.repeated);
    assert_eq!(again.snapshot.last, recovery.snapshot.last, "nothing was changed");
    let other = recover_cluster(&mut log, &snapshots, &mut Lines::default(), &three())
        .expect("another configuration");
    assert_eq!(other.snapshot.last, EntryId::new(3 + 2 * RECOVERY_TERMS, 11));
    assert_eq!(started(&mut log, &snapshots).1, EVERYTHING);
}

/// M16: whose logs are equal and who are forced to the same members go on together, all others apart.
#[test]
fn m16_survivors_are_of_one_epoch_only_if_they_were_recovered_to_the_same() {
    let recovered = |members: &Configuration, more: u64| {
        let (mut log, snapshots) = (MemoryLog::new(), MemorySnapshots::new(2));
        fill(&mut log, &snapshots);
        let entries = (10..10 + more).map(|index| command(3, index)).collect();
        log.write(&[Write { id: WriteId(2), entries, ..Write::default() }]).expect("memory");
        let mut log = log.clone();
        let forced =
            recover_cluster(&mut log, &snapshots, &mut Lines::default(), members).expect("recoverable");
        forced.snapshot.configuration.epoch()
    };
    let one = recovered(&three(), 0);
    assert_ne!(one, 0);
    assert_eq!(one, recovered(&three(), 0), "the same log and the same members");
    assert_ne!(one, recovered(&three(), 1), "another log");
    assert_ne!(one, recovered(&alone(), 0), "other members");
}

/// Compaction may have reached the last entry on one survivor and not on another, and a snapshot may hold a joint
/// configuration: that it names the forced members does not mean that they were forced.
#[test]
fn m16_a_snapshot_at_the_last_entry_is_no_recovery() {
    let compacted = |configuration: Configuration| {
        let (mut log, snapshots) = (MemoryLog::new(), MemorySnapshots::new(2));
        fill(&mut log, &snapshots);
        let meta = SnapshotMeta {
            last: EntryId::new(3, 9),
            configuration,
            configuration_index: LogIndex(9),
            size: 0,
        };
        let mut sink = snapshots.create(&meta).expect("memory");
        sink.write_all(EVERYTHING.join("\n").as_bytes()).expect("memory");
        sink.finish().expect("memory");
        (log, snapshots)
    };
    let (mut log, snapshots) = (MemoryLog::new(), MemorySnapshots::new(2));
    fill(&mut log, &snapshots);
    let expected =
        recover_cluster(&mut log, &snapshots, &mut Lines::default(), &three()).expect("recoverable").snapshot;
    let joint = Configuration::joint(three().servers().to_vec(), alone().servers().to_vec());
    for before in [three(), joint] {
        let (mut log, snapshots) = compacted(before.clone());
        let found = recover_cluster(&mut log.clone(), &snapshots, &mut Lines::default(), &three())
            .expect("recoverable");
        assert!(!found.repeated, "{before:?}");
        assert_eq!(found.snapshot.configuration, expected.configuration, "{before:?}");
        assert_eq!(found.snapshot.last, expected.last, "{before:?}");
        assert_eq!(started(&mut log, &snapshots).1, EVERYTHING, "{before:?}");
        let again = recover_cluster(&mut log, &snapshots, &mut Lines::default(), &three()).expect("again");
        assert!(again.repeated, "{before:?}");
    }
}

#[test]
fn a_store_without_state_or_with_a_gap_is_refused_untouched() {
    let (mut log, snapshots) = (MemoryLog::new(), MemorySnapshots::default());
    let run = |log: &MemoryLog, configuration: &Configuration| {
        recover_cluster(&mut log.clone(), &snapshots, &mut Lines::default(), configuration)
    };
    assert!(matches!(run(&log, &alone()), Err(RecoverError::Empty)));
    assert!(matches!(run(&log, &Configuration::default()), Err(RecoverError::Invalid(_))));
    log.write(&[Write { reset_to: Some(EntryId::new(2, 7)), ..Write::default() }]).expect("memory");
    assert!(matches!(run(&log, &alone()), Err(RecoverError::Gap { .. })));
    assert_eq!(log.recover().expect("memory").base, EntryId::new(2, 7));
    assert_eq!(snapshots.latest().expect("memory"), None);
}

#[test]
fn a_log_that_its_snapshot_was_to_replace_is_not_applied() {
    let (mut log, snapshots) = (MemoryLog::new(), MemorySnapshots::default());
    fill(&mut log, &snapshots);
    // A leader's snapshot came, and the crash before the log was reset.
    let meta = SnapshotMeta {
        last: EntryId::new(6, 8),
        configuration: three(),
        configuration_index: LogIndex(1),
        size: 0,
    };
    let mut sink = snapshots.create(&meta).expect("memory");
    sink.write_all(b"theirs").expect("memory");
    sink.finish().expect("memory");
    let recovery =
        recover_cluster(&mut log.clone(), &snapshots, &mut Lines::default(), &alone()).expect("recoverable");
    assert_eq!(recovery.last, EntryId::new(6, 8));
    assert_eq!(started(&mut log, &snapshots).1, ["theirs"]);
}

const DATA: &str = "data";
const PEERS: &str = r#"[{"id": "a", "address": "a:1"}]"#;

/// A disk with a server's data and an operator's file, all durable.
fn disk() -> MemoryFileSystem {
    let fs = MemoryFileSystem::new();
    let mut directory = open(&fs).expect("a new disk");
    directory.bind_id(&"a".into()).expect("a good disk");
    let mut log = directory.log(LogOptions::default()).expect("a good disk");
    fill(&mut log, &directory.snapshots(2).expect("a good disk"));
    let mut file = fs.create(&Path::new(DATA).join(PEERS_FILE)).expect("a good disk");
    file.write_at(0, PEERS.as_bytes()).expect("a good disk");
    file.sync_data().expect("a good disk");
    fs.sync_dir(Path::new(DATA)).expect("a good disk");
    drop((log, directory));
    fs.crash(&mut Always { kept: Kept::NOTHING, names: false });
    fs
}

fn open(fs: &MemoryFileSystem) -> Result<DataDirectory, StorageError> {
    DataDirectory::open_on(Arc::new(fs.clone()), DATA)
}

fn run(fs: &MemoryFileSystem) -> Result<Option<Recovery>, RecoverError> {
    let mut directory = open(fs)?;
    recover_from_file(&mut directory, &"a".into(), LogOptions::default(), 2, &mut Lines::default())
}

/// A crash that keeps all, nothing, or every other thing that was not synced.
struct Choice(u32, u32);

impl CrashChoice for Choice {
    fn file(&mut self, _path: &Path, units: u64) -> Kept {
        match self.0 {
            0 => Kept::NOTHING,
            1 => Kept { units, ..Kept::NOTHING },
            _ => Kept { units: units / 2, ..Kept::NOTHING },
        }
    }

    fn name(&mut self, _path: &Path) -> bool {
        self.1 += 1;
        match self.0 {
            0 => false,
            1 => true,
            _ => self.1.is_multiple_of(2),
        }
    }
}

#[test]
fn after_a_crash_at_any_step_the_next_start_completes_the_recovery() {
    let recovery = run(&disk()).expect("a good disk").expect("there is a file");
    let whole = recovery.snapshot.configuration.epoch();
    assert_ne!(whole, 0);
    for operations in 0.. {
        let mut ended = false;
        for choice in 0..3 {
            let fs = disk();
            fs.stop_after(Some(operations));
            let first = run(&fs);
            ended = first.is_ok();
            fs.stop_after(None);
            fs.crash(&mut Choice(choice, 0));
            let place = format!("{operations} operations, choice {choice}");
            check_after_crash(&fs, whole, &place);
        }
        if ended {
            assert!(operations > 10, "the recovery was run");
            return;
        }
    }
}

/// `whole` is the epoch that the recovery comes to where nothing interrupts it.
fn check_after_crash(fs: &MemoryFileSystem, whole: u64, place: &str) {
    // What an older program, or a start that does not look at the file, would find.
    let stores = || {
        let mut directory = open(fs).unwrap_or_else(|error| panic!("{place}: {error}"));
        let log = directory.log(LogOptions::default()).unwrap_or_else(|error| panic!("{place}: {error}"));
        (log, directory.snapshots(2).unwrap_or_else(|error| panic!("{place}: {error}")))
    };
    let (mut log, snapshots) = stores();
    let (core, _) = started(&mut log, &snapshots);
    // In force with its epoch, or not at all: the members of the one never stand in the epoch of the other.
    let recovered = alone().in_epoch(whole);
    let forced = core.configuration() == &recovered;
    assert!(forced || core.configuration() == &three(), "{place}: {:?}", core.configuration());
    drop((log, snapshots));

    let second = run(fs).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert!(forced || second.is_some(), "{place}: the file is removed only once its content is in force");
    assert!(run(fs).unwrap_or_else(|error| panic!("{place}: {error}")).is_none(), "{place}: consumed");
    fs.crash(&mut Always { kept: Kept::NOTHING, names: false });
    assert!(run(fs).unwrap_or_else(|error| panic!("{place}: {error}")).is_none(), "{place}: for good");

    let (mut log, snapshots) = stores();
    let (core, lines) = started(&mut log, &snapshots);
    assert_eq!(lines, EVERYTHING, "{place}");
    assert_eq!(core.configuration(), &recovered, "{place}: the epoch of a recovery without a crash");
    assert_eq!(core.last(), EntryId::new(3 + RECOVERY_TERMS, 10), "{place}: recovered once, not twice");
}

#[test]
fn a_file_that_does_not_name_this_server_stays_and_stops_the_start() {
    let fs = disk();
    let mut directory = open(&fs).expect("a good disk");
    let result =
        recover_from_file(&mut directory, &"b".into(), LogOptions::default(), 2, &mut Lines::default());
    assert!(matches!(result, Err(RecoverError::NotNamed { .. })), "{result:?}");
    drop(directory);
    assert!(run(&fs).expect("for its own server").is_some());
}

//! Crashes after every operation on the disk, with every choice of what the disk kept (catalogue D01, D05, D08, D09, D16).

mod storage_support;

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::path::Path;
use std::sync::Arc;

use raft::core::SnapshotMeta;
use raft::storage::{
    Always, CrashChoice, DataDirectory, FileSnapshots, FileSystem, Kept, LogOptions, LogStore, LostPages,
    MemoryFileSystem, SnapshotStore, StorageError, Torn,
};
use raft::{Configuration, EntryId, LogIndex, Server, Term};
use storage_support::{DIRECTORY, append, disk, log_on, script, states, vote};

/// One way in which a crash may turn out.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// Sixteenths of the unsynced bytes that are kept; the remainder of the division decides single bytes.
    sixteenths: u64,
    extra: u64,
    torn: Torn,
    hole: bool,
    /// Bit n decides whether the nth unsynced name is kept.
    names: u32,
    asked: u32,
}

impl CrashChoice for Outcome {
    fn file(&mut self, _path: &Path, units: u64) -> Kept {
        let kept = (units * self.sixteenths / 16 + self.extra).min(units);
        Kept { units: kept, torn: self.torn, hole: self.hole }
    }

    fn name(&mut self, _path: &Path) -> bool {
        self.asked += 1;
        self.names >> ((self.asked - 1) % 32) & 1 == 1
    }
}

fn outcomes() -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (sixteenths, extra) in [(0, 0), (0, 41), (3, 0), (13, 5), (16, 0)] {
        // What is kept as a whole is not torn.
        let torn = [Torn::Cut, Torn::Zeros, Torn::Garbage];
        for torn in torn.into_iter().take(if sixteenths == 16 { 1 } else { 3 }) {
            for hole in [false, true] {
                for names in [0, u32::MAX, 0x5555_5555, 0xaaaa_aaaa] {
                    outcomes.push(Outcome { sixteenths, extra, torn, hole, names, asked: 0 });
                }
            }
        }
    }
    outcomes
}

/// Runs the script on a machine that stops after `operations`; gives how many calls were acknowledged, and whether the
/// script ended.
fn run_until(fs: &MemoryFileSystem, segment_bytes: u64, operations: u64) -> (usize, bool) {
    fs.stop_after(Some(operations));
    let mut log = log_on(fs, segment_bytes);
    if log.recover().is_err() {
        return (0, false);
    }
    let calls = script();
    for (acknowledged, call) in calls.iter().enumerate() {
        if log.write(call).is_err() {
            return (acknowledged, false);
        }
    }
    (calls.len(), true)
}

#[test]
fn a_crash_leaves_the_log_before_or_after_a_call_and_never_less_than_acknowledged() {
    let states = states(&script());
    for segment_bytes in [200, 1500, 1 << 20] {
        for operations in 0.. {
            let mut ended = false;
            for outcome in outcomes() {
                let fs = disk();
                let (acknowledged, done) = run_until(&fs, segment_bytes, operations);
                ended = done;
                fs.crash(&mut { outcome });
                let place = || format!("{segment_bytes} B segments, {operations} operations, {outcome:?}");

                let mut log = log_on(&fs, segment_bytes);
                let found = log.recover().unwrap_or_else(|error| panic!("{}: {error}", place()));
                let candidates = &states[acknowledged..states.len().min(acknowledged + 2)];
                assert!(candidates.contains(&found), "{}: {acknowledged} acknowledged, {found:?}", place());

                // What was recovered is durable, although the call that wrote it never returned.
                fs.crash(&mut Always { kept: Kept::NOTHING, names: false });
                let mut log = log_on(&fs, segment_bytes);
                assert_eq!(log.recover().expect("again"), found, "{}", place());

                // And the log can be used.
                let last = found.entries.last().map_or(found.base.index, |entry| entry.id.index).0;
                log.write(&[append(9, last + 1..=last + 1, 5)]).expect("usable");
                fs.crash(&mut Always { kept: Kept::NOTHING, names: false });
                let again = log_on(&fs, segment_bytes).recover().expect("again");
                assert_eq!(again.entries.len(), found.entries.len() + 1, "{}", place());
            }
            if ended {
                assert!(operations > 30, "the script was run");
                break;
            }
        }
    }
}

#[test]
fn a_failed_sync_poisons_the_log_and_nothing_acknowledged_is_lost() {
    let calls = script();
    let states = states(&calls);
    for pages in [LostPages::Kept, LostPages::Lost] {
        for failing in 0..calls.len() {
            let fs = disk();
            let mut log = log_on(&fs, 200);
            log.recover().expect("new");
            for call in &calls[..failing] {
                log.write(call).expect("healthy");
            }
            fs.fail_syncs(1, pages);
            log.write(&calls[failing]).expect_err("the sync failed");
            let operations = fs.operations();
            let error = log.write(&calls[failing]).expect_err("poisoned").to_string();
            assert!(error.contains("earlier write failed"), "{error}");
            assert_eq!(fs.operations(), operations, "the disk was left alone");

            // The process is started again on the same machine, where lost pages read as if they were written.
            fs.kill();
            let found = log_on(&fs, 200).recover().expect("readable");
            assert!(states[failing..=failing + 1].contains(&found), "{found:?}");
            fs.crash(&mut Always { kept: Kept::NOTHING, names: false });
            assert_eq!(log_on(&fs, 200).recover().expect("durable"), found, "{pages:?} at call {failing}");
        }
    }
}

#[test]
fn a_failed_write_poisons_the_log_and_a_full_disk_can_be_read() {
    let fs = disk();
    let mut log = log_on(&fs, 1 << 20);
    log.recover().expect("new");
    log.write(&[append(1, 1..=3, 100)]).expect("fits");
    fs.set_capacity(Some(700));
    log.write(&[append(1, 4..=9, 100)]).expect_err("full");
    log.write(&[vote(2, "a")]).expect_err("poisoned");
    let mut log = log_on(&fs, 1 << 20);
    assert_eq!(log.recover().expect("still full").entries.len(), 3);
    fs.set_capacity(None);
    // Half a mark may stand behind the log; another start clears it.
    let mut log = log_on(&fs, 1 << 20);
    log.recover().expect("room again");
    log.write(&[append(1, 4..=9, 100)]).expect("fits now");
    assert_eq!(log_on(&fs, 1 << 20).recover().expect("whole").entries.len(), 9);
}

/// All files of the log with their bytes.
fn contents(fs: &MemoryFileSystem) -> BTreeMap<String, Vec<u8>> {
    let names = fs.list(Path::new(DIRECTORY)).expect("there");
    names
        .into_iter()
        .map(|name| (name.clone(), fs.content(&Path::new(DIRECTORY).join(name)).expect("there")))
        .collect()
}

/// Catalogue D07 (b) to (e): one flipped bit anywhere in a log that was synced.
#[test]
fn every_flipped_bit_of_an_acknowledged_log_is_reported_and_nothing_is_changed() {
    let fs = disk();
    let mut log = log_on(&fs, 400);
    log.recover().expect("new");
    for call in &script()[..6] {
        log.write(call).expect("healthy");
    }
    log.write(&[vote(6, "a")]).expect("a last call that does not fill its segment");
    drop(log);
    let before = contents(&fs);
    let whole = log_on(&fs, 400).recover().expect("whole");
    assert_eq!(contents(&fs), before, "recovery of a whole log changes nothing");
    assert!(before.len() >= 3, "several segments");
    let (last, _) = before.last_key_value().expect("segments");

    let mut reported = 0;
    for (name, bytes) in &before {
        let path = Path::new(DIRECTORY).join(name);
        for offset in 0..bytes.len() {
            fs.flip(&path, offset as u64, 1 << (offset % 8));
            let damaged = contents(&fs);
            // The mark behind the last frame was never synced and holds nothing.
            if name == last && offset >= bytes.len() - 40 {
                assert_eq!(log_on(&fs, 400).recover().expect("only a mark"), whole);
                // Put the mark back.
                let mut file = fs.create(&path).expect("there");
                file.write_at(0, bytes).expect("written");
                continue;
            }
            match log_on(&fs, 400).recover() {
                Err(StorageError::Corrupt { path: named, offset: at, .. }) => {
                    assert!(named.ends_with(name.as_str()), "{named}");
                    assert!(at <= offset as u64, "reported at {at}, flipped at {offset}");
                }
                other => panic!("{name} at {offset}: {other:?}"),
            }
            assert_eq!(contents(&fs), damaged, "nothing was changed");
            fs.flip(&path, offset as u64, 1 << (offset % 8));
            reported += 1;
        }
    }
    assert!(reported > 1000, "only {reported} bits");
}

/// Catalogue D07 (a): only a record that was never acknowledged may be cut without a word.
#[test]
fn a_damaged_record_that_was_never_synced_is_cut() {
    let fs = disk();
    let mut log = log_on(&fs, 1 << 20);
    log.recover().expect("new");
    log.write(&[append(1, 1..=2, 50)]).expect("healthy");
    let path = Path::new(DIRECTORY).join("00000000000000000001.log");
    let before = fs.file_len(&path).expect("there");
    fs.fail_syncs(1, LostPages::Kept);
    log.write(&[append(1, 3..=4, 50)]).expect_err("never acknowledged");
    for offset in [before, before + 20, before + 60] {
        fs.kill();
        fs.flip(&path, offset, 4);
        assert_eq!(log_on(&fs, 1 << 20).recover().expect("cut").entries.len(), 2);
        assert!(fs.file_len(&path).expect("there") <= before + 40);
        let mut log = log_on(&fs, 1 << 20);
        log.recover().expect("whole");
        fs.fail_syncs(1, LostPages::Kept);
        log.write(&[append(1, 3..=4, 50)]).expect_err("never acknowledged");
    }
}

#[test]
fn a_missing_segment_is_reported() {
    let fs = disk();
    let mut log = log_on(&fs, 200);
    log.recover().expect("new");
    for index in 1..=8 {
        log.write(&[append(1, index..=index, 300)]).expect("healthy");
    }
    drop(log);
    let names = fs.list(Path::new(DIRECTORY)).expect("there");
    for name in &names[..names.len() - 1] {
        let path = Path::new(DIRECTORY).join(name);
        let bytes = fs.content(&path).expect("there");
        fs.remove_file(&path).expect("there");
        let error = log_on(&fs, 200).recover().expect_err("a gap");
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
        fs.create(&path).expect("again").write_at(0, &bytes).expect("again");
    }
    assert_eq!(log_on(&fs, 200).recover().expect("complete").entries.len(), 8);
}

#[test]
fn a_crash_while_a_data_directory_is_made_leaves_one_that_opens() {
    let open = |fs: &MemoryFileSystem| DataDirectory::open_on(Arc::new(fs.clone()), "srv/data");
    for operations in 0.. {
        let mut ended = false;
        for outcome in outcomes() {
            let fs = MemoryFileSystem::new();
            fs.stop_after(Some(operations));
            let run = || -> Result<(), StorageError> {
                let mut directory = open(&fs)?;
                directory.bind_id(&"a".into())?;
                let mut log = directory.log(LogOptions::default())?;
                log.recover()?;
                directory.snapshots(2)?;
                log.write(&[vote(1, "a")])
            };
            ended = run().is_ok();
            fs.crash(&mut { outcome });
            let mut directory = open(&fs).unwrap_or_else(|error| panic!("{operations} {outcome:?}: {error}"));
            assert!(directory.server_id().is_none_or(|id| id == "a".into()));
            let mut log = directory.log(LogOptions::default()).expect("made or there");
            let found = log.recover().unwrap_or_else(|error| panic!("{operations} {outcome:?}: {error}"));
            assert!(!ended || found.hard_state.term == Term(1), "{outcome:?}");
            assert!(!ended || directory.server_id().is_some());
        }
        if ended {
            assert!(operations > 10, "everything was made");
            break;
        }
    }
}

fn meta(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last: EntryId::new(term, index),
        configuration: Configuration::new(vec![Server::voter("a", "a:1"), Server::nonvoter("b", "b:1")]),
        configuration_index: LogIndex(1),
        size: 0,
    }
}

fn state(index: u64) -> Vec<u8> {
    (0..700_u64).map(|byte| (byte * index) as u8).collect()
}

fn save(snapshots: &FileSnapshots, index: u64) -> Result<(), StorageError> {
    let mut sink = snapshots.create(&meta(2, index))?;
    for part in state(index).chunks(300) {
        sink.write_all(part).map_err(|error| StorageError::io("write", "snapshot", error))?;
        sink.flush().map_err(|error| StorageError::io("write", "snapshot", error))?;
    }
    sink.finish().map(drop)
}

fn snapshots_on(fs: &MemoryFileSystem) -> Result<FileSnapshots, StorageError> {
    Ok(FileSnapshots::open_on(Arc::new(fs.clone()), DIRECTORY, 2)?.with_clock(|| 1_795_176_681_949))
}

fn load(snapshots: &FileSnapshots) -> Option<(u64, Vec<u8>)> {
    let latest = snapshots.latest().expect("readable")?;
    let (meta, mut reader) = snapshots.open(latest.last).expect("the newest is whole");
    assert_eq!(meta, latest);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("readable");
    Some((latest.last.index.0, bytes))
}

#[test]
fn a_crash_leaves_the_newest_finished_snapshot_or_a_whole_newer_one() {
    for operations in 0.. {
        let mut ended = false;
        for outcome in outcomes() {
            let fs = disk();
            fs.stop_after(Some(operations));
            let mut finished = 0;
            if let Ok(snapshots) = snapshots_on(&fs) {
                finished = (1..=4).take_while(|index| save(&snapshots, *index).is_ok()).count() as u64;
            }
            ended = finished == 4;
            fs.crash(&mut { outcome });
            let snapshots = snapshots_on(&fs).expect("opens");
            let found = load(&snapshots);
            let index = found.as_ref().map_or(0, |(index, _)| *index);
            assert!(index == finished || index == finished + 1, "{index} after {finished}: {outcome:?}");
            assert!(found.is_none_or(|(index, bytes)| bytes == state(index)), "{outcome:?}");
            let names = fs.list(Path::new(DIRECTORY)).expect("there");
            let whole =
                |name: &String| fs.content(&Path::new(DIRECTORY).join(name).join("meta.json")).is_ok();
            assert!(names.iter().all(|name| !name.ends_with(".tmp") && whole(name)), "{names:?} {outcome:?}");
            save(&snapshots, 9).expect("usable");
            assert_eq!(load(&snapshots), Some((9, state(9))));
        }
        if ended {
            assert!(operations > 30, "the script was run");
            break;
        }
    }
}

#[test]
fn a_failed_sync_or_full_disk_leaves_the_older_snapshot() {
    for failing in 0..4 {
        let fs = disk();
        let snapshots = snapshots_on(&fs).expect("opens");
        save(&snapshots, 1).expect("healthy");
        let mut sink = snapshots.create(&meta(2, 2)).expect("healthy");
        sink.write_all(&state(2)).expect("healthy");
        let before = fs.operations();
        // Let `failing` syncs pass: find the operation by trying.
        fs.stop_after(Some(1 + failing));
        sink.finish().map(drop).expect_err("stopped half way");
        assert!(fs.operations() > before);
        fs.stop_after(None);
        assert_eq!(load(&snapshots_on(&fs).expect("opens")).map(|(index, _)| index), Some(1));
    }
    let fs = disk();
    let snapshots = snapshots_on(&fs).expect("opens");
    save(&snapshots, 1).expect("healthy");
    fs.set_capacity(Some(1500));
    save(&snapshots, 2).expect_err("full");
    fs.set_capacity(None);
    assert_eq!(load(&snapshots).map(|(index, _)| index), Some(1));
    assert_eq!(fs.list(Path::new(DIRECTORY)).expect("there").len(), 1, "the unfinished one is gone");
}

#[test]
fn a_damaged_snapshot_is_passed_over() {
    let fs = disk();
    let snapshots = snapshots_on(&fs).expect("opens");
    save(&snapshots, 1).expect("healthy");
    save(&snapshots, 2).expect("healthy");
    let path = Path::new(DIRECTORY).join("2-2-1795176681949").join("state.bin");
    fs.flip(&path, 77, 1);
    assert!(matches!(snapshots.open(EntryId::new(2, 2)), Err(StorageError::Corrupt { .. })));
    assert_eq!(load(&snapshots), Some((1, state(1))));
    fs.flip(&Path::new(DIRECTORY).join("2-1-1795176681949").join("meta.json"), 0, 1);
    assert_eq!(snapshots.latest().expect("readable"), None);
    assert!(matches!(snapshots.open(EntryId::new(2, 1)), Err(StorageError::NoSnapshot { .. })));
}

/// Found by the simulator (seeds 939, 1123 and 4820 with 20,000 events): the process dies between a rename and the sync of
/// the directory, the next start goes on with what the cache shows, and then power fails.
#[test]
fn what_a_start_finds_survives_the_next_power_failure() {
    let nothing = Always { kept: Kept::NOTHING, names: false };
    for operations in 0..60 {
        let fs = MemoryFileSystem::new();
        let open = || DataDirectory::open_on(Arc::new(fs.clone()), "data");
        let stores = || -> Result<_, StorageError> {
            let mut directory = open()?;
            let mut options = LogOptions::default();
            options.segment_bytes = 1;
            let mut log = directory.log(options)?;
            let recovered = log.recover()?;
            let snapshots = directory.snapshots(2)?.with_clock(|| 1);
            Ok((log, snapshots, recovered))
        };
        fs.create_dir(Path::new("data")).expect("a new disk");
        fs.sync_dir(Path::new("")).expect("a new disk");
        fs.stop_after(Some(operations));
        let work = || -> Result<(), StorageError> {
            let (mut log, snapshots, _) = stores()?;
            log.write(&[vote(1, "a"), append(1, 1..=3, 10)])?;
            log.write(&[append(1, 4..=5, 10)])?;
            let last = EntryId::new(1, 4);
            let meta = SnapshotMeta {
                last,
                configuration: Configuration::default(),
                configuration_index: LogIndex(0),
                size: 0,
            };
            snapshots.create(&meta)?.finish().map(drop)
        };
        let finished = work().is_ok();
        fs.kill();
        let (mut log, snapshots, mut found) = stores().expect("starts after a kill");
        let newest = snapshots.latest().expect("readable");
        let last = found.entries.last().map_or(0, |entry| entry.id.index.0);
        let next = append(1, last + 1..=last + 1, 10);
        log.write(std::slice::from_ref(&next)).expect("a sound disk");
        found.entries.extend(next.entries);
        drop((log, snapshots));
        fs.crash(&mut nothing.clone());
        let (_, snapshots, again) = stores().expect("starts after a power failure");
        assert_eq!(again, found, "{operations} operations");
        assert_eq!(snapshots.latest().expect("readable"), newest, "{operations} operations");
        if finished {
            return;
        }
    }
    panic!("the script does not end");
}

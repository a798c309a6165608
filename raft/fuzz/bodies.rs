//! What the fuzz targets do with their input: one function each, which panics when something is wrong.
//!
//! The functions are plain and safe, so that `raft/tests/fuzz_corpus.rs` runs the same code on a stable compiler over the
//! committed corpus and small changes of it.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use raft::core::{Entry, EntryKind, HardState, SnapshotMeta, Write};
use raft::storage::{
    DataDirectory, FileLog, FileSnapshots, FileSystem, LogOptions, LogStore, MemoryFileSystem, Recovered,
    SnapshotStore,
};
use raft::transport::wire::{
    Call, Configuration, FrameBuffer, Limits, MsgpackError, RequestFrame, ResponseFrame, TimeFormat,
    WireError, decode_peers, encode_peers,
};
use raft::{EntryId, LogIndex, Server, Term};

/// A target: takes any bytes, panics when something is wrong.
pub type Body = fn(&[u8]);

/// Every target with its name.
pub const TARGETS: [(&str, Body); 14] = [
    ("append_entries", append_entries),
    ("request_vote", request_vote),
    ("install_snapshot", install_snapshot),
    ("timeout_now", timeout_now),
    ("request_pre_vote", request_pre_vote),
    ("read_index", read_index),
    ("response", response),
    ("configuration", configuration),
    ("frame_buffer", frame_buffer),
    ("log_last_segment", log_last_segment),
    ("log_middle_segment", log_middle_segment),
    ("log_records", log_records),
    ("snapshot_meta", snapshot_meta),
    ("identity", identity),
];

/// Small limits, so that short inputs reach them.
const LIMITS: Limits = Limits { frame_bytes_max: 1 << 20, items_max: 1024 };

/// An append request without its type byte.
pub fn append_entries(data: &[u8]) {
    request(0, data);
}

/// A vote request without its type byte.
pub fn request_vote(data: &[u8]) {
    request(1, data);
}

/// A request to install a snapshot, without its type byte.
pub fn install_snapshot(data: &[u8]) {
    request(2, data);
}

/// A TimeoutNow without its type byte.
pub fn timeout_now(data: &[u8]) {
    request(3, data);
}

/// A pre-vote request without its type byte.
pub fn request_pre_vote(data: &[u8]) {
    request(4, data);
}

/// A request for a read index without its type byte.
pub fn read_index(data: &[u8]) {
    request(128, data);
}

/// What is accepted means the same after it was encoded again, and a frame buffer cuts it at the same place.
fn request(kind: u8, data: &[u8]) {
    let frame = Bytes::from([&[kind], data].concat());
    let decoded = RequestFrame::decode(&frame, &LIMITS);
    let mut buffer = filled(&frame);
    let taken = buffer.take_request();
    assert_bounded(&buffer, frame.len());
    let Ok(request) = decoded else {
        if let Ok(Some(_)) = taken {
            assert!(!buffer.is_empty(), "the buffer took as a whole what the decoder refuses");
        }
        return;
    };
    if too_deep(&taken) {
        return;
    }
    assert_eq!(taken.as_ref(), Ok(&Some(request.clone())), "the buffer takes what the decoder takes");
    assert!(buffer.is_empty(), "all of it");
    for format in [TimeFormat::Legacy, TimeFormat::Timestamp] {
        let mut encoded = BytesMut::new();
        request.encode(format, &mut encoded);
        let again = RequestFrame::decode(&encoded.freeze(), &LIMITS).expect("own bytes");
        if format == TimeFormat::Legacy {
            assert_eq!(again, request, "nothing is lost on the way");
        }
    }
}

/// A response; the first byte chooses the call that it answers.
pub fn response(data: &[u8]) {
    let calls = [
        Call::AppendEntries,
        Call::RequestVote,
        Call::InstallSnapshot,
        Call::TimeoutNow,
        Call::RequestPreVote,
        Call::ReadIndex,
    ];
    let Some((first, rest)) = data.split_first() else { return };
    let call = calls[usize::from(*first) % calls.len()];
    let frame = Bytes::copy_from_slice(rest);
    let decoded = ResponseFrame::decode(call, frame, &LIMITS);
    let mut buffer = filled(rest);
    let taken = buffer.take_response(call);
    assert_bounded(&buffer, rest.len());
    let Ok(response) = decoded else { return };
    if too_deep(&taken) {
        return;
    }
    assert_eq!(taken.as_ref(), Ok(&Some(response.clone())), "the buffer takes what the decoder takes");
    let mut encoded = BytesMut::new();
    response.encode(&mut encoded);
    let again = ResponseFrame::decode(call, encoded.freeze(), &LIMITS).expect("own bytes");
    assert_eq!(again, response, "nothing is lost on the way");
}

/// A configuration and a list of peers.
pub fn configuration(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(configuration) = Configuration::decode(bytes.clone(), &LIMITS) {
        let again = Configuration::decode(configuration.encode(), &LIMITS).expect("own bytes");
        assert_eq!(again, configuration);
    }
    if let Ok(peers) = decode_peers(bytes, &LIMITS) {
        let again = decode_peers(encode_peers(peers.as_deref()), &LIMITS).expect("own bytes");
        assert_eq!(again, peers);
    }
}

/// A stream of requests behind eight bytes that say how it is cut up: however it arrives, the same comes out.
pub fn frame_buffer(data: &[u8]) {
    let Some((cuts, stream)) = data.split_first_chunk::<8>() else { return };
    let mut whole = filled(stream);
    let mut expected = Vec::new();
    let end = loop {
        match whole.take_request() {
            Ok(Some(frame)) => expected.push(frame),
            end => break end,
        }
    };
    let mut random = Random(u64::from_le_bytes(*cuts));
    let mut buffer = FrameBuffer::new(LIMITS);
    let mut rest = stream;
    let mut found = Vec::new();
    let found_end = loop {
        match buffer.take_request() {
            Ok(Some(frame)) => found.push(frame),
            Ok(None) if !rest.is_empty() => {
                let longest = rest.len().min(1 + random.below(64));
                let (chunk, later) = rest.split_at(1 + random.below(longest));
                buffer.space().extend_from_slice(chunk);
                rest = later;
            }
            end => break end,
        }
        assert_bounded(&buffer, stream.len());
    };
    assert_eq!(found, expected);
    assert_eq!(found_end, end);
    if end == Ok(None) {
        assert_eq!(buffer.take_bytes(usize::MAX), whole.take_bytes(usize::MAX));
    }
}

/// The buffer counts levels from the start of the message, the decoder from the start of an unknown field.
fn too_deep<T>(taken: &Result<T, WireError>) -> bool {
    matches!(taken, Err(WireError::Malformed(MsgpackError::TooDeep)))
}

fn filled(bytes: &[u8]) -> FrameBuffer {
    let mut buffer = FrameBuffer::new(LIMITS);
    buffer.space().extend_from_slice(bytes);
    buffer
}

/// Memory follows what arrived, not what was announced.
fn assert_bounded(buffer: &FrameBuffer, arrived: usize) {
    assert!(buffer.capacity() <= 4 * arrived + (512 << 10), "{} for {arrived} bytes", buffer.capacity());
}

/// Numbers from a seed (xorshift64*), so that every run of an input does the same.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        // Zero would stay zero.
        self.0 |= u64::from(self.0 == 0);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }
}

const LOG: &str = "log";

fn segment(sequence: u64) -> String {
    format!("{LOG}/{sequence:020}.log")
}

fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    let entry = |index: u64| {
        let data = Bytes::from(vec![index as u8; (index % 50) as usize]);
        Entry::new(EntryId::new(term, index), EntryKind::Command, data)
    };
    indexes.map(entry).collect()
}

/// The log whose segments are replaced: three of them, with every kind of record.
pub fn base_log() -> MemoryFileSystem {
    let fs = MemoryFileSystem::new();
    fs.create_dir(Path::new(LOG)).expect("a new disk");
    let mut log = open_log(&fs, 600);
    log.recover().expect("a new log");
    let members = raft::Configuration::new(vec![Server::voter("a", "a:1"), Server::nonvoter("b", "b:1")]);
    let first = Entry {
        extensions: Bytes::from_static(b"beside"),
        ..Entry::new(EntryId::new(1, 1), EntryKind::Configuration(members), Bytes::new())
    };
    let vote = |term, id: &str| {
        Some(HardState { term: Term(term), voted_for: Some(id.into()), ..HardState::default() })
    };
    let writes = [
        Write { hard_state: vote(1, "a"), entries: vec![first], ..Write::default() },
        Write { entries: entries(1, 2..=6), ..Write::default() },
        Write { entries: entries(1, 7..=14), ..Write::default() },
        Write {
            hard_state: vote(2, "b"),
            truncate_from: Some(LogIndex(12)),
            entries: entries(2, 12..=20),
            ..Write::default()
        },
        Write { compact_through: Some(EntryId::new(1, 3)), ..Write::default() },
        Write { entries: entries(2, 21..=24), ..Write::default() },
        Write { hard_state: vote(3, "c"), entries: entries(3, 25..=30), ..Write::default() },
    ];
    for write in writes {
        log.write(&[write]).expect("it fits");
    }
    assert_eq!(segments(&fs), 3, "the targets count on three segments");
    fs
}

fn segments(fs: &MemoryFileSystem) -> usize {
    fs.list(Path::new(LOG)).expect("the log").len()
}

/// The bytes of one segment of the base log.
pub fn base_segment(sequence: u64) -> Vec<u8> {
    base_log().content(Path::new(&segment(sequence))).expect("there")
}

fn open_log(fs: &MemoryFileSystem, segment_bytes: u64) -> FileLog {
    let mut options = LogOptions::default();
    options.segment_bytes = segment_bytes;
    FileLog::new(Arc::new(fs.clone()), LOG, options)
}

fn put(fs: &MemoryFileSystem, path: &str, bytes: &[u8]) {
    let mut file = fs.create(Path::new(path)).expect("a file");
    file.write_at(0, bytes).expect("written");
}

fn contents(fs: &MemoryFileSystem) -> Vec<(String, Vec<u8>)> {
    let names = fs.list(Path::new(LOG)).expect("the log");
    let read = |name: String| {
        let bytes = fs.content(&Path::new(LOG).join(&name)).expect("there");
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

/// Any bytes in place of the last segment.
pub fn log_last_segment(data: &[u8]) {
    let fs = base_log();
    put(&fs, &segment(3), data);
    recover(&fs);
}

/// Any bytes in place of a segment that others follow.
pub fn log_middle_segment(data: &[u8]) {
    let fs = base_log();
    put(&fs, &segment(2), data);
    recover(&fs);
}

/// Any bytes as the records of a frame with fitting checksums, behind the only segment's start.
pub fn log_records(data: &[u8]) {
    let fs = MemoryFileSystem::new();
    fs.create_dir(Path::new(LOG)).expect("a new disk");
    open_log(&fs, 1 << 20).recover().expect("a new log");
    let mut bytes = fs.content(Path::new(&segment(1))).expect("made");
    let frame = frame(bytes.len() as u64, data);
    bytes.extend_from_slice(&frame);
    put(&fs, &segment(1), &bytes);
    recover(&fs);
}

/// A frame of segment 1 with this body, as `raft/src/storage/wal/frame.rs` describes it.
fn frame(offset: u64, body: &[u8]) -> Vec<u8> {
    let mut covered = Vec::new();
    covered.extend_from_slice(&1_u64.to_le_bytes());
    covered.extend_from_slice(&offset.to_le_bytes());
    covered.extend_from_slice(&0_u64.to_le_bytes());
    covered.extend_from_slice(&(body.len() as u32).to_le_bytes());
    covered.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    let mut frame = b"LGFR".to_vec();
    frame.extend_from_slice(&crc32fast::hash(&covered).to_le_bytes());
    frame.extend_from_slice(&covered);
    frame.extend_from_slice(body);
    frame.resize(frame.len().next_multiple_of(8), 0);
    frame
}

/// A log that reads well reads the same again, takes a write, and survives being written anew; one that does not is
/// left as it was.
fn recover(fs: &MemoryFileSystem) {
    let before = contents(fs);
    let mut log = open_log(fs, 1 << 20);
    let Ok(recovered) = log.recover() else {
        assert_eq!(contents(fs), before, "a log that cannot be trusted is not touched");
        return;
    };
    drop(log);
    let mut log = open_log(fs, 1 << 20);
    assert_eq!(log.recover().expect("it read well before"), recovered);
    assert_eq!(rewritten(&recovered), recovered, "it can be written anew");

    let last = recovered.entries.last().map_or(recovered.base, |entry| entry.id);
    let next = Entry::new(
        EntryId { index: last.index.next(), ..last },
        EntryKind::Command,
        Bytes::from_static(b"next"),
    );
    log.write(&[Write { entries: vec![next.clone()], ..Write::default() }]).expect("there is room behind it");
    let mut expected = recovered;
    expected.entries.push(next);
    assert_eq!(open_log(fs, 1 << 20).recover().expect("just written"), expected);
}

fn rewritten(recovered: &Recovered) -> Recovered {
    let fs = MemoryFileSystem::new();
    fs.create_dir(Path::new(LOG)).expect("a new disk");
    let mut log = open_log(&fs, 1 << 20);
    log.recover().expect("a new log");
    let write = Write {
        hard_state: Some(recovered.hard_state.clone()),
        reset_to: Some(recovered.base),
        entries: recovered.entries.clone(),
        commit: Some(recovered.commit),
        ..Write::default()
    };
    log.write(&[write]).expect("what was recovered fits");
    open_log(&fs, 1 << 20).recover().expect("just written")
}

const SNAPSHOTS: &str = "snapshots";
/// The state beside each meta.json.
pub const STATE: &[u8] = b"state";

/// Any bytes as the meta.json of a snapshot.
pub fn snapshot_meta(data: &[u8]) {
    let fs = MemoryFileSystem::new();
    fs.create_dir_all(Path::new("snapshots/1-1-1")).expect("a new disk");
    put(&fs, "snapshots/1-1-1/meta.json", data);
    put(&fs, "snapshots/1-1-1/state.bin", STATE);
    let Some(meta) = snapshots(&fs).latest().expect("one bad snapshot is no error") else { return };
    assert_eq!(meta.size, STATE.len() as u64);
    if let Ok((opened, mut state)) = snapshots(&fs).open(meta.last) {
        assert_eq!(opened, meta);
        let mut bytes = Vec::new();
        state.read_to_end(&mut bytes).expect("memory");
        assert_eq!(bytes, STATE);
    }
    let fs = MemoryFileSystem::new();
    store_snapshot(&fs, &meta);
    assert_eq!(snapshots(&fs).latest().expect("just written"), Some(meta), "it can be written anew");
}

fn snapshots(fs: &MemoryFileSystem) -> FileSnapshots {
    FileSnapshots::open_on(Arc::new(fs.clone()), SNAPSHOTS, 2).expect("memory").with_clock(|| 1)
}

/// Writes a snapshot of [`STATE`] and gives the bytes of its meta.json.
pub fn store_snapshot(fs: &MemoryFileSystem, meta: &SnapshotMeta) -> Vec<u8> {
    let mut sink = snapshots(fs).create(meta).expect("memory");
    sink.write_all(STATE).expect("memory");
    sink.finish().expect("memory");
    let name = format!("{SNAPSHOTS}/{}-{}-1/meta.json", meta.last.term, meta.last.index);
    fs.content(Path::new(&name)).expect("just written")
}

/// Any bytes as the identity file of a data directory.
pub fn identity(data: &[u8]) {
    let fs = MemoryFileSystem::new();
    fs.create_dir(Path::new("data")).expect("a new disk");
    put(&fs, "data/identity", data);
    let open = || DataDirectory::open_on(Arc::new(fs.clone()), "data");
    let Ok(mut directory) = open() else {
        let after = fs.content(Path::new("data/identity")).expect("there");
        assert_eq!(after, data, "a foreign directory is not touched");
        return;
    };
    let id = directory.server_id().unwrap_or_else(|| "me".into());
    directory.bind_id(&id).expect("it is ours");
    drop(directory);
    assert_eq!(open().expect("it is ours").server_id(), Some(id));
}

//! The fuzz targets on a stable compiler: over the committed corpus, and over small changes of every file in it.
//!
//! `raft/fuzz/corpus/<target>/` holds seeds made from recorded messages and from what the stores write, and may hold what a
//! fuzzer found. `FUZZ_SEEDS=write` writes the seeds anew; `FUZZ_ROUNDS` says how many changes of each file are tried.

#![cfg(feature = "tokio")]

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use raft::core::SnapshotMeta;
use raft::storage::{DataDirectory, LogOptions, MemoryFileSystem};
use raft::transport::wire::{
    Header, ReadIndexRequest, ReadIndexResponse, RequestFrame, ResponseBody, ResponseFrame, TimeFormat,
};
use raft::{Configuration, EntryId, LogIndex, Server};
use serde_json::Value;

#[allow(unreachable_pub, reason = "the fuzz crate makes these public")]
#[path = "../fuzz/bodies.rs"]
mod bodies;

use bodies::{Random, STATE, TARGETS};

/// How many changed forms of each file are tried: about two seconds in all without optimisation.
const ROUNDS: usize = 500;
/// Recorded messages above this are left to the tests that read the recordings.
const SEED_BYTES_MAX: usize = 1500;

type Corpus = BTreeMap<(&'static str, String), Vec<u8>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn recorded(file: &str) -> Vec<(String, Value, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/wire").join(file);
    let text = fs::read_to_string(&path).expect("recorded messages");
    let vectors = text.lines().map(|line| {
        let vector: Value = serde_json::from_str(line).expect("JSON");
        let bytes = vector.get("frame_base64").unwrap_or(&vector["data_base64"]);
        let bytes = STANDARD.decode(bytes.as_str().expect("text")).expect("base64");
        (vector["name"].as_str().expect("a name").to_owned(), vector, bytes)
    });
    vectors.filter(|(.., bytes)| bytes.len() <= SEED_BYTES_MAX).collect()
}

const CALLS: [(&str, &str); 5] = [
    ("AppendEntries", "append_entries"),
    ("RequestVote", "request_vote"),
    ("InstallSnapshot", "install_snapshot"),
    ("TimeoutNow", "timeout_now"),
    ("RequestPreVote", "request_pre_vote"),
];

/// Where a recorded message belongs, and as what.
fn add_message(seeds: &mut Corpus, name: &str, vector: &Value, bytes: &[u8]) {
    if vector["direction"] == "response" {
        let known = CALLS.iter().position(|(call, _)| vector["rpc"] == *call).expect("a known call");
        let call = u8::try_from(known).expect("five calls");
        seeds.insert(("response", format!("{}-{name}", CALLS[known].1)), [&[call], bytes].concat());
    } else if let Some((first, rest)) = bytes.split_first()
        && let Some((_, target)) = CALLS.get(usize::from(*first))
    {
        seeds.insert((target, name.to_owned()), rest.to_vec());
    }
}

fn wire_seeds(seeds: &mut Corpus) {
    let mut stream = Vec::new();
    for (_, target) in CALLS {
        for direction in ["request", "response"] {
            let messages = recorded(&format!("{target}_{direction}.jsonl"));
            if direction == "request" {
                stream.extend_from_slice(&messages.first().expect("some").2);
            }
            for (name, vector, bytes) in &messages {
                add_message(seeds, name, vector, bytes);
            }
        }
    }
    for file in ["append_entries_newtime_request.jsonl", "decode_ok.jsonl", "decode_err.jsonl"] {
        for (name, vector, bytes) in recorded(file) {
            add_message(seeds, &name, &vector, &bytes);
        }
    }
    for file in ["configuration.jsonl", "peers.jsonl"] {
        for (name, _, bytes) in recorded(file) {
            seeds.insert(("configuration", name), bytes);
        }
    }
    let header = Header {
        protocol_version: 3,
        id: Some(Bytes::from_static(b"server-1")),
        addr: Some(Bytes::from_static(b"10.0.0.1:8300")),
        ..Header::default()
    };
    let mut bytes = BytesMut::new();
    RequestFrame::ReadIndex(ReadIndexRequest { header: header.clone() })
        .encode(TimeFormat::Legacy, &mut bytes);
    seeds.insert(("read_index", "request".to_owned()), bytes[1..].to_vec());
    for (name, index, success) in [("done", 1 << 40, true), ("refused", 0, false)] {
        let body = ReadIndexResponse { header: header.clone(), term: 7, index, success };
        let mut bytes = BytesMut::from(&[5_u8][..]);
        ResponseFrame::ok(ResponseBody::ReadIndex(body)).encode(&mut bytes);
        seeds.insert(("response", format!("read_index-{name}")), bytes.to_vec());
    }
    for cut in [1_u64, 7] {
        let bytes = [&cut.to_le_bytes()[..], &stream].concat();
        seeds.insert(("frame_buffer", format!("all-calls-{cut}")), bytes);
    }
}

fn storage_seeds(seeds: &mut Corpus) {
    for sequence in 1..=3 {
        let bytes = bodies::base_segment(sequence);
        seeds.insert(("log_last_segment", format!("segment-{sequence}")), bytes.clone());
        seeds.insert(("log_middle_segment", format!("segment-{sequence}")), bytes);
    }
    // Behind the preamble and the frames' headers stand plain records.
    let body = |bytes: &[u8]| -> Vec<u8> {
        let length = u32::from_le_bytes(bytes[32..36].try_into().expect("four bytes"));
        bytes[40..40 + length as usize].to_vec()
    };
    let mut frames = 0;
    for sequence in 1..=3 {
        let bytes = bodies::base_segment(sequence);
        let starts = (16..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(b"LGFR"));
        for at in starts {
            let records = body(&bytes[at..]);
            // A segment's start may not stand in the middle of one.
            if !records.is_empty() && records[0] != 0x05 {
                seeds.insert(("log_records", format!("frame-{frames}")), records);
                frames += 1;
            }
        }
    }
    assert!(frames >= 5, "the base log has {frames} frames with records");
    for (name, configuration) in [
        ("empty", Configuration::default()),
        ("three", Configuration::new(["a", "b<&>", "ü"].map(|id| Server::voter(id, "10.0.0.1:1")).to_vec())),
        ("standby", Configuration::new(vec![Server::voter("a", "a:1"), Server::nonvoter("b", "b:1")])),
    ] {
        let meta = SnapshotMeta {
            last: EntryId::new(3, 42),
            configuration,
            configuration_index: LogIndex(7),
            size: STATE.len() as u64,
        };
        let bytes = bodies::store_snapshot(&MemoryFileSystem::new(), &meta);
        seeds.insert(("snapshot_meta", name.to_owned()), bytes);
    }
    for bound in [false, true] {
        let fs = MemoryFileSystem::new();
        let mut directory =
            DataDirectory::open_on(std::sync::Arc::new(fs.clone()), "data").expect("a new disk");
        if bound {
            directory.bind_id(&"server-1".into()).expect("the first");
            directory.log(LogOptions::default()).expect("made");
        }
        let bytes = fs.content(Path::new("data/identity")).expect("made");
        seeds.insert(("identity", if bound { "bound" } else { "new" }.to_owned()), bytes);
    }
}

fn committed() -> Corpus {
    let mut corpus = Corpus::new();
    for (target, _) in TARGETS {
        for entry in fs::read_dir(folder().join(target)).expect("every target has a corpus") {
            let entry = entry.expect("readable");
            let name = entry.file_name().into_string().expect("plain names");
            corpus.insert((target, name), fs::read(entry.path()).expect("readable"));
        }
    }
    corpus
}

#[test]
fn the_corpus_holds_the_seeds_and_stays_small() {
    let mut seeds = Corpus::new();
    wire_seeds(&mut seeds);
    storage_seeds(&mut seeds);
    if std::env::var("FUZZ_SEEDS").is_ok_and(|value| value == "write") {
        for ((target, name), bytes) in &seeds {
            let path = folder().join(target);
            fs::create_dir_all(&path).expect("writable");
            fs::write(path.join(name), bytes).expect("writable");
        }
    }
    let corpus = committed();
    for (key, bytes) in &seeds {
        assert!(corpus.get(key) == Some(bytes), "{key:?} is not current: run with FUZZ_SEEDS=write");
    }
    for (target, _) in TARGETS {
        assert!(corpus.keys().any(|(of, _)| *of == target), "{target} has no corpus");
    }
    let bytes: usize = corpus.values().map(Vec::len).sum();
    assert!(bytes < 300 << 10, "the corpus has {bytes} bytes");
}

/// Bytes that decide something in one of the formats: markers with lengths, extremes of numbers.
const TELLING: [&[u8]; 12] = [
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x00\x00\x00\x00\x00\x00\x00\x80",
    b"\x00\x00\x00\x00",
    b"\xdb\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
    b"18446744073709551615",
    b"\xc0",
];

/// One to four small changes.
fn changed(original: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(16)).min(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 | 2 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            3 if at < bytes.len() => bytes[at] = random.next() as u8,
            4 => drop(bytes.drain(at..end)),
            5 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            6 => {
                let telling = TELLING[random.below(TELLING.len())];
                let end = (at + telling.len() * random.below(2)).min(bytes.len());
                bytes.splice(at..end, telling.iter().copied());
            }
            _ => {
                let from = random.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
    }
    bytes
}

fn try_one((target, body): (&str, bodies::Body), what: &str, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(bytes))) {
        eprintln!("{target} fails over {what}: {}", STANDARD.encode(bytes));
        resume_unwind(panic);
    }
}

/// The most address space that this process had so far, in bytes; `None` where the system does not say.
fn address_space_peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmPeak:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[test]
fn no_input_breaks_a_target_or_makes_it_take_memory() {
    let rounds = std::env::var("FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let corpus = committed();
    let before = address_space_peak();
    for (number, target) in TARGETS.into_iter().enumerate() {
        let files: Vec<_> = corpus.iter().filter(|((of, _), _)| *of == target.0).collect();
        let mut random = Random(number as u64 + 1);
        for ((_, name), bytes) in &files {
            try_one(target, name, bytes);
            for round in 0..rounds {
                let other = files[random.below(files.len())].1;
                let input = changed(bytes, other, &mut random);
                try_one(target, &format!("change {round} of {name}"), &input);
            }
        }
    }
    // A length of 2^32 that was believed would show even if no byte of the memory was touched.
    if let (Some(before), Some(after)) = (before, address_space_peak()) {
        assert!(after - before < 1 << 30, "the address space grew by {} bytes", after - before);
    }
}

//! Messages recorded from hashicorp/raft: they decode to the recorded values and encode to the same bytes.
//!
//! The folder is `testdata/wire`, a sample; `WIRE_VECTORS` names another one. Files are JSON lines, bytes are base64.

#![cfg(feature = "tokio")]

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use raft::transport::wire::{
    Call, Configuration, FrameBuffer, Header, Limits, Log, RequestFrame, ResponseBody, ResponseFrame,
    TimeFormat, Timestamp, WireError, decode_peers, encode_peers,
};
use serde_json::{Value, json};

const NO_LIMITS: Limits = Limits { frame_bytes_max: usize::MAX, items_max: usize::MAX };

fn folder() -> PathBuf {
    std::env::var_os("WIRE_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/wire"), PathBuf::from)
}

/// The lines of a file; a missing or empty file is a failure.
fn vectors(file: &str) -> Vec<Value> {
    let path = folder().join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    assert!(!lines.is_empty(), "{} has no vectors", path.display());
    lines
}

fn name(vector: &Value) -> &str {
    vector["name"].as_str().expect("every vector has a name")
}

fn unbase64(value: &Value) -> Bytes {
    STANDARD.decode(value.as_str().expect("base64 text")).expect("base64").into()
}

fn bytes(value: Option<&Bytes>) -> Value {
    value.map_or(Value::Null, |bytes| STANDARD.encode(bytes).into())
}

fn call(vector: &Value) -> Call {
    match vector["rpc"].as_str().expect("every vector names its call") {
        "AppendEntries" => Call::AppendEntries,
        "RequestVote" => Call::RequestVote,
        "InstallSnapshot" => Call::InstallSnapshot,
        "TimeoutNow" => Call::TimeoutNow,
        "RequestPreVote" => Call::RequestPreVote,
        other => panic!("unknown call {other}"),
    }
}

fn go_time(time: &Timestamp) -> Vec<u8> {
    let mut out = vec![1 + u8::from(time.offset_seconds.is_some())];
    out.extend(time.seconds.to_be_bytes());
    out.extend(time.nanoseconds.to_be_bytes());
    out.extend(time.offset_minutes.to_be_bytes());
    out.extend(time.offset_seconds.map(i8::cast_unsigned));
    out
}

fn log_fields(log: &Log) -> Value {
    json!({
        "AppendedAt_wire": STANDARD.encode(go_time(&log.appended_at)),
        "Data": bytes(log.data.as_ref()),
        "Extensions": bytes(log.extensions.as_ref()),
        "Index": log.index,
        "Term": log.term,
        "Type": log.kind,
    })
}

fn with_header(header: &Header, mut fields: Value) -> Value {
    let map = fields.as_object_mut().expect("an object");
    map.insert("Addr".into(), bytes(header.addr.as_ref()));
    map.insert("ID".into(), bytes(header.id.as_ref()));
    map.insert("ProtocolVersion".into(), header.protocol_version.into());
    fields
}

fn request_fields(frame: &RequestFrame) -> Value {
    match frame {
        RequestFrame::AppendEntries(r) if r.features != 0 => unreachable!("no Go server says what it can do"),
        RequestFrame::AppendEntries(r) => with_header(
            &r.header,
            json!({
                "Entries": r.entries.as_ref().map(|logs| logs.iter().map(log_fields).collect::<Vec<_>>()),
                "Leader": bytes(r.leader.as_ref()),
                "LeaderCommitIndex": r.leader_commit_index,
                "PrevLogEntry": r.prev_log_entry,
                "PrevLogTerm": r.prev_log_term,
                "Term": r.term,
            }),
        ),
        RequestFrame::RequestVote(r) => with_header(
            &r.header,
            json!({
                "Candidate": bytes(r.candidate.as_ref()),
                "LastLogIndex": r.last_log_index,
                "LastLogTerm": r.last_log_term,
                "LeadershipTransfer": r.leadership_transfer,
                "Term": r.term,
            }),
        ),
        RequestFrame::InstallSnapshot(r) => with_header(
            &r.header,
            json!({
                "Configuration": bytes(r.configuration.as_ref()),
                "ConfigurationIndex": r.configuration_index,
                "LastLogIndex": r.last_log_index,
                "LastLogTerm": r.last_log_term,
                "Leader": bytes(r.leader.as_ref()),
                "Peers": bytes(r.peers.as_ref()),
                "Size": r.size,
                "SnapshotVersion": r.snapshot_version,
                "Term": r.term,
            }),
        ),
        RequestFrame::TimeoutNow(r) => {
            assert_eq!(r.term, None, "no Go server sends a term");
            with_header(&r.header, json!({}))
        }
        RequestFrame::RequestPreVote(r) => with_header(
            &r.header,
            json!({ "LastLogIndex": r.last_log_index, "LastLogTerm": r.last_log_term, "Term": r.term }),
        ),
        RequestFrame::ReadIndex(_) => unreachable!("no Go server asks for a read index"),
    }
}

fn response_fields(body: Option<&ResponseBody>) -> Value {
    match body {
        None => Value::Null,
        Some(ResponseBody::AppendEntries(r)) => with_header(
            &r.header,
            json!({
                "LastLog": r.last_log,
                "NoRetryBackoff": r.no_retry_backoff,
                "Success": r.success,
                "Term": r.term,
            }),
        ),
        Some(ResponseBody::RequestVote(r)) => with_header(
            &r.header,
            json!({ "Granted": r.granted, "Peers": bytes(r.peers.as_ref()), "Term": r.term }),
        ),
        Some(ResponseBody::InstallSnapshot(r)) => {
            with_header(&r.header, json!({ "Success": r.success, "Term": r.term }))
        }
        Some(ResponseBody::TimeoutNow(r)) => with_header(&r.header, json!({})),
        Some(ResponseBody::RequestPreVote(r)) => {
            with_header(&r.header, json!({ "Granted": r.granted, "Term": r.term }))
        }
        Some(ResponseBody::ReadIndex(_)) => unreachable!("no Go server answers for a read"),
    }
}

/// The recorded fields without those that only explain others.
fn recorded(vector: &Value) -> Value {
    let mut fields = vector["fields"].clone();
    if let Some(entries) = fields.get_mut("Entries").and_then(Value::as_array_mut) {
        for entry in entries {
            let entry = entry.as_object_mut().expect("an entry");
            entry.remove("AppendedAt");
            entry.remove("TypeName");
        }
    }
    fields
}

/// The newer form of a time has no zone, so it arrives as UTC.
fn in_utc(mut fields: Value) -> Value {
    for entry in fields["Entries"].as_array_mut().into_iter().flatten() {
        let time = unbase64(&entry["AppendedAt_wire"]);
        let utc = [&[1], &time[1..13], &[0xff, 0xff]].concat();
        entry["AppendedAt_wire"] = STANDARD.encode(utc).into();
    }
    fields
}

fn filled(bytes: &[u8], limits: Limits) -> FrameBuffer {
    let mut buffer = FrameBuffer::new(limits);
    buffer.space().extend_from_slice(bytes);
    buffer
}

fn encoded(frame: &RequestFrame, format: TimeFormat) -> BytesMut {
    let mut out = BytesMut::new();
    frame.encode(format, &mut out);
    out
}

const REQUESTS: [&str; 5] = [
    "append_entries_request.jsonl",
    "request_vote_request.jsonl",
    "install_snapshot_request.jsonl",
    "timeout_now_request.jsonl",
    "request_pre_vote_request.jsonl",
];

const RESPONSES: [&str; 5] = [
    "append_entries_response.jsonl",
    "request_vote_response.jsonl",
    "install_snapshot_response.jsonl",
    "timeout_now_response.jsonl",
    "request_pre_vote_response.jsonl",
];

#[test]
fn requests_of_go_decode_and_encode_to_the_same_bytes() {
    for vector in REQUESTS.iter().flat_map(|file| vectors(file)) {
        let name = name(&vector);
        let frame = unbase64(&vector["frame_base64"]);
        let stream = vector.get("stream_base64").map(unbase64).unwrap_or_default();
        let mut buffer = filled(&[&frame[..], &stream[..]].concat(), Limits::default());
        let request = buffer.take_request().expect(name).expect(name);
        assert_eq!(request.call(), call(&vector), "{name}");
        assert_eq!(request_fields(&request), recorded(&vector), "{name}");
        assert_eq!(encoded(&request, TimeFormat::Legacy), frame, "{name}");
        assert_eq!(buffer.take_bytes(usize::MAX), stream, "{name}");
    }
}

#[test]
fn requests_with_the_newer_time_format_decode_and_encode_to_the_same_bytes() {
    for vector in vectors("append_entries_newtime_request.jsonl") {
        let name = name(&vector);
        let frame = unbase64(&vector["frame_base64"]);
        let request = RequestFrame::decode(&frame, &Limits::default()).expect(name);
        assert_eq!(request_fields(&request), in_utc(recorded(&vector)), "{name}");
        assert_eq!(encoded(&request, TimeFormat::Timestamp), frame, "{name}");
    }
}

#[test]
fn responses_of_go_decode_and_encode_to_the_same_bytes() {
    for vector in RESPONSES.iter().flat_map(|file| vectors(file)) {
        let name = name(&vector);
        let frame = unbase64(&vector["frame_base64"]);
        let mut buffer = filled(&frame, Limits::default());
        let response = buffer.take_response(call(&vector)).expect(name).expect(name);
        assert_eq!(response_fields(response.body.as_ref()), vector["fields"], "{name}");
        assert_eq!(response.error, vector["error"].as_str().expect("text"), "{name}");
        let mut out = BytesMut::new();
        response.encode(&mut out);
        assert_eq!(out, frame, "{name}");
        assert!(buffer.is_empty(), "{name}");
    }
}

#[test]
fn configurations_of_go_decode_and_encode_to_the_same_bytes() {
    for vector in vectors("configuration.jsonl") {
        let name = name(&vector);
        let data = unbase64(&vector["data_base64"]);
        let configuration = Configuration::decode(data.clone(), &Limits::default()).expect(name);
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("recorded names are text");
        let fields = configuration.servers.as_ref().map(|servers| {
            let server = |s: &raft::transport::wire::Server| {
                json!({ "Address": text(&s.address), "ID": text(&s.id), "Suffrage": s.suffrage })
            };
            servers.iter().map(server).collect::<Vec<_>>()
        });
        assert_eq!(json!({ "Servers": fields }), vector["fields"], "{name}");
        assert_eq!(configuration.encode(), data, "{name}");
    }
}

#[test]
fn peer_lists_of_go_decode_and_encode_to_the_same_bytes() {
    for vector in vectors("peers.jsonl") {
        let name = name(&vector);
        let data = unbase64(&vector["data_base64"]);
        let peers = decode_peers(data.clone(), &Limits::default()).expect(name);
        let fields = peers.as_ref().map(|peers| peers.iter().map(|p| bytes(Some(p))).collect::<Vec<_>>());
        assert_eq!(json!({ "Peers": fields }), vector["fields"], "{name}");
        assert_eq!(encode_peers(peers.as_deref()), data, "{name}");
    }
}

#[test]
fn what_go_accepts_is_accepted_with_the_same_value() {
    for vector in vectors("decode_ok.jsonl") {
        let name = name(&vector);
        let frame = unbase64(&vector["frame_base64"]);
        if vector["direction"] == "response" {
            let response = ResponseFrame::decode(call(&vector), frame, &Limits::default()).expect(name);
            assert_eq!(response_fields(response.body.as_ref()), vector["fields"], "{name}");
            continue;
        }
        let mut buffer = filled(&frame, Limits::default());
        let request = buffer.take_request().expect(name).expect(name);
        assert_eq!(request_fields(&request), recorded(&vector), "{name}");
        assert!(buffer.is_empty(), "{name}");
    }
}

#[test]
fn what_go_refuses_is_refused_and_what_go_waits_for_is_incomplete() {
    let mut seen = (0, 0);
    for vector in vectors("decode_err.jsonl") {
        let name = name(&vector);
        let frame = unbase64(&vector["frame_base64"]);
        let mut buffer = filled(&frame, NO_LIMITS);
        let taken = if vector["direction"] == "response" {
            buffer.take_response(call(&vector)).map(|taken| taken.map(drop))
        } else {
            buffer.take_request().map(|taken| taken.map(drop))
        };
        match vector["go_connection"].as_str() {
            Some("closed") => {
                assert!(taken.is_err(), "{name} gave {taken:?}");
                seen.0 += 1;
            }
            Some("waits") => {
                assert_eq!(taken, Ok(None), "{name}");
                assert!(buffer.capacity() <= 4 * frame.len() + 8192, "{name} took memory");
                seen.1 += 1;
            }
            other => panic!("{name} says {other:?}"),
        }
    }
    assert!(seen.0 > 0 && seen.1 > 0, "both kinds must occur: {seen:?}");
}

#[test]
fn announced_lengths_take_no_memory_and_are_refused_beyond_the_limit() {
    // The head of a field's value that announces 2^32-1 bytes or items.
    let bombs: [&[u8]; 7] = [
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff\xa0\xdf\xff\xff\xff\xff",
    ];
    for bomb in bombs {
        for field in [&b"\xa1x"[..], b"\xa7Entries", b"\xa2ID"] {
            let frame = [b"\x00\x81", field, bomb].concat();
            let mut open = filled(&frame, NO_LIMITS);
            assert!(matches!(open.take_request(), Ok(None)), "{frame:x?}");
            assert!(open.capacity() < 16 << 10, "{frame:x?}");
            let mut bounded = filled(&frame, Limits::default());
            assert!(matches!(bounded.take_request(), Err(WireError::Malformed(_))), "{frame:x?}");
        }
    }
    let mut deep = filled(&[b"\x01\x81\xa1x".to_vec(), vec![0x91; 1_000_000]].concat(), Limits::default());
    assert!(deep.take_request().is_err());
}

#[test]
fn entries_beyond_the_limit_are_refused() {
    let frame = [b"\x00\x81\xa7Entries\xdd\x00\x10\x00\x00".to_vec(), vec![0xc0; 1 << 20]].concat();
    let refused = filled(&frame, Limits::default()).take_request();
    assert!(matches!(refused, Err(WireError::Malformed(_))), "{refused:?}");
}

/// Every recorded message that is small enough to be tried at each byte.
fn small_frames() -> Vec<(Option<Call>, Bytes)> {
    let requests = REQUESTS.iter().flat_map(|file| vectors(file)).map(|v| (None, v));
    let responses = RESPONSES.iter().flat_map(|file| vectors(file)).map(|v| (Some(call(&v)), v));
    let frames = requests.chain(responses).map(|(call, v)| (call, unbase64(&v["frame_base64"])));
    let small: Vec<_> = frames.filter(|(_, frame)| frame.len() <= 4096).collect();
    assert!(small.len() > 50, "the sample has shrunk to {}", small.len());
    small
}

fn take(buffer: &mut FrameBuffer, call: Option<Call>) -> Result<bool, WireError> {
    match call {
        None => buffer.take_request().map(|taken| taken.is_some()),
        Some(call) => buffer.take_response(call).map(|taken| taken.is_some()),
    }
}

#[test]
fn a_message_that_arrives_byte_by_byte_is_complete_at_its_last_byte() {
    for (call, frame) in small_frames() {
        let mut buffer = FrameBuffer::new(Limits::default());
        for (at, byte) in frame.iter().enumerate() {
            assert_eq!(take(&mut buffer, call), Ok(false), "after {at} of {} bytes", frame.len());
            buffer.space().extend_from_slice(&[*byte]);
        }
        assert_eq!(take(&mut buffer, call), Ok(true));
        let cut = frame.slice(..frame.len() - 1);
        let whole = match call {
            None => RequestFrame::decode(&cut, &Limits::default()).map(drop),
            Some(call) => ResponseFrame::decode(call, cut, &Limits::default()).map(drop),
        };
        assert!(whole.is_err());
    }
}

#[test]
fn no_flipped_byte_makes_the_decoder_panic_or_take_more_than_arrived() {
    for (call, frame) in small_frames() {
        for at in 0..frame.len() {
            for flip in [0x01, 0x20, 0x80, 0xff] {
                let mut bytes = frame.to_vec();
                bytes[at] ^= flip;
                let mut buffer = filled(&bytes, Limits::default());
                let _ = take(&mut buffer, call);
                assert!(buffer.capacity() < 32 << 10);
            }
        }
    }
}

//! The messages of the hashicorp/raft protocol, byte for byte.
//!
//! A request is a type byte and a msgpack struct; a response is a string (the error text, usually empty) and a struct.
//! Nothing carries a length, so [`FrameBuffer`] finds where a message ends while it arrives. The structs keep what the
//! wire can tell apart (nil and empty bytes, zone of a time), so a message of a Go server encodes to the bytes it came
//! from. What the messages *mean* is in the `convert` module.
//!
//! Fields have the names and the order of the Go structs. Keys are written in byte order, as go-msgpack writes them.

#![allow(missing_docs, reason = "the fields are those of the hashicorp/raft structs, name by name")]

use bytes::{BufMut, Bytes, BytesMut};

mod frame;
mod header;
mod members;
mod msgpack;
mod read_index;

pub use frame::{FrameBuffer, RequestFrame, ResponseBody, ResponseFrame};
pub use header::Header;
pub use members::{Configuration, Server, decode_peers, encode_peers};
pub use msgpack::MsgpackError;
use msgpack::{
    Reader, Shape, put_array, put_bool, put_map, put_raw, put_raw_or_nil, put_signed, put_unsigned,
};
pub use read_index::{ReadIndexRequest, ReadIndexResponse};

/// The protocol version that this crate speaks.
pub const PROTOCOL_VERSION: i64 = 3;

/// Bounds on what is read. They hold before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in one message. Default 64 MiB: hashicorp/raft sends up to 64 entries in one.
    pub frame_bytes_max: usize,
    /// Entries in one append request, servers in one configuration. Default 65,536.
    pub items_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame_bytes_max: 64 << 20, items_max: 65_536 }
    }
}

/// How times are written. Both forms are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// Go's binary time in a string; the default of hashicorp/raft.
    #[default]
    Legacy,
    /// A msgpack timestamp in a string, as with `MsgpackUseNewTimeFormat`.
    Timestamp,
}

/// Why bytes are no message. The connection cannot be used any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The first byte is no request type.
    #[error("unknown request type {byte}{hint}")]
    UnknownType {
        /// The byte.
        byte: u8,
        /// What the sender may be speaking instead, as the end of a sentence.
        hint: &'static str,
    },
    /// The struct cannot be read.
    #[error(transparent)]
    Malformed(#[from] MsgpackError),
    /// Bytes that belong to nothing follow the message.
    #[error("{count} bytes follow the message")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

/// The five calls of the protocol, and one of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    AppendEntries,
    RequestVote,
    InstallSnapshot,
    TimeoutNow,
    RequestPreVote,
    /// Our addition. Only for servers that have shown that they know it.
    ReadIndex,
}

impl Call {
    /// The call that a request's first byte names.
    ///
    /// # Errors
    /// [`WireError::UnknownType`], with a hint when the byte starts an HTTP request or a TLS handshake.
    pub const fn from_byte(byte: u8) -> Result<Self, WireError> {
        Ok(match byte {
            0 => Self::AppendEntries,
            1 => Self::RequestVote,
            2 => Self::InstallSnapshot,
            3 => Self::TimeoutNow,
            4 => Self::RequestPreVote,
            128 => Self::ReadIndex,
            0x16 => return Err(WireError::UnknownType { byte, hint: " (looks like a TLS handshake)" }),
            b'A'..=b'Z' => return Err(WireError::UnknownType { byte, hint: " (looks like HTTP)" }),
            _ => return Err(WireError::UnknownType { byte, hint: "" }),
        })
    }

    const fn byte(self) -> u8 {
        match self {
            Self::AppendEntries => 0,
            Self::RequestVote => 1,
            Self::InstallSnapshot => 2,
            Self::TimeoutNow => 3,
            Self::RequestPreVote => 4,
            // Far from what hashicorp/raft may come to use, and no beginning of HTTP or TLS.
            Self::ReadIndex => 128,
        }
    }
}

/// A struct of the protocol: fields by name, or by position.
trait Record: Default {
    /// The fields in order of declaration; the wire may send a struct as a list in this order.
    const FIELDS: &[&[u8]];

    /// Reads one field. False, and nothing read, if there is none of this name.
    fn read_field(&mut self, name: &[u8], from: &mut Reader, limits: &Limits) -> Result<bool, MsgpackError>;
}

/// Reads a struct; `None` if it is nil. Unknown fields are skipped, missing ones keep their zero value, of repeated ones
/// the last counts.
fn read_record<T: Record>(from: &mut Reader, limits: &Limits) -> Result<Option<T>, MsgpackError> {
    let mut record = T::default();
    match from.shape("a struct")? {
        Shape::Nil => return Ok(None),
        Shape::Map(len) => {
            let input = from.input();
            for _ in 0..len {
                let name = &input[from.key()?];
                if !record.read_field(name, from, limits)? {
                    from.skip()?;
                }
            }
        }
        Shape::Array(len) => {
            for position in 0..len as usize {
                let known = match T::FIELDS.get(position) {
                    Some(name) => record.read_field(name, from, limits)?,
                    None => false,
                };
                if !known {
                    from.skip()?;
                }
            }
        }
    }
    Ok(Some(record))
}

/// Reads a list of structs.
fn read_list<T: Record>(from: &mut Reader, limits: &Limits) -> Result<Option<Vec<T>>, MsgpackError> {
    let Some(announced) = from.array()? else { return Ok(None) };
    if announced as usize > limits.items_max {
        return Err(MsgpackError::TooMany { announced, limit: limits.items_max });
    }
    let mut list = Vec::new();
    for _ in 0..announced {
        list.push(read_record(from, limits)?.unwrap_or_default());
    }
    Ok(Some(list))
}

fn put_number(out: &mut BytesMut, name: &[u8], value: u64) {
    put_raw(out, name);
    put_unsigned(out, value);
}

fn put_bytes(out: &mut BytesMut, name: &[u8], value: Option<&[u8]>) {
    put_raw(out, name);
    put_raw_or_nil(out, value);
}

fn put_flag(out: &mut BytesMut, name: &[u8], value: bool) {
    put_raw(out, name);
    put_bool(out, value);
}

/// Seconds from Go's zero time, the start of the year 1, to the Unix epoch.
const UNIX_EPOCH_SECONDS: i64 = 62_135_596_800;

/// A point in time as Go's binary form holds it. The default is Go's zero time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Since the start of the year 1, UTC.
    pub seconds: i64,
    pub nanoseconds: i32,
    /// The zone's offset in minutes; -1 is UTC.
    pub offset_minutes: i16,
    /// Seconds of the zone's offset, in the longer form that zones with seconds need.
    pub offset_seconds: Option<i8>,
}

impl Default for Timestamp {
    fn default() -> Self {
        Self { seconds: 0, nanoseconds: 0, offset_minutes: -1, offset_seconds: None }
    }
}

impl Timestamp {
    const fn from_unix(seconds: i64, nanoseconds: i32) -> Self {
        Self {
            seconds: seconds.wrapping_add(UNIX_EPOCH_SECONDS),
            nanoseconds,
            offset_minutes: -1,
            offset_seconds: None,
        }
    }

    fn read(from: &mut Reader) -> Result<Self, MsgpackError> {
        if from.nil()? {
            return Ok(Self::default());
        }
        let at = from.position();
        let (marker, payload) = from.time_payload()?;
        let wrong = MsgpackError::Unexpected { expected: "a time", marker, at };
        let short = matches!(marker, 0xa0..=0xbf);
        let number = |range: std::ops::Range<usize>| {
            payload[range].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        Ok(match payload.len() {
            4 => Self::from_unix(number(0..4) as i64, 0),
            8 => {
                let packed = number(0..8);
                Self::from_unix((packed & ((1 << 34) - 1)) as i64, (packed >> 34) as i32)
            }
            12 => Self::from_unix(number(4..12) as i64, number(0..4) as i32),
            // Go reads its own binary form only from the shortest string form.
            15 | 16 if short && usize::from(payload[0]) == payload.len() - 14 => Self {
                seconds: number(1..9) as i64,
                nanoseconds: number(9..13) as i32,
                offset_minutes: number(13..15) as i16,
                offset_seconds: payload.get(15).map(|byte| *byte as i8),
            },
            _ => return Err(wrong),
        })
    }

    fn put(&self, out: &mut BytesMut, format: TimeFormat) {
        match format {
            TimeFormat::Legacy => {
                let version = 1 + u8::from(self.offset_seconds.is_some());
                out.put_slice(&[0xae + version, version]);
                out.put_i64(self.seconds);
                out.put_i32(self.nanoseconds);
                out.put_i16(self.offset_minutes);
                if let Some(seconds) = self.offset_seconds {
                    out.put_i8(seconds);
                }
            }
            TimeFormat::Timestamp if self.seconds == 0 && self.nanoseconds == 0 => out.put_u8(0xc0),
            TimeFormat::Timestamp => {
                let seconds = self.seconds.wrapping_sub(UNIX_EPOCH_SECONDS);
                match (seconds, self.nanoseconds) {
                    (0..0x1_0000_0000, 0) => {
                        out.put_u8(0xa4);
                        out.put_u32(seconds as u32);
                    }
                    (0..0x4_0000_0000, nanoseconds) => {
                        out.put_u8(0xa8);
                        out.put_u64((nanoseconds as u64) << 34 | seconds as u64);
                    }
                    (_, nanoseconds) => {
                        out.put_u8(0xac);
                        out.put_i32(nanoseconds);
                        out.put_i64(seconds);
                    }
                }
            }
        }
    }
}

/// An entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    pub index: u64,
    pub term: u64,
    pub kind: u8,
    pub data: Option<Bytes>,
    pub extensions: Option<Bytes>,
    pub appended_at: Timestamp,
}

impl Record for Log {
    const FIELDS: &[&[u8]] = &[b"Index", b"Term", b"Type", b"Data", b"Extensions", b"AppendedAt"];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"Index" => self.index = from.unsigned()?,
            b"Term" => self.term = from.unsigned()?,
            b"Type" => self.kind = from.byte()?,
            b"Data" => self.data = from.raw()?,
            b"Extensions" => self.extensions = from.raw()?,
            b"AppendedAt" => self.appended_at = Timestamp::read(from)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// An entry to write, its payload borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogView<'a> {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) kind: u8,
    pub(crate) data: Option<&'a [u8]>,
    pub(crate) extensions: Option<&'a [u8]>,
    pub(crate) appended_at: Timestamp,
}

impl LogView<'_> {
    pub(crate) fn put(&self, out: &mut BytesMut, format: TimeFormat) {
        put_map(out, 6);
        put_raw(out, b"AppendedAt");
        self.appended_at.put(out, format);
        put_bytes(out, b"Data", self.data);
        put_bytes(out, b"Extensions", self.extensions);
        put_number(out, b"Index", self.index);
        put_number(out, b"Term", self.term);
        put_number(out, b"Type", u64::from(self.kind));
    }
}

/// Entries to append after the one named; or, with next to nothing in it, a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendEntriesRequest {
    pub header: Header,
    pub term: u64,
    pub leader: Option<Bytes>,
    pub prev_log_entry: u64,
    pub prev_log_term: u64,
    pub entries: Option<Vec<Log>>,
    pub leader_commit_index: u64,
    /// What the leader can do beyond the protocol: our addition to heartbeats, left out when zero. Go servers neither send it
    /// nor look at it.
    pub features: u64,
}

impl AppendEntriesRequest {
    /// Writes everything up to the head of the list of entries, with the type byte. So many entries must follow, then
    /// [`AppendEntriesRequest::put_tail`]. `entries` of the struct itself is not looked at.
    pub(crate) fn put_head(&self, out: &mut BytesMut, entries: Option<usize>) {
        out.put_u8(Call::AppendEntries.byte());
        put_map(out, 9 + self.header.own_keys() + u8::from(self.features != 0));
        self.header.put_addr(out);
        put_raw(out, b"Entries");
        match entries {
            Some(len) => put_array(out, len),
            None => out.put_u8(0xc0),
        }
    }

    pub(crate) fn put_tail(&self, out: &mut BytesMut) {
        if self.features != 0 {
            put_number(out, b"Features", self.features);
        }
        self.header.put_id(out);
        put_bytes(out, b"Leader", self.leader.as_deref());
        put_number(out, b"LeaderCommitIndex", self.leader_commit_index);
        put_number(out, b"PrevLogEntry", self.prev_log_entry);
        put_number(out, b"PrevLogTerm", self.prev_log_term);
        self.header.put_version(out);
        put_number(out, b"Term", self.term);
        self.header.put_own(out);
    }
}

impl Record for AppendEntriesRequest {
    const FIELDS: &[&[u8]] = &[
        b"ProtocolVersion",
        b"ID",
        b"Addr",
        b"Term",
        b"Leader",
        b"PrevLogEntry",
        b"PrevLogTerm",
        b"Entries",
        b"LeaderCommitIndex",
    ];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, limits: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"Term" => self.term = from.unsigned()?,
            b"Leader" => self.leader = from.raw()?,
            b"PrevLogEntry" => self.prev_log_entry = from.unsigned()?,
            b"PrevLogTerm" => self.prev_log_term = from.unsigned()?,
            b"Entries" => self.entries = read_list(from, limits)?,
            b"LeaderCommitIndex" => self.leader_commit_index = from.unsigned()?,
            b"Features" => self.features = from.unsigned()?,
            _ => return self.header.read_field(name, from),
        }
        Ok(true)
    }
}

/// Asks for a vote. `candidate` is the address, for servers that do not look at the header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestVoteRequest {
    pub header: Header,
    pub term: u64,
    pub candidate: Option<Bytes>,
    pub last_log_index: u64,
    pub last_log_term: u64,
    pub leadership_transfer: bool,
}

impl Record for RequestVoteRequest {
    const FIELDS: &[&[u8]] = &[
        b"ProtocolVersion",
        b"ID",
        b"Addr",
        b"Term",
        b"Candidate",
        b"LastLogIndex",
        b"LastLogTerm",
        b"LeadershipTransfer",
    ];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"Term" => self.term = from.unsigned()?,
            b"Candidate" => self.candidate = from.raw()?,
            b"LastLogIndex" => self.last_log_index = from.unsigned()?,
            b"LastLogTerm" => self.last_log_term = from.unsigned()?,
            b"LeadershipTransfer" => self.leadership_transfer = from.bool()?,
            _ => return self.header.read_field(name, from),
        }
        Ok(true)
    }
}

/// Asks whether a vote would be given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestPreVoteRequest {
    pub header: Header,
    pub term: u64,
    pub last_log_index: u64,
    pub last_log_term: u64,
}

impl Record for RequestPreVoteRequest {
    const FIELDS: &[&[u8]] = &[b"ProtocolVersion", b"ID", b"Addr", b"Term", b"LastLogIndex", b"LastLogTerm"];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"Term" => self.term = from.unsigned()?,
            b"LastLogIndex" => self.last_log_index = from.unsigned()?,
            b"LastLogTerm" => self.last_log_term = from.unsigned()?,
            _ => return self.header.read_field(name, from),
        }
        Ok(true)
    }
}

/// Announces a snapshot, whose `size` bytes of state follow the message unframed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstallSnapshotRequest {
    pub header: Header,
    pub snapshot_version: i64,
    pub term: u64,
    pub leader: Option<Bytes>,
    pub last_log_index: u64,
    pub last_log_term: u64,
    pub peers: Option<Bytes>,
    pub configuration: Option<Bytes>,
    pub configuration_index: u64,
    pub size: i64,
}

impl Record for InstallSnapshotRequest {
    const FIELDS: &[&[u8]] = &[
        b"ProtocolVersion",
        b"ID",
        b"Addr",
        b"SnapshotVersion",
        b"Term",
        b"Leader",
        b"LastLogIndex",
        b"LastLogTerm",
        b"Peers",
        b"Configuration",
        b"ConfigurationIndex",
        b"Size",
    ];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"SnapshotVersion" => self.snapshot_version = from.signed()?,
            b"Term" => self.term = from.unsigned()?,
            b"Leader" => self.leader = from.raw()?,
            b"LastLogIndex" => self.last_log_index = from.unsigned()?,
            b"LastLogTerm" => self.last_log_term = from.unsigned()?,
            b"Peers" => self.peers = from.raw()?,
            b"Configuration" => self.configuration = from.raw()?,
            b"ConfigurationIndex" => self.configuration_index = from.unsigned()?,
            b"Size" => self.size = from.signed()?,
            _ => return self.header.read_field(name, from),
        }
        Ok(true)
    }
}

/// Asks to campaign at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeoutNowRequest {
    pub header: Header,
    /// The leader's term: our addition to the protocol. Go servers neither send it nor look at it.
    pub term: Option<u64>,
}

impl Record for TimeoutNowRequest {
    const FIELDS: &[&[u8]] = &[b"ProtocolVersion", b"ID", b"Addr"];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"Term" => self.term = if from.nil()? { None } else { Some(from.unsigned()?) },
            _ => return self.header.read_field(name, from),
        }
        Ok(true)
    }
}

/// Answers an [`AppendEntriesRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendEntriesResponse {
    pub header: Header,
    pub term: u64,
    pub last_log: u64,
    pub success: bool,
    pub no_retry_backoff: bool,
    /// What the server can do beyond the protocol: our addition, left out when zero. Go servers neither send it nor
    /// look at it.
    pub features: u64,
}

impl Record for AppendEntriesResponse {
    const FIELDS: &[&[u8]] =
        &[b"ProtocolVersion", b"ID", b"Addr", b"Term", b"LastLog", b"Success", b"NoRetryBackoff"];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"Term" => self.term = from.unsigned()?,
            b"LastLog" => self.last_log = from.unsigned()?,
            b"Success" => self.success = from.bool()?,
            b"NoRetryBackoff" => self.no_retry_backoff = from.bool()?,
            b"Features" => self.features = from.unsigned()?,
            _ => return self.header.read_field(name, from),
        }
        Ok(true)
    }
}

/// Answers a [`RequestVoteRequest`]. `peers` is of use to servers before protocol version 2 only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestVoteResponse {
    pub header: Header,
    pub term: u64,
    pub peers: Option<Bytes>,
    pub granted: bool,
}

impl Record for RequestVoteResponse {
    const FIELDS: &[&[u8]] = &[b"ProtocolVersion", b"ID", b"Addr", b"Term", b"Peers", b"Granted"];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"Term" => self.term = from.unsigned()?,
            b"Peers" => self.peers = from.raw()?,
            b"Granted" => self.granted = from.bool()?,
            _ => return self.header.read_field(name, from),
        }
        Ok(true)
    }
}

/// Answers a [`RequestPreVoteRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestPreVoteResponse {
    pub header: Header,
    pub term: u64,
    pub granted: bool,
}

impl Record for RequestPreVoteResponse {
    const FIELDS: &[&[u8]] = &[b"ProtocolVersion", b"ID", b"Addr", b"Term", b"Granted"];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"Term" => self.term = from.unsigned()?,
            b"Granted" => self.granted = from.bool()?,
            _ => return self.header.read_field(name, from),
        }
        Ok(true)
    }
}

/// Answers an [`InstallSnapshotRequest`]. Go leaves the header empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstallSnapshotResponse {
    pub header: Header,
    pub term: u64,
    pub success: bool,
}

impl Record for InstallSnapshotResponse {
    const FIELDS: &[&[u8]] = &[b"ProtocolVersion", b"ID", b"Addr", b"Term", b"Success"];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"Term" => self.term = from.unsigned()?,
            b"Success" => self.success = from.bool()?,
            _ => return self.header.read_field(name, from),
        }
        Ok(true)
    }
}

/// Answers a [`TimeoutNowRequest`]. Go leaves the header empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeoutNowResponse {
    pub header: Header,
}

impl Record for TimeoutNowResponse {
    const FIELDS: &[&[u8]] = &[b"ProtocolVersion", b"ID", b"Addr"];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        self.header.read_field(name, from)
    }
}

//! Whole messages, and where they end.

use bytes::{BufMut, Bytes, BytesMut};

use super::msgpack::{MsgpackError, Reader, Scanner, put_map, put_raw};
use super::{
    AppendEntriesRequest, AppendEntriesResponse, Call, InstallSnapshotRequest, InstallSnapshotResponse,
    Limits, LogView, ReadIndexRequest, ReadIndexResponse, RequestPreVoteRequest, RequestPreVoteResponse,
    RequestVoteRequest, RequestVoteResponse, TimeFormat, TimeoutNowRequest, TimeoutNowResponse, WireError,
    put_bytes, put_flag, put_number, put_signed, read_record,
};

/// A request. The bytes of a snapshot's state that follow [`RequestFrame::InstallSnapshot`] are no part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFrame {
    AppendEntries(AppendEntriesRequest),
    RequestVote(RequestVoteRequest),
    InstallSnapshot(InstallSnapshotRequest),
    TimeoutNow(TimeoutNowRequest),
    RequestPreVote(RequestPreVoteRequest),
    ReadIndex(ReadIndexRequest),
}

/// The struct of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    AppendEntries(AppendEntriesResponse),
    RequestVote(RequestVoteResponse),
    InstallSnapshot(InstallSnapshotResponse),
    TimeoutNow(TimeoutNowResponse),
    RequestPreVote(RequestPreVoteResponse),
    ReadIndex(ReadIndexResponse),
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseFrame {
    /// Why the request was refused; usually empty. Any bytes, not only UTF-8.
    pub error: Bytes,
    /// The struct; a server that refused a request may send none.
    pub body: Option<ResponseBody>,
}

impl RequestFrame {
    /// Which call this is.
    #[must_use]
    pub const fn call(&self) -> Call {
        match self {
            Self::AppendEntries(_) => Call::AppendEntries,
            Self::RequestVote(_) => Call::RequestVote,
            Self::InstallSnapshot(_) => Call::InstallSnapshot,
            Self::TimeoutNow(_) => Call::TimeoutNow,
            Self::RequestPreVote(_) => Call::RequestPreVote,
            Self::ReadIndex(_) => Call::ReadIndex,
        }
    }

    /// Appends the bytes that hashicorp/raft writes for this request.
    pub fn encode(&self, format: TimeFormat, out: &mut BytesMut) {
        match self {
            Self::AppendEntries(request) => {
                request.put_head(out, request.entries.as_ref().map(Vec::len));
                for log in request.entries.iter().flatten() {
                    let view = LogView {
                        index: log.index,
                        term: log.term,
                        kind: log.kind,
                        data: log.data.as_deref(),
                        extensions: log.extensions.as_deref(),
                        appended_at: log.appended_at,
                    };
                    view.put(out, format);
                }
                request.put_tail(out);
            }
            Self::RequestVote(request) => put_request_vote(request, out),
            Self::InstallSnapshot(request) => put_install_snapshot(request, out),
            Self::TimeoutNow(request) => {
                out.put_u8(Call::TimeoutNow.byte());
                put_map(out, 3 + request.header.own_keys() + u8::from(request.term.is_some()));
                request.header.put_addr(out);
                request.header.put_id(out);
                request.header.put_version(out);
                if let Some(term) = request.term {
                    put_number(out, b"Term", term);
                }
                request.header.put_own(out);
            }
            Self::RequestPreVote(request) => {
                out.put_u8(Call::RequestPreVote.byte());
                put_map(out, 6 + request.header.own_keys());
                request.header.put_addr(out);
                request.header.put_id(out);
                put_number(out, b"LastLogIndex", request.last_log_index);
                put_number(out, b"LastLogTerm", request.last_log_term);
                request.header.put_version(out);
                put_number(out, b"Term", request.term);
                request.header.put_own(out);
            }
            Self::ReadIndex(request) => request.put(out),
        }
    }

    /// Who sends, and whom it means.
    pub(crate) const fn header(&self) -> &super::Header {
        match self {
            Self::AppendEntries(request) => &request.header,
            Self::RequestVote(request) => &request.header,
            Self::InstallSnapshot(request) => &request.header,
            Self::TimeoutNow(request) => &request.header,
            Self::RequestPreVote(request) => &request.header,
            Self::ReadIndex(request) => &request.header,
        }
    }

    /// Reads one request with its type byte. Payloads are slices of `bytes`.
    ///
    /// # Errors
    /// Everything that is not exactly one request within the limits.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let Some(&first) = bytes.first() else { return Err(MsgpackError::Truncated { at: 0 }.into()) };
        let call = Call::from_byte(first)?;
        let mut from = Reader::new(bytes.slice(1..));
        let request = match call {
            Call::AppendEntries => Self::AppendEntries(read_record(&mut from, limits)?.unwrap_or_default()),
            Call::RequestVote => Self::RequestVote(read_record(&mut from, limits)?.unwrap_or_default()),
            Call::InstallSnapshot => {
                Self::InstallSnapshot(read_record(&mut from, limits)?.unwrap_or_default())
            }
            Call::TimeoutNow => Self::TimeoutNow(read_record(&mut from, limits)?.unwrap_or_default()),
            Call::RequestPreVote => Self::RequestPreVote(read_record(&mut from, limits)?.unwrap_or_default()),
            Call::ReadIndex => Self::ReadIndex(read_record(&mut from, limits)?.unwrap_or_default()),
        };
        nothing_left(&from)?;
        Ok(request)
    }
}

fn put_request_vote(request: &RequestVoteRequest, out: &mut BytesMut) {
    out.put_u8(Call::RequestVote.byte());
    put_map(out, 8 + request.header.own_keys());
    request.header.put_addr(out);
    put_bytes(out, b"Candidate", request.candidate.as_deref());
    request.header.put_id(out);
    put_number(out, b"LastLogIndex", request.last_log_index);
    put_number(out, b"LastLogTerm", request.last_log_term);
    put_flag(out, b"LeadershipTransfer", request.leadership_transfer);
    request.header.put_version(out);
    put_number(out, b"Term", request.term);
    request.header.put_own(out);
}

fn put_install_snapshot(request: &InstallSnapshotRequest, out: &mut BytesMut) {
    out.put_u8(Call::InstallSnapshot.byte());
    put_map(out, 12 + request.header.own_keys());
    request.header.put_addr(out);
    put_bytes(out, b"Configuration", request.configuration.as_deref());
    put_number(out, b"ConfigurationIndex", request.configuration_index);
    request.header.put_id(out);
    put_number(out, b"LastLogIndex", request.last_log_index);
    put_number(out, b"LastLogTerm", request.last_log_term);
    put_bytes(out, b"Leader", request.leader.as_deref());
    put_bytes(out, b"Peers", request.peers.as_deref());
    request.header.put_version(out);
    put_raw(out, b"Size");
    put_signed(out, request.size);
    put_raw(out, b"SnapshotVersion");
    put_signed(out, request.snapshot_version);
    put_number(out, b"Term", request.term);
    request.header.put_own(out);
}

impl ResponseFrame {
    /// A response without an error.
    #[must_use]
    pub const fn ok(body: ResponseBody) -> Self {
        Self { error: Bytes::new(), body: Some(body) }
    }

    /// A response that says only why the request was refused.
    #[must_use]
    pub fn refused(error: impl Into<Bytes>) -> Self {
        Self { error: error.into(), body: None }
    }

    /// Appends the bytes that hashicorp/raft writes for this response.
    pub fn encode(&self, out: &mut BytesMut) {
        put_raw(out, &self.error);
        match &self.body {
            None => out.put_u8(0xc0),
            Some(ResponseBody::AppendEntries(response)) => {
                put_map(out, 7 + u8::from(response.features != 0) + response.header.own_keys());
                response.header.put_addr(out);
                if response.features != 0 {
                    put_number(out, b"Features", response.features);
                }
                response.header.put_id(out);
                put_number(out, b"LastLog", response.last_log);
                put_flag(out, b"NoRetryBackoff", response.no_retry_backoff);
                response.header.put_version(out);
                put_flag(out, b"Success", response.success);
                put_number(out, b"Term", response.term);
                response.header.put_own(out);
            }
            Some(ResponseBody::RequestVote(response)) => {
                put_map(out, 6 + response.header.own_keys());
                response.header.put_addr(out);
                put_flag(out, b"Granted", response.granted);
                response.header.put_id(out);
                put_bytes(out, b"Peers", response.peers.as_deref());
                response.header.put_version(out);
                put_number(out, b"Term", response.term);
                response.header.put_own(out);
            }
            Some(ResponseBody::InstallSnapshot(response)) => {
                put_map(out, 5 + response.header.own_keys());
                response.header.put_addr(out);
                response.header.put_id(out);
                response.header.put_version(out);
                put_flag(out, b"Success", response.success);
                put_number(out, b"Term", response.term);
                response.header.put_own(out);
            }
            Some(ResponseBody::TimeoutNow(response)) => {
                put_map(out, 3);
                response.header.put_addr(out);
                response.header.put_id(out);
                response.header.put_version(out);
            }
            Some(ResponseBody::RequestPreVote(response)) => {
                put_map(out, 5 + response.header.own_keys());
                response.header.put_addr(out);
                put_flag(out, b"Granted", response.granted);
                response.header.put_id(out);
                response.header.put_version(out);
                put_number(out, b"Term", response.term);
                response.header.put_own(out);
            }
            Some(ResponseBody::ReadIndex(response)) => response.put(out),
        }
    }

    /// Reads one response to a request of this call.
    ///
    /// # Errors
    /// Everything that is not exactly one response.
    pub fn decode(call: Call, bytes: Bytes, limits: &Limits) -> Result<Self, WireError> {
        let mut from = Reader::new(bytes);
        let error = from.raw()?.unwrap_or_default();
        let body = match call {
            Call::AppendEntries => read_record(&mut from, limits)?.map(ResponseBody::AppendEntries),
            Call::RequestVote => read_record(&mut from, limits)?.map(ResponseBody::RequestVote),
            Call::InstallSnapshot => read_record(&mut from, limits)?.map(ResponseBody::InstallSnapshot),
            Call::TimeoutNow => read_record(&mut from, limits)?.map(ResponseBody::TimeoutNow),
            Call::RequestPreVote => read_record(&mut from, limits)?.map(ResponseBody::RequestPreVote),
            Call::ReadIndex => read_record(&mut from, limits)?.map(ResponseBody::ReadIndex),
        };
        nothing_left(&from)?;
        Ok(Self { error, body })
    }
}

fn nothing_left(from: &Reader) -> Result<(), WireError> {
    match from.remaining() {
        0 => Ok(()),
        count => Err(WireError::TrailingBytes { count }),
    }
}

/// Bytes as they arrive, from which whole messages are taken.
///
/// It grows with what has arrived, never with what a message announces. Entries are slices of its memory, so new memory
/// is taken only when little is left: an entry that is kept for long holds on to little besides its neighbours.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: BytesMut,
    /// The message at the start of `bytes`, as far as it was looked at.
    scanner: Option<Scanner>,
    limits: Limits,
    /// How much to make room for next time; doubles up to [`GROW_MAX`], so idle connections stay small.
    grow: usize,
}

/// Less room than this is not worth a read.
const SPACE_MIN: usize = 2 << 10;
const GROW_MIN: usize = 4 << 10;
const GROW_MAX: usize = 256 << 10;

impl FrameBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { bytes: BytesMut::new(), scanner: None, limits, grow: GROW_MIN }
    }

    /// Where to append what arrives: at least 2 KiB of room.
    pub fn space(&mut self) -> &mut BytesMut {
        if self.bytes.capacity() - self.bytes.len() < SPACE_MIN {
            self.bytes.reserve(self.grow);
            self.grow = (self.grow * 2).min(GROW_MAX);
        }
        &mut self.bytes
    }

    /// How many bytes wait here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing waits here: the sender is between two messages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How much memory this holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes a request if all of it is there.
    ///
    /// # Errors
    /// What can be no request, as soon as that shows. The buffer is of no use afterwards.
    pub fn take_request(&mut self) -> Result<Option<RequestFrame>, WireError> {
        if self.scanner.is_none() {
            let Some(&first) = self.bytes.first() else { return Ok(None) };
            Call::from_byte(first)?;
        }
        let Some(frame) = self.take(1, 1)? else { return Ok(None) };
        RequestFrame::decode(&frame, &self.limits).map(Some)
    }

    /// Takes a response to a request of this call if all of it is there.
    ///
    /// # Errors
    /// What can be no response, as soon as that shows. The buffer is of no use afterwards.
    pub fn take_response(&mut self, call: Call) -> Result<Option<ResponseFrame>, WireError> {
        let Some(frame) = self.take(0, 2)? else { return Ok(None) };
        ResponseFrame::decode(call, frame, &self.limits).map(Some)
    }

    /// Takes up to `limit` of the bytes that wait here, whatever they are.
    pub fn take_bytes(&mut self, limit: usize) -> Bytes {
        let count = self.bytes.len().min(limit);
        self.bytes.split_to(count).freeze()
    }

    fn take(&mut self, from: usize, values: u64) -> Result<Option<Bytes>, WireError> {
        let scanner = self.scanner.get_or_insert_with(|| Scanner::new(from, values));
        let Some(end) = scanner.scan(&self.bytes, self.limits.frame_bytes_max)? else { return Ok(None) };
        self.scanner = None;
        Ok(Some(self.bytes.split_to(end).freeze()))
    }
}

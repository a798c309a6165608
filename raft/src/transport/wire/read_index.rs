//! The call that hashicorp/raft does not have: asking the leader at which index a read is linearizable.
//!
//! It is sent only to a leader whose heartbeats say that it knows it, so that no other implementation ever sees its type byte.

use bytes::{BufMut, BytesMut};

use super::msgpack::{MsgpackError, Reader, put_map};
use super::{Call, Header, Limits, Record, put_flag, put_number};

/// Asks the leader for a read index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadIndexRequest {
    pub header: Header,
}

impl ReadIndexRequest {
    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u8(Call::ReadIndex.byte());
        put_map(out, 3 + self.header.own_keys());
        self.header.put_addr(out);
        self.header.put_id(out);
        self.header.put_version(out);
        self.header.put_own(out);
    }
}

impl Record for ReadIndexRequest {
    const FIELDS: &[&[u8]] = &[b"ProtocolVersion", b"ID", b"Addr"];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        self.header.read_field(name, from)
    }
}

/// Answers a [`ReadIndexRequest`]. `index` counts only with `success`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadIndexResponse {
    pub header: Header,
    pub term: u64,
    pub index: u64,
    pub success: bool,
}

impl ReadIndexResponse {
    pub(super) fn put(&self, out: &mut BytesMut) {
        put_map(out, 6);
        self.header.put_addr(out);
        self.header.put_id(out);
        put_number(out, b"Index", self.index);
        self.header.put_version(out);
        put_flag(out, b"Success", self.success);
        put_number(out, b"Term", self.term);
    }
}

impl Record for ReadIndexResponse {
    const FIELDS: &[&[u8]] = &[b"ProtocolVersion", b"ID", b"Addr", b"Term", b"Index", b"Success"];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"Term" => self.term = from.unsigned()?,
            b"Index" => self.index = from.unsigned()?,
            b"Success" => self.success = from.bool()?,
            _ => return self.header.read_field(name, from),
        }
        Ok(true)
    }
}

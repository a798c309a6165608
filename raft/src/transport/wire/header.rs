//! What stands in every message: who sends it, and our additions about whom it is for.

use bytes::{Bytes, BytesMut};

use super::msgpack::{MsgpackError, Reader, put_raw, put_raw_or_nil, put_signed};
use super::{put_bytes, put_number};

/// Who sends, in every message; and our additions, which are left out when zero or absent, and which Go servers neither
/// send nor look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub protocol_version: i64,
    pub id: Option<Bytes>,
    pub addr: Option<Bytes>,
    /// In requests, the id of the server that is meant. Every request of ours has it.
    pub to: Option<Bytes>,
    /// In requests the incarnation that is meant, in answers the one that answers.
    pub incarnation: u64,
    /// In requests, the last entry that the one that is meant is known to hold.
    pub held: u64,
    /// In requests, the epoch of the sender's cluster.
    pub epoch: u64,
}

impl Header {
    pub(super) fn read_field(&mut self, name: &[u8], from: &mut Reader) -> Result<bool, MsgpackError> {
        match name {
            b"ProtocolVersion" => self.protocol_version = from.signed()?,
            b"ID" => self.id = from.raw()?,
            b"Addr" => self.addr = from.raw()?,
            b"To" => self.to = from.raw()?,
            b"Incarnation" => self.incarnation = from.unsigned()?,
            b"Held" => self.held = from.unsigned()?,
            b"Epoch" => self.epoch = from.unsigned()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn put_addr(&self, out: &mut BytesMut) {
        put_raw(out, b"Addr");
        put_raw_or_nil(out, self.addr.as_deref());
    }

    pub(super) fn put_id(&self, out: &mut BytesMut) {
        put_raw(out, b"ID");
        put_raw_or_nil(out, self.id.as_deref());
    }

    /// How many keys [`Header::put_own`] writes.
    pub(super) fn own_keys(&self) -> u8 {
        let numbers = [self.epoch, self.held, self.incarnation];
        u8::from(self.to.is_some()) + numbers.map(|number| u8::from(number != 0)).iter().sum::<u8>()
    }

    /// Writes our additions, behind the keys of the protocol.
    pub(super) fn put_own(&self, out: &mut BytesMut) {
        let numbers: [(&[u8], u64); 3] =
            [(b"Epoch", self.epoch), (b"Held", self.held), (b"Incarnation", self.incarnation)];
        for (name, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
            put_number(out, name, number);
        }
        if self.to.is_some() {
            put_bytes(out, b"To", self.to.as_deref());
        }
    }

    pub(super) fn put_version(&self, out: &mut BytesMut) {
        put_raw(out, b"ProtocolVersion");
        put_signed(out, self.protocol_version);
    }
}

//! Configurations and peer lists, as they stand in entries and in requests to install a snapshot.

use bytes::{Bytes, BytesMut};

use super::msgpack::{MsgpackError, Reader, put_array, put_map, put_raw, put_signed};
use super::{Limits, Record, put_number, read_list, read_record};

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// 0 voter, 1 non-voter, 2 staging (which no released server uses).
    pub suffrage: i64,
    pub id: Bytes,
    pub address: Bytes,
    /// Which life of its data is meant: our addition, left out when zero.
    pub incarnation: u64,
}

impl Record for Server {
    const FIELDS: &[&[u8]] = &[b"Suffrage", b"ID", b"Address"];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, _: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"Suffrage" => self.suffrage = from.signed()?,
            b"ID" => self.id = from.raw()?.unwrap_or_default(),
            b"Address" => self.address = from.raw()?.unwrap_or_default(),
            b"Incarnation" => self.incarnation = from.unsigned()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The members of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    pub servers: Option<Vec<Server>>,
    /// The members that are being left while several change at once: our addition, left out otherwise. A Go server
    /// would not see it, so such a configuration is only made where every member has shown that it knows of it.
    pub outgoing: Option<Vec<Server>>,
    /// The epoch after a forced recovery: our addition, left out when zero.
    pub epoch: u64,
}

impl Record for Configuration {
    const FIELDS: &[&[u8]] = &[b"Servers"];

    fn read_field(&mut self, name: &[u8], from: &mut Reader, limits: &Limits) -> Result<bool, MsgpackError> {
        match name {
            b"Servers" => self.servers = read_list(from, limits)?,
            b"Outgoing" => self.outgoing = read_list(from, limits)?,
            b"Epoch" => self.epoch = from.unsigned()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Configuration {
    /// The bytes that hashicorp/raft writes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        put_map(&mut out, 1 + u8::from(self.outgoing.is_some()) + u8::from(self.epoch != 0));
        if self.epoch != 0 {
            put_number(&mut out, b"Epoch", self.epoch);
        }
        if self.outgoing.is_some() {
            put_servers(&mut out, b"Outgoing", self.outgoing.as_deref());
        }
        put_servers(&mut out, b"Servers", self.servers.as_deref());
        out.freeze()
    }

    /// Reads a configuration. Bytes behind it are left alone, as Go does.
    ///
    /// # Errors
    /// Whatever is no configuration, or has more servers than the limit.
    pub fn decode(bytes: Bytes, limits: &Limits) -> Result<Self, MsgpackError> {
        Ok(read_record(&mut Reader::new(bytes), limits)?.unwrap_or_default())
    }
}

fn put_servers(out: &mut BytesMut, name: &[u8], servers: Option<&[Server]>) {
    put_raw(out, name);
    let Some(servers) = servers else {
        out.extend_from_slice(&[0xc0]);
        return;
    };
    put_array(out, servers.len());
    for server in servers {
        put_map(out, 3 + u8::from(server.incarnation != 0));
        put_raw(out, b"Address");
        put_raw(out, &server.address);
        put_raw(out, b"ID");
        put_raw(out, &server.id);
        if server.incarnation != 0 {
            put_number(out, b"Incarnation", server.incarnation);
        }
        put_raw(out, b"Suffrage");
        put_signed(out, server.suffrage);
    }
}

/// Writes a list of addresses, the older form of a configuration: voters only. `None` is Go's nil list.
#[must_use]
pub fn encode_peers(peers: Option<&[Bytes]>) -> Bytes {
    let mut out = BytesMut::new();
    match peers {
        None => out.extend_from_slice(&[0xc0]),
        Some(peers) => {
            put_array(&mut out, peers.len());
            for peer in peers {
                put_raw(&mut out, peer);
            }
        }
    }
    out.freeze()
}

/// Reads what [`encode_peers`] writes.
///
/// # Errors
/// Whatever is no list of addresses, or longer than the limit.
pub fn decode_peers(bytes: Bytes, limits: &Limits) -> Result<Option<Vec<Bytes>>, MsgpackError> {
    let mut from = Reader::new(bytes);
    let Some(announced) = from.array()? else { return Ok(None) };
    if announced as usize > limits.items_max {
        return Err(MsgpackError::TooMany { announced, limit: limits.items_max });
    }
    let mut peers = Vec::new();
    for _ in 0..announced {
        peers.push(from.raw()?.unwrap_or_default());
    }
    Ok(Some(peers))
}

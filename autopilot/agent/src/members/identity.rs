//! Who a member is, as gossip carries it, and the bytes of the datagrams.
//!
//! One member's metadata travels inside its identity. A datagram names its receiver, and others that it only talks
//! *to*, in a short form (address and generation), so that a full identity appears once as the sender and once for
//! each update. Every length is checked before anything is copied; a datagram is at most [`DATAGRAM_BYTES_MAX`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message, State};
use thiserror::Error;

/// The largest datagram, in bytes: passes any common network without being split.
pub const DATAGRAM_BYTES_MAX: usize = 1400;
/// The largest identity, in bytes: a sender and one update fit into a datagram.
pub const IDENTITY_BYTES_MAX: usize = 600;

/// What a member tells the others about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The Raft server id.
    pub id: String,
    /// The name shown to people.
    pub name: String,
    /// The datacenter; members of different ones ignore each other.
    pub datacenter: String,
    /// The program's version.
    pub version: String,
    /// The failure domain; empty when there is none.
    pub zone: String,
    /// Never votes.
    pub read_replica: bool,
    /// How many servers it expects to form a cluster with; 0: it only joins.
    pub expect: u32,
    /// It is or was part of a formed cluster.
    pub bootstrapped: bool,
    /// Where Raft listens.
    pub raft: Option<SocketAddr>,
    /// Where HTTP listens.
    pub http: Option<SocketAddr>,
    /// Free metadata.
    pub meta: BTreeMap<String, String>,
}

/// One life of one member. Equal when address and generation are; the rest rides along.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Where its gossip listens.
    pub address: SocketAddr,
    /// Grows with each start and each change of the profile; the higher one is right.
    pub generation: u64,
    /// It went on purpose.
    pub left: bool,
    /// What it says about itself; empty in the short form.
    pub profile: Profile,
}

impl Identity {
    /// The short form: enough to send to it.
    #[must_use]
    pub fn at(address: SocketAddr, generation: u64) -> Self {
        Self { address, generation, left: false, profile: Profile::default() }
    }

    /// How many bytes it takes in a datagram.
    #[must_use]
    pub fn size(&self) -> usize {
        let mut bytes = Vec::new();
        put_identity(&mut bytes, self);
        bytes.len()
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && self.generation == other.generation
    }
}

impl Eq for Identity {}

impl foca::Identity for Identity {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        // Two more than before: a forced leave speaks for this member with one more.
        let generation = super::now_millis().max(self.generation.saturating_add(2));
        Some(Self { generation, left: false, ..self.clone() })
    }

    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

/// Why a datagram was dropped. Nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum DatagramError {
    /// It ends too early.
    #[error("the datagram ends in the middle of a field")]
    Short,
    /// Something this version does not know.
    #[error("unknown {what} {value}")]
    Unknown {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: u8,
    },
    /// Text that is not UTF-8, or with control characters.
    #[error("text in the datagram is not printable UTF-8")]
    Text,
    /// An identity above its limit.
    #[error("an identity is larger than {IDENTITY_BYTES_MAX} bytes")]
    TooLarge,
    /// No room left in this datagram; the rest goes into the next one.
    #[error("the datagram is full")]
    Full,
}

/// Reads and writes datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DatagramCodec;

const FORMAT: u8 = 1;

impl Codec<Identity> for DatagramCodec {
    type Error = DatagramError;

    fn encode_header(&mut self, header: &Header<Identity>, buf: impl BufMut) -> Result<(), DatagramError> {
        let mut out = Vec::with_capacity(256);
        out.put_u8(FORMAT);
        put_identity(&mut out, &header.src);
        out.put_u16(header.src_incarnation);
        put_short(&mut out, &header.dst);
        put_message(&mut out, &header.message);
        put_all(&out, buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, DatagramError> {
        match get_u8(&mut buf)? {
            FORMAT => {}
            value => return Err(DatagramError::Unknown { what: "format", value }),
        }
        Ok(Header {
            src: get_identity(&mut buf)?,
            src_incarnation: get_u16(&mut buf)?,
            dst: get_short(&mut buf)?,
            message: get_message(&mut buf)?,
        })
    }

    fn encode_member(&mut self, member: &Member<Identity>, buf: impl BufMut) -> Result<(), DatagramError> {
        let mut out = Vec::with_capacity(256);
        put_identity(&mut out, member.id());
        out.put_u16(member.incarnation());
        out.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        put_all(&out, buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Identity>, DatagramError> {
        let identity = get_identity(&mut buf)?;
        let incarnation = get_u16(&mut buf)?;
        let state = match get_u8(&mut buf)? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            value => return Err(DatagramError::Unknown { what: "state", value }),
        };
        Ok(Member::new(identity, incarnation, state))
    }
}

/// All or nothing: a half-written member must not stay in the buffer.
fn put_all(bytes: &[u8], mut buf: impl BufMut) -> Result<(), DatagramError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(DatagramError::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

fn put_message(out: &mut Vec<u8>, message: &Message<Identity>) {
    let mut indirect = |tag: u8, other: &Identity, probe: u8| {
        out.put_u8(tag);
        out.put_u8(probe);
        put_short(out, other);
    };
    match message {
        Message::PingReq { target, probe_number } => indirect(2, target, *probe_number),
        Message::IndirectPing { origin, probe_number } => indirect(3, origin, *probe_number),
        Message::IndirectAck { target, probe_number } => indirect(4, target, *probe_number),
        Message::ForwardedAck { origin, probe_number } => indirect(5, origin, *probe_number),
        Message::Ping(probe) => out.put_slice(&[0, *probe]),
        Message::Ack(probe) => out.put_slice(&[1, *probe]),
        Message::Announce => out.put_u8(6),
        Message::Feed => out.put_u8(7),
        Message::Gossip => out.put_u8(8),
        Message::Broadcast => out.put_u8(9),
        Message::TurnUndead => out.put_u8(10),
    }
}

fn get_message(buf: &mut impl Buf) -> Result<Message<Identity>, DatagramError> {
    let tag = get_u8(buf)?;
    let probe_number = if tag <= 5 { get_u8(buf)? } else { 0 };
    Ok(match tag {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq { target: get_short(buf)?, probe_number },
        3 => Message::IndirectPing { origin: get_short(buf)?, probe_number },
        4 => Message::IndirectAck { target: get_short(buf)?, probe_number },
        5 => Message::ForwardedAck { origin: get_short(buf)?, probe_number },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        10 => Message::TurnUndead,
        value => return Err(DatagramError::Unknown { what: "message", value }),
    })
}

fn put_short(out: &mut Vec<u8>, identity: &Identity) {
    put_address(out, Some(identity.address));
    out.put_u64(identity.generation);
}

fn get_short(buf: &mut impl Buf) -> Result<Identity, DatagramError> {
    let address = get_address(buf)?.ok_or(DatagramError::Short)?;
    Ok(Identity::at(address, get_u64(buf)?))
}

const LEFT: u8 = 1;
const READ_REPLICA: u8 = 2;
const BOOTSTRAPPED: u8 = 4;

fn put_identity(out: &mut Vec<u8>, identity: &Identity) {
    put_short(out, identity);
    let profile = &identity.profile;
    let mut flags = 0;
    for (set, flag) in
        [(identity.left, LEFT), (profile.read_replica, READ_REPLICA), (profile.bootstrapped, BOOTSTRAPPED)]
    {
        if set {
            flags |= flag;
        }
    }
    out.put_u8(flags);
    out.put_u32(profile.expect);
    put_address(out, profile.raft);
    put_address(out, profile.http);
    for text in [&profile.id, &profile.name, &profile.datacenter, &profile.version, &profile.zone] {
        put_text(out, text);
    }
    out.put_u8(u8::try_from(profile.meta.len()).unwrap_or(u8::MAX));
    for (key, value) in profile.meta.iter().take(usize::from(u8::MAX)) {
        put_text(out, key);
        put_text(out, value);
    }
}

fn get_identity(buf: &mut impl Buf) -> Result<Identity, DatagramError> {
    let before = buf.remaining();
    let mut identity = get_short(buf)?;
    let flags = get_u8(buf)?;
    identity.left = flags & LEFT != 0;
    identity.profile = Profile {
        read_replica: flags & READ_REPLICA != 0,
        bootstrapped: flags & BOOTSTRAPPED != 0,
        expect: get_u32(buf)?,
        raft: get_address(buf)?,
        http: get_address(buf)?,
        id: get_text(buf)?,
        name: get_text(buf)?,
        datacenter: get_text(buf)?,
        version: get_text(buf)?,
        zone: get_text(buf)?,
        meta: BTreeMap::new(),
    };
    for _ in 0..get_u8(buf)? {
        let key = get_text(buf)?;
        identity.profile.meta.insert(key, get_text(buf)?);
    }
    if before - buf.remaining() > IDENTITY_BYTES_MAX {
        return Err(DatagramError::TooLarge);
    }
    Ok(identity)
}

fn put_address(out: &mut Vec<u8>, address: Option<SocketAddr>) {
    match address {
        None => out.put_u8(0),
        Some(address) => {
            match address.ip() {
                IpAddr::V4(ip) => {
                    out.put_u8(4);
                    out.put_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.put_u8(6);
                    out.put_slice(&ip.octets());
                }
            }
            out.put_u16(address.port());
        }
    }
}

fn get_address(buf: &mut impl Buf) -> Result<Option<SocketAddr>, DatagramError> {
    let ip: IpAddr = match get_u8(buf)? {
        0 => return Ok(None),
        4 => get_array::<4>(buf)?.into(),
        6 => get_array::<16>(buf)?.into(),
        value => return Err(DatagramError::Unknown { what: "address family", value }),
    };
    Ok(Some(SocketAddr::new(ip, get_u16(buf)?)))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = text.len().min(usize::from(u8::MAX));
    out.put_u8(u8::try_from(length).expect("cut to 255 bytes"));
    out.put_slice(&text.as_bytes()[..length]);
}

fn get_text(buf: &mut impl Buf) -> Result<String, DatagramError> {
    let length = usize::from(get_u8(buf)?);
    if buf.remaining() < length {
        return Err(DatagramError::Short);
    }
    let bytes = buf.copy_to_bytes(length);
    let text = std::str::from_utf8(&bytes).map_err(|_| DatagramError::Text)?;
    // Names end up in logs and tables, where a line break would forge lines.
    if text.chars().any(char::is_control) { Err(DatagramError::Text) } else { Ok(text.to_owned()) }
}

fn get_array<const N: usize>(buf: &mut impl Buf) -> Result<[u8; N], DatagramError> {
    if buf.remaining() < N {
        return Err(DatagramError::Short);
    }
    let mut bytes = [0; N];
    buf.copy_to_slice(&mut bytes);
    Ok(bytes)
}

fn get_u8(buf: &mut impl Buf) -> Result<u8, DatagramError> {
    Ok(get_array::<1>(buf)?[0])
}

fn get_u16(buf: &mut impl Buf) -> Result<u16, DatagramError> {
    Ok(u16::from_be_bytes(get_array(buf)?))
}

fn get_u32(buf: &mut impl Buf) -> Result<u32, DatagramError> {
    Ok(u32::from_be_bytes(get_array(buf)?))
}

fn get_u64(buf: &mut impl Buf) -> Result<u64, DatagramError> {
    Ok(u64::from_be_bytes(get_array(buf)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Identity {
        Identity {
            address: "[::1]:8301".parse().expect("address"),
            generation: u64::MAX - 1,
            left: true,
            profile: Profile {
                id: "0b2c".into(),
                name: "n1".into(),
                datacenter: "dc1".into(),
                version: "1.2.3".into(),
                zone: "a".into(),
                read_replica: true,
                expect: 3,
                bootstrapped: true,
                raft: "127.0.0.1:8300".parse().ok(),
                http: None,
                meta: [("rack".to_owned(), "7".to_owned())].into(),
            },
        }
    }

    fn header(message: Message<Identity>) -> Header<Identity> {
        let dst = Identity::at("127.0.0.1:1".parse().expect("address"), 7);
        Header { src: sample(), src_incarnation: 9, dst, message }
    }

    fn messages() -> Vec<Message<Identity>> {
        let other = || Identity::at("127.0.0.1:2".parse().expect("address"), 3);
        vec![
            Message::Ping(1),
            Message::Ack(2),
            Message::PingReq { target: other(), probe_number: 3 },
            Message::IndirectPing { origin: other(), probe_number: 4 },
            Message::IndirectAck { target: other(), probe_number: 5 },
            Message::ForwardedAck { origin: other(), probe_number: 6 },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ]
    }

    #[test]
    fn headers_and_members_survive_their_bytes() {
        for message in messages() {
            let mut bytes = Vec::new();
            let sent = header(message);
            DatagramCodec.encode_header(&sent, &mut bytes).expect("room");
            let mut rest = bytes.as_slice();
            let received = DatagramCodec.decode_header(&mut rest).expect("valid");
            assert_eq!(received, sent);
            assert_eq!((received.src.profile, received.src.left), (sent.src.profile, true));
            assert!(rest.is_empty());
        }
        for state in [State::Alive, State::Suspect, State::Down] {
            let mut bytes = Vec::new();
            let sent = Member::new(sample(), 4, state);
            DatagramCodec.encode_member(&sent, &mut bytes).expect("room");
            let received = DatagramCodec.decode_member(bytes.as_slice()).expect("valid");
            assert_eq!(received, sent);
            assert_eq!(received.id().profile, sample().profile);
        }
    }

    #[test]
    fn every_cut_is_refused() {
        for message in messages() {
            let mut bytes = Vec::new();
            DatagramCodec.encode_header(&header(message), &mut bytes).expect("room");
            for length in 0..bytes.len() {
                assert!(DatagramCodec.decode_header(&bytes[..length]).is_err(), "cut to {length}");
            }
        }
    }

    #[test]
    fn a_member_without_room_leaves_the_buffer_as_it_was() {
        let mut buffer = [0_u8; 20];
        let mut room = &mut buffer[..];
        let full = DatagramCodec.encode_member(&Member::alive(sample()), &mut room);
        assert_eq!(full, Err(DatagramError::Full));
        assert_eq!(room.len(), 20);
    }

    #[test]
    fn control_characters_in_names_are_refused() {
        let mut forged = sample();
        forged.profile.name = "n1\nERROR all is lost".into();
        let mut bytes = Vec::new();
        DatagramCodec.encode_member(&Member::alive(forged), &mut bytes).expect("room");
        assert_eq!(DatagramCodec.decode_member(bytes.as_slice()).err(), Some(DatagramError::Text));
    }

    #[test]
    fn the_higher_generation_is_kept_and_renewal_passes_a_forced_leave() {
        use foca::Identity as _;
        let old = sample();
        let forced = Identity { generation: old.generation, ..sample() };
        let low = Identity { generation: 5, ..sample() };
        assert!(old.win_addr_conflict(&low) && !low.win_addr_conflict(&old));
        assert_eq!(old, forced);
        assert!(low.renew().expect("always").generation > 6);
        assert!(!old.renew().expect("always").left);
    }
}

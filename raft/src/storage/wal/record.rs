//! Records: what stands in the body of a frame, one behind the other.
//!
//! ```text
//! hard state     │01│term u64│flags u8│length u32│id ..│incarnation u64│  flags: 1 a vote (length, id), 2 an incarnation
//! reset to       │02│term u64│index u64│
//! truncate from  │03│index u64│
//! compact        │04│term u64│index u64│first u64│              first: the oldest segment still needed
//! segment start  │05│term u64│index u64│last u64│first u64│     compacted through, last index, oldest segment needed
//! commit         │06│index u64│
//! entry          │10│term u64│index u64│data u32│extensions u32│data ..│extensions ..│          10 command, 11 no-op,
//! configuration  │13│ .. as an entry .. │(count u32│ (suffrage u8│id u32│id ..│address u32│address ..)*)×2   12 barrier
//! ```
//!
//! members        │14│ .. as a configuration, behind each address the incarnation u64, at the end the epoch u64
//!
//! Members are written as a configuration where all incarnations and the epoch are zero. Numbers are little-endian; suffrage is 0 for a voter and 1 for a non-voter.

use std::ops::Range;

use bytes::Bytes;
use raft_types::{Configuration, EntryId, Incarnation, LogIndex, Server, Suffrage, Term};

use crate::core::{Entry, EntryKind, HardState};

const HARD_STATE: u8 = 0x01;
const RESET: u8 = 0x02;
const TRUNCATE: u8 = 0x03;
const COMPACT: u8 = 0x04;
const START: u8 = 0x05;
const COMMIT: u8 = 0x06;
const COMMAND: u8 = 0x10;
const NOOP: u8 = 0x11;
const BARRIER: u8 = 0x12;
const CONFIGURATION: u8 = 0x13;
const MEMBERS: u8 = 0x14;
const VOTED: u8 = 1;
const INCARNATION: u8 = 2;

/// One change of the log, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    HardState(HardState),
    Reset(EntryId),
    Truncate(LogIndex),
    Compact { through: EntryId, first_segment: u64 },
    Start(Start),
    Commit(LogIndex),
    Entry(Entry),
}

/// How the log stood when a segment was started; its first frame says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) base: EntryId,
    pub(super) last: LogIndex,
    pub(super) first_segment: u64,
}

fn put_u32(out: &mut Vec<u8>, length: usize) {
    // Frames of 4 GiB and more are refused as a whole, so a length that does not fit is never written.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_id(out: &mut Vec<u8>, id: EntryId) {
    out.extend_from_slice(&id.term.0.to_le_bytes());
    out.extend_from_slice(&id.index.0.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_u32(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_hard_state(out: &mut Vec<u8>, state: &HardState) {
    out.push(HARD_STATE);
    out.extend_from_slice(&state.term.0.to_le_bytes());
    let voted = if state.voted_for.is_some() { VOTED } else { 0 };
    let incarnation = if state.incarnation.is_founder() { 0 } else { INCARNATION };
    out.push(voted | incarnation);
    if let Some(id) = &state.voted_for {
        put_text(out, id.as_str());
    }
    if incarnation != 0 {
        out.extend_from_slice(&state.incarnation.0.to_le_bytes());
    }
}

pub(super) fn put_reset(out: &mut Vec<u8>, base: EntryId) {
    out.push(RESET);
    put_id(out, base);
}

pub(super) fn put_truncate(out: &mut Vec<u8>, from: LogIndex) {
    out.push(TRUNCATE);
    out.extend_from_slice(&from.0.to_le_bytes());
}

pub(super) fn put_compact(out: &mut Vec<u8>, through: EntryId, first_segment: u64) {
    out.push(COMPACT);
    put_id(out, through);
    out.extend_from_slice(&first_segment.to_le_bytes());
}

pub(super) fn put_start(out: &mut Vec<u8>, start: Start) {
    out.push(START);
    put_id(out, start.base);
    out.extend_from_slice(&start.last.0.to_le_bytes());
    out.extend_from_slice(&start.first_segment.to_le_bytes());
}

/// Nothing where nothing is committed.
pub(super) fn put_commit(out: &mut Vec<u8>, index: LogIndex) {
    if index > LogIndex::ZERO {
        out.push(COMMIT);
        out.extend_from_slice(&index.0.to_le_bytes());
    }
}

pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    let mut head = [0; 25];
    let long =
        matches!(&entry.kind, EntryKind::Configuration(configuration) if has_identities(configuration));
    head[0] = match entry.kind {
        EntryKind::Command => COMMAND,
        EntryKind::Noop => NOOP,
        EntryKind::Barrier => BARRIER,
        EntryKind::Configuration(_) if long => MEMBERS,
        EntryKind::Configuration(_) => CONFIGURATION,
    };
    head[1..9].copy_from_slice(&entry.id.term.0.to_le_bytes());
    head[9..17].copy_from_slice(&entry.id.index.0.to_le_bytes());
    head[17..21].copy_from_slice(&u32::try_from(entry.data.len()).unwrap_or(u32::MAX).to_le_bytes());
    head[21..25].copy_from_slice(&u32::try_from(entry.extensions.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(&entry.data);
    out.extend_from_slice(&entry.extensions);
    if let EntryKind::Configuration(configuration) = &entry.kind {
        for set in [configuration.servers(), configuration.outgoing()] {
            put_u32(out, set.len());
            for server in set {
                out.push(u8::from(server.suffrage == Suffrage::Nonvoter));
                put_text(out, server.id.as_str());
                put_text(out, server.address.as_str());
                if long {
                    out.extend_from_slice(&server.incarnation.0.to_le_bytes());
                }
            }
        }
        if long {
            out.extend_from_slice(&configuration.epoch().to_le_bytes());
        }
    }
}

/// Whether the shorter form would lose something.
fn has_identities(configuration: &Configuration) -> bool {
    let mut members = configuration.servers().iter().chain(configuration.outgoing());
    configuration.epoch() != 0 || members.any(|server| !server.incarnation.is_founder())
}

/// Reads the records in one frame's body. Payloads are slices of `segment`, not copies.
pub(super) struct Reader<'a> {
    segment: &'a Bytes,
    rest: Range<usize>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(segment: &'a Bytes, body: Range<usize>) -> Self {
        Self { segment, rest: body }
    }

    /// Where the next record starts in the segment.
    pub(super) const fn position(&self) -> usize {
        self.rest.start
    }

    /// The next record; `None` behind the last.
    ///
    /// # Errors
    /// Bytes that are no record.
    pub(super) fn next(&mut self) -> Result<Option<Record>, &'static str> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let record = match self.u8()? {
            HARD_STATE => {
                let term = Term(self.u64()?);
                let flags = self.u8()?;
                if flags & !(VOTED | INCARNATION) != 0 {
                    return Err("a hard state with an unknown flag");
                }
                let voted_for = if flags & VOTED == 0 { None } else { Some(self.text()?.into()) };
                let incarnation = if flags & INCARNATION == 0 { 0 } else { self.u64()? };
                Record::HardState(HardState { term, voted_for, incarnation: Incarnation(incarnation) })
            }
            RESET => Record::Reset(self.id()?),
            TRUNCATE => Record::Truncate(LogIndex(self.u64()?)),
            COMPACT => Record::Compact { through: self.id()?, first_segment: self.u64()? },
            START => Record::Start(Start {
                base: self.id()?,
                last: LogIndex(self.u64()?),
                first_segment: self.u64()?,
            }),
            COMMIT => Record::Commit(LogIndex(self.u64()?)),
            tag => Record::Entry(self.entry(tag)?),
        };
        Ok(Some(record))
    }

    fn entry(&mut self, tag: u8) -> Result<Entry, &'static str> {
        if !(COMMAND..=MEMBERS).contains(&tag) {
            return Err("a record of an unknown kind");
        }
        let id = self.id()?;
        let data = self.u32()?;
        let extensions = self.u32()?;
        let data = self.bytes(data)?;
        let extensions = self.bytes(extensions)?;
        let kind = match tag {
            COMMAND => EntryKind::Command,
            NOOP => EntryKind::Noop,
            BARRIER => EntryKind::Barrier,
            tag => EntryKind::Configuration(self.configuration(tag == MEMBERS)?),
        };
        Ok(Entry { id, kind, data, extensions })
    }

    fn configuration(&mut self, long: bool) -> Result<Configuration, &'static str> {
        let servers = self.servers(long)?;
        let configuration = Configuration::joint(servers, self.servers(long)?);
        Ok(configuration.in_epoch(if long { self.u64()? } else { 0 }))
    }

    fn servers(&mut self, long: bool) -> Result<Vec<Server>, &'static str> {
        let count = self.u32()?;
        // No capacity from the count: it is only believed as far as servers follow.
        let mut servers = Vec::new();
        for _ in 0..count {
            let suffrage = match self.u8()? {
                0 => Suffrage::Voter,
                1 => Suffrage::Nonvoter,
                _ => return Err("a server with an unknown suffrage"),
            };
            let (id, address) = (self.text()?.into(), self.text()?.into());
            let incarnation = Incarnation(if long { self.u64()? } else { 0 });
            servers.push(Server { id, address, suffrage, incarnation });
        }
        Ok(servers)
    }

    fn take(&mut self, length: usize) -> Result<Range<usize>, &'static str> {
        if length > self.rest.len() {
            return Err("a record is longer than its frame");
        }
        let start = self.rest.start;
        self.rest.start += length;
        Ok(start..start + length)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let range = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.segment[range]);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn id(&mut self) -> Result<EntryId, &'static str> {
        Ok(EntryId { term: Term(self.u64()?), index: LogIndex(self.u64()?) })
    }

    fn bytes(&mut self, length: u32) -> Result<Bytes, &'static str> {
        let range = self.take(length as usize)?;
        Ok(if range.is_empty() { Bytes::new() } else { self.segment.slice(range) })
    }

    fn text(&mut self) -> Result<&'a str, &'static str> {
        let length = self.u32()?;
        let range = self.take(length as usize)?;
        std::str::from_utf8(&self.segment[range]).map_err(|_| "a name that is not UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(out: &mut Vec<u8>, record: &Record) {
        match record {
            Record::HardState(state) => put_hard_state(out, state),
            Record::Reset(base) => put_reset(out, *base),
            Record::Truncate(from) => put_truncate(out, *from),
            Record::Compact { through, first_segment } => put_compact(out, *through, *first_segment),
            Record::Start(start) => put_start(out, *start),
            Record::Commit(index) => put_commit(out, *index),
            Record::Entry(entry) => put_entry(out, entry),
        }
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<Record>, &'static str> {
        let segment = Bytes::copy_from_slice(bytes);
        let mut reader = Reader::new(&segment, 0..segment.len());
        let mut records = Vec::new();
        while let Some(record) = reader.next()? {
            records.push(record);
        }
        Ok(records)
    }

    fn id() -> impl Strategy<Value = EntryId> {
        any::<(u64, u64)>().prop_map(|(term, index)| EntryId::new(term, index))
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(any::<char>(), 0..12).prop_map(String::from_iter)
    }

    fn configuration() -> impl Strategy<Value = Configuration> {
        let number = || prop_oneof![Just(0), any::<u64>()];
        let server =
            (text(), text(), any::<bool>(), number()).prop_map(|(id, address, votes, incarnation)| {
                let server = if votes { Server::voter(id, address) } else { Server::nonvoter(id, address) };
                Server { incarnation: Incarnation(incarnation), ..server }
            });
        (proptest::collection::vec(server, 0..5), 0..5_usize, number()).prop_map(
            |(mut servers, leaving, epoch)| {
                let outgoing = servers.split_off(leaving.min(servers.len()));
                Configuration::joint(servers, outgoing).in_epoch(epoch)
            },
        )
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![
            Just(EntryKind::Command),
            Just(EntryKind::Noop),
            Just(EntryKind::Barrier),
            configuration().prop_map(EntryKind::Configuration),
        ];
        let bytes = || proptest::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from);
        (id(), kind, bytes(), bytes()).prop_map(|(id, kind, data, extensions)| Entry {
            id,
            kind,
            data,
            extensions,
        })
    }

    fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            (any::<u64>(), proptest::option::of(text()), any::<u64>()).prop_map(
                |(term, voted, incarnation)| Record::HardState(HardState {
                    term: Term(term),
                    voted_for: voted.map(Into::into),
                    incarnation: Incarnation(incarnation)
                })
            ),
            id().prop_map(Record::Reset),
            any::<u64>().prop_map(|index| Record::Truncate(LogIndex(index))),
            (id(), any::<u64>())
                .prop_map(|(through, first_segment)| Record::Compact { through, first_segment }),
            (id(), any::<u64>(), any::<u64>()).prop_map(|(base, last, first_segment)| Record::Start(Start {
                base,
                last: LogIndex(last),
                first_segment
            })),
            entry().prop_map(Record::Entry),
        ]
    }

    proptest! {
        #[test]
        fn records_read_back_as_written(records in proptest::collection::vec(record(), 0..8)) {
            let mut bytes = Vec::new();
            records.iter().for_each(|record| put(&mut bytes, record));
            prop_assert_eq!(read_all(&bytes), Ok(records));
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_all(&bytes);
        }

        #[test]
        fn a_cut_record_is_refused(record in record(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            put(&mut bytes, &record);
            let cut = cut.index(bytes.len() - 1) + 1;
            prop_assert!(cut == bytes.len() || read_all(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn lengths_that_lie_take_no_memory() {
        let entry = Entry::new(EntryId::new(1, 1), EntryKind::Command, Bytes::from_static(b"abcd"));
        let mut bytes = Vec::new();
        put_entry(&mut bytes, &entry);
        for at in [17, 21] {
            for length in [5, 1 << 31, u32::MAX] {
                let mut forged = bytes.clone();
                forged[at..at + 4].copy_from_slice(&length.to_le_bytes());
                assert!(read_all(&forged).is_err(), "length {length} at {at}");
            }
        }
        let entry = Entry { kind: EntryKind::Configuration(Configuration::default()), ..entry };
        let mut bytes = Vec::new();
        put_entry(&mut bytes, &entry);
        let count = bytes.len() - 4;
        bytes[count..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read_all(&bytes).is_err(), "a count of servers that do not follow");
    }
}

//! Exactly-once application, as an optional layer over a state machine.
//!
//! **Why.** A proposal whose outcome is unknown may be applied yet, and trying it again may apply it twice (Raft
//! dissertation, section 6.3). With a session each request has a number; the state machine remembers the last number of
//! every session and its answer, applies a number once, and answers repetitions from memory.
//!
//! **How.** [`SessionStateMachine`] wraps the state machine of every server. A client opens a [`Session`], which is an entry
//! in the log whose index is the session's id, and sends its commands through it. The layer's few bytes travel in
//! [`Entry::extensions`]; commands without them pass to the state machine untouched.
//!
//! ```text
//! extensions   "RSx1" kind:u8 session:u64le number:u64le rest…      kind 0 opens a session, 1 is a request
//! response     status:u8 …        0 done, then the answer; 1 opened, then the id u64le; 2 expired; 3 overtaken;
//!                                 4 done before, the answer was too large to keep; 5 malformed
//! snapshot     "RSs1" count:u32le, each session: id, number, used: u64le, kept:u8, length:u32le, answer; then the state
//! ```
//!
//! **Bounds.** At most [`SessionLimits::sessions_max`] sessions are remembered; opening one more forgets the one whose last
//! request is farthest back in the log. That depends on the log alone, so every server forgets the same. A request of a
//! forgotten session is refused and not applied.
//!
//! **Not here.** More than one request of a session at a time: a client opens as many sessions as it wants requests in
//! flight.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use bytes::{BufMut as _, Bytes, BytesMut};
use raft_types::{Configuration, LogIndex};

use crate::core::Entry;
use crate::state_machine::{SnapshotWriter, StateMachine};

#[cfg(feature = "tokio")]
mod client;
#[cfg(feature = "tokio")]
pub use client::{Session, SessionError, SessionRequest, SessionResponse};

const HEADER_MAGIC: &[u8; 4] = b"RSx1";
const HEADER_BYTES: usize = 4 + 1 + 8 + 8;
const SNAPSHOT_MAGIC: &[u8; 4] = b"RSs1";
/// What a snapshot may claim for one answer before the bytes are there; far above any useful limit.
const ANSWER_BYTES_MAX: u32 = 64 << 20;

/// How much is remembered. **Must be the same on every server and stay so**, for it decides what is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions remembered. Default 4,096; at least 1. Lower forgets idle clients sooner; higher takes memory.
    pub sessions_max: usize,
    /// Largest answer remembered, in bytes. Default 64 KiB. A repeated request whose answer was larger learns that it
    /// was applied, and not what the answer was.
    pub answer_bytes_max: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { sessions_max: 4096, answer_bytes_max: 64 << 10 }
    }
}

/// What an entry asks of this layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Open,
    Request { session: u64, number: u64 },
}

impl Header {
    #[cfg(any(feature = "tokio", test))]
    fn encode(self) -> Bytes {
        let (kind, session, number) = match self {
            Self::Open => (0, 0, 0),
            Self::Request { session, number } => (1, session, number),
        };
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES);
        bytes.put_slice(HEADER_MAGIC);
        bytes.put_u8(kind);
        bytes.put_u64_le(session);
        bytes.put_u64_le(number);
        bytes.freeze()
    }

    /// `None` for entries that are not for this layer; an error for ones that say so and make no sense.
    fn decode(extensions: &[u8]) -> Option<Result<Self, ()>> {
        let rest = extensions.strip_prefix(HEADER_MAGIC)?;
        let number_at = |at: usize| {
            let bytes: Option<[u8; 8]> = rest.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_le_bytes).ok_or(())
        };
        let decoded = number_at(1).and_then(|session| {
            let number = number_at(9)?;
            match rest[0] {
                0 => Ok(Self::Open),
                1 => Ok(Self::Request { session, number }),
                _ => Err(()),
            }
        });
        Some(decoded)
    }
}

/// An answer of this layer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Done(Bytes),
    Opened(u64),
    Expired,
    Overtaken,
    NotKept,
    Malformed,
}

impl Answer {
    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        match self {
            Self::Done(answer) => {
                bytes.reserve(1 + answer.len());
                bytes.put_u8(0);
                bytes.put_slice(answer);
            }
            Self::Opened(id) => {
                bytes.put_u8(1);
                bytes.put_u64_le(*id);
            }
            Self::Expired => bytes.put_u8(2),
            Self::Overtaken => bytes.put_u8(3),
            Self::NotKept => bytes.put_u8(4),
            Self::Malformed => bytes.put_u8(5),
        }
        bytes.freeze()
    }

    #[cfg(any(feature = "tokio", test))]
    fn decode(bytes: &Bytes) -> Option<Self> {
        match bytes.first()? {
            0 => Some(Self::Done(bytes.slice(1..))),
            1 => Some(Self::Opened(u64::from_le_bytes(bytes.get(1..9)?.try_into().ok()?))),
            2 => Some(Self::Expired),
            3 => Some(Self::Overtaken),
            4 => Some(Self::NotKept),
            5 => Some(Self::Malformed),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Remembered {
    /// The newest number that was applied; zero before the first.
    number: u64,
    /// Its answer; `None` if it was too large.
    answer: Option<Bytes>,
    /// The entry of its newest request.
    used: u64,
}

/// The sessions, which are part of the replicated state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Table {
    sessions: BTreeMap<u64, Remembered>,
    /// Sessions by their newest request, to find the one farthest back.
    by_use: BTreeMap<u64, u64>,
}

impl Table {
    fn insert(&mut self, id: u64, remembered: Remembered) {
        self.by_use.insert(remembered.used, id);
        self.sessions.insert(id, remembered);
    }

    fn open(&mut self, index: u64, limits: SessionLimits) {
        while self.sessions.len() >= limits.sessions_max.max(1) {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.sessions.remove(&oldest);
        }
        self.insert(index, Remembered { used: index, ..Remembered::default() });
    }

    /// What to do with a request: an answer that needs no application, or `None` to apply it.
    fn judge(&mut self, session: u64, number: u64, index: u64) -> Option<Answer> {
        let Some(known) = self.sessions.get_mut(&session) else { return Some(Answer::Expired) };
        self.by_use.remove(&known.used);
        known.used = index;
        self.by_use.insert(index, session);
        if number > known.number {
            known.number = number;
            known.answer = None;
            return None;
        }
        if number < known.number {
            return Some(Answer::Overtaken);
        }
        Some(known.answer.clone().map_or(Answer::NotKept, Answer::Done))
    }

    fn remember(&mut self, session: u64, answer: &Bytes, limits: SessionLimits) {
        if let Some(known) = self.sessions.get_mut(&session)
            && answer.len() <= limits.answer_bytes_max
        {
            known.answer = Some(answer.clone());
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(SNAPSHOT_MAGIC)?;
        let count = u32::try_from(self.sessions.len()).map_err(io::Error::other)?;
        out.write_all(&count.to_le_bytes())?;
        for (id, known) in &self.sessions {
            for number in [*id, known.number, known.used] {
                out.write_all(&number.to_le_bytes())?;
            }
            let answer = known.answer.clone().unwrap_or_default();
            let length = u32::try_from(answer.len()).map_err(io::Error::other)?;
            out.write_all(&[u8::from(known.answer.is_some())])?;
            out.write_all(&length.to_le_bytes())?;
            out.write_all(&answer)?;
        }
        Ok(())
    }

    fn read(from: &mut dyn Read) -> io::Result<Self> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if take::<4>(from)? != *SNAPSHOT_MAGIC {
            return Err(damaged("the snapshot was not written with sessions"));
        }
        let mut table = Self::default();
        for _ in 0..u32::from_le_bytes(take(from)?) {
            let id = u64::from_le_bytes(take(from)?);
            let number = u64::from_le_bytes(take(from)?);
            let used = u64::from_le_bytes(take(from)?);
            let kept = take::<1>(from)?[0] == 1;
            let length = u32::from_le_bytes(take(from)?);
            if length > ANSWER_BYTES_MAX {
                return Err(damaged("a session's answer is longer than any can be"));
            }
            let mut answer = Vec::new();
            if from.take(u64::from(length)).read_to_end(&mut answer)? < length as usize {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let answer = kept.then(|| Bytes::from(answer));
            table.insert(id, Remembered { number, answer, used });
        }
        if table.by_use.len() != table.sessions.len() {
            return Err(damaged("two sessions share an entry"));
        }
        Ok(table)
    }
}

fn take<const N: usize>(from: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A state machine to which requests of sessions are applied exactly once.
///
/// Its snapshots are not those of the state machine inside: decide for or against sessions when a cluster is made.
#[derive(Debug)]
pub struct SessionStateMachine<S> {
    inner: S,
    limits: SessionLimits,
    table: Table,
}

impl<S: StateMachine> SessionStateMachine<S> {
    /// Wraps a state machine, with the default limits.
    pub fn new(inner: S) -> Self {
        Self::with_limits(inner, SessionLimits::default())
    }

    /// Wraps a state machine.
    pub fn with_limits(inner: S, limits: SessionLimits) -> Self {
        Self { inner, limits, table: Table::default() }
    }

    /// How many sessions are remembered.
    #[must_use]
    pub fn sessions_count(&self) -> usize {
        self.table.sessions.len()
    }

    /// Applies what was gathered and files the answers.
    fn flush(&mut self, run: &mut Run, responses: &mut [Bytes]) {
        if run.commands.is_empty() {
            return;
        }
        let answers = self.inner.apply(&run.commands);
        assert_eq!(answers.len(), run.commands.len(), "the state machine answers every command");
        run.commands.clear();
        for ((position, session), answer) in run.places.drain(..).zip(answers) {
            responses[position] = match session {
                None => answer,
                Some(session) => {
                    self.table.remember(session, &answer, self.limits);
                    Answer::Done(answer).encode()
                }
            };
        }
    }
}

/// Commands on their way to the state machine inside, and for each its position and session.
#[derive(Default)]
struct Run {
    commands: Vec<Entry>,
    places: Vec<(usize, Option<u64>)>,
}

impl<S: StateMachine> StateMachine for SessionStateMachine<S> {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        let mut responses = vec![Bytes::new(); commands.len()];
        let mut run = Run::default();
        for (position, entry) in commands.iter().enumerate() {
            let index = entry.id.index.0;
            let answer = match Header::decode(&entry.extensions) {
                None => {
                    run.commands.push(entry.clone());
                    run.places.push((position, None));
                    continue;
                }
                Some(Err(())) => Answer::Malformed,
                Some(Ok(Header::Open)) => {
                    // Answers still to be filed may belong to the session that is forgotten now.
                    self.flush(&mut run, &mut responses);
                    self.table.open(index, self.limits);
                    Answer::Opened(index)
                }
                Some(Ok(Header::Request { session, number })) => {
                    // The answer to a repetition may still be to come.
                    if run.places.iter().any(|(_, other)| *other == Some(session)) {
                        self.flush(&mut run, &mut responses);
                    }
                    match self.table.judge(session, number, index) {
                        Some(answer) => answer,
                        None => {
                            let mut inner = entry.clone();
                            inner.extensions = entry.extensions.slice(HEADER_BYTES..);
                            run.commands.push(inner);
                            run.places.push((position, Some(session)));
                            continue;
                        }
                    }
                }
            };
            responses[position] = answer.encode();
        }
        self.flush(&mut run, &mut responses);
        responses
    }

    fn snapshot(&self) -> SnapshotWriter {
        let table = self.table.clone();
        let inner = self.inner.snapshot();
        Box::new(move |out| {
            table.write(out)?;
            inner(out)
        })
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        let table = Table::read(state)?;
        self.inner.restore(state)?;
        self.table = table;
        Ok(())
    }

    fn configuration_committed(&mut self, index: LogIndex, configuration: &Configuration) {
        self.inner.configuration_committed(index, configuration);
    }
}

#[cfg(test)]
mod tests;

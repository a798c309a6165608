//! What servers say to each other: plain requests and responses, paired by whoever carries them.
//!
//! They map one to one on the five calls of the hashicorp/raft wire protocol and one of our own. A response holds no copy of its request:
//! the core numbers each request it sends and keeps what it needs, so a late, repeated or foreign answer proves nothing.

use bytes::Bytes;
use raft_types::{Configuration, EntryId, Incarnation, LogIndex, Term};

/// What an entry is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A client's command for the state machine.
    Command,
    /// A new leader's first entry; the state machine does not see it.
    Noop,
    /// Waits for everything before it to be applied; the state machine does not see it.
    Barrier,
    /// A configuration, in force from the moment it is in the log.
    Configuration(Configuration),
}

/// One entry of the log. Cheap to clone: the payload is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Term and index.
    pub id: EntryId,
    /// What it is for.
    pub kind: EntryKind,
    /// The command; empty for other kinds.
    pub data: Bytes,
    /// Opaque bytes beside the command, for middleware (hashicorp/raft `Log.Extensions`).
    pub extensions: Bytes,
}

impl Entry {
    /// An entry without extensions.
    #[must_use]
    pub const fn new(id: EntryId, kind: EntryKind, data: Bytes) -> Self {
        Self { id, kind, data, extensions: Bytes::new() }
    }

    /// What the entry counts for in limits on bytes: payload plus a fixed overhead.
    #[must_use]
    pub fn size(&self) -> usize {
        let members = match &self.kind {
            EntryKind::Configuration(c) => (c.servers().len() + c.outgoing().len()) * 64,
            EntryKind::Command | EntryKind::Noop | EntryKind::Barrier => 0,
        };
        self.data.len() + self.extensions.len() + members + 48
    }
}

/// What a snapshot stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry whose effect it contains.
    pub last: EntryId,
    /// The newest committed configuration at that entry.
    pub configuration: Configuration,
    /// Where that configuration stands in the log.
    pub configuration_index: LogIndex,
    /// Bytes of state.
    pub size: u64,
}

/// Asks another server for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Would you vote for me? Changes nothing at the receiver (Raft dissertation, section 9.6).
    PreVote {
        /// The term the asker would campaign in: its own plus one.
        term: Term,
        /// The asker's last entry.
        last: EntryId,
    },
    /// Vote for me.
    Vote {
        /// The term of the campaign.
        term: Term,
        /// The candidate's last entry.
        last: EntryId,
        /// The old leader asked for this campaign, so a live leader is no reason to refuse.
        transfer: bool,
    },
    /// Append these entries after `prev`.
    Append {
        /// The leader's term.
        term: Term,
        /// The entry just before the first of `entries`.
        prev: EntryId,
        /// Consecutive entries; may be empty.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: LogIndex,
    },
    /// I lead. Says nothing about the log, and its success moves no match index (catalogue R05).
    Heartbeat {
        /// The leader's term.
        term: Term,
        /// What the leader can do beyond the protocol.
        features: Features,
    },
    /// Replace your log by this snapshot. The state travels beside the request; when the core sees the request, the
    /// receiver has stored all of it durably.
    InstallSnapshot {
        /// The leader's term.
        term: Term,
        /// What the snapshot stands for.
        meta: SnapshotMeta,
    },
    /// Campaign at once, I am handing over to you.
    TimeoutNow {
        /// The leader's term; absent from a hashicorp/raft leader.
        term: Option<Term>,
    },
    /// At which index is a read linearizable that my client asks for now? Only for a leader that has shown
    /// [`Features::READ_INDEX`]. Says nothing of terms: whoever reads must depose nobody.
    ReadIndex,
}

impl Request {
    /// The sender's term, for a pre-vote the one it would campaign in.
    #[must_use]
    pub const fn term(&self) -> Option<Term> {
        match self {
            Self::PreVote { term, .. }
            | Self::Vote { term, .. }
            | Self::Append { term, .. }
            | Self::Heartbeat { term, .. }
            | Self::InstallSnapshot { term, .. } => Some(*term),
            Self::TimeoutNow { term } => *term,
            Self::ReadIndex => None,
        }
    }
}

/// What the sender of a request takes the receiver for. A server of another kind neither says so nor looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regard {
    /// The incarnation that the sender would count.
    pub incarnation: Incarnation,
    /// What that incarnation is known to have stored durably and cannot have given up since: whoever holds less has lost its past.
    pub held: LogIndex,
    /// The sender's epoch ([`Configuration::epoch`]).
    pub epoch: u64,
}

/// What a server can do beyond the hashicorp/raft protocol: one bit each. A server of another kind says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// Understands configurations that are joint.
    pub const JOINT: Self = Self(1);
    /// Answers [`Request::ReadIndex`].
    pub const READ_INDEX: Self = Self(2);
    /// Everything this version can do.
    pub const OURS: Self = Self(Self::JOINT.0 | Self::READ_INDEX.0);

    /// Whether all of `wanted` is among these.
    #[must_use]
    pub const fn contains(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

/// Answers a [`Request`] of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// Answer to [`Request::PreVote`].
    PreVote {
        /// The responder's term.
        term: Term,
        /// Whether it would vote for the asker.
        granted: bool,
        /// Which life of the responder's data speaks.
        incarnation: Incarnation,
    },
    /// Answer to [`Request::Vote`].
    Vote {
        /// The responder's term.
        term: Term,
        /// Whether it voted for the candidate; durable before this is sent.
        granted: bool,
        /// Which life of the responder's data speaks.
        incarnation: Incarnation,
    },
    /// Answer to [`Request::Append`] and, for the wire has one answer for both, [`Request::Heartbeat`].
    Append {
        /// The responder's term.
        term: Term,
        /// Whether everything in the request is durable in the responder's log (for a heartbeat: whether it follows).
        success: bool,
        /// On success the responder's last index. On refusal a hint: the leader need not try above this index.
        last_log: LogIndex,
        /// What the responder can do beyond the protocol.
        features: Features,
        /// Which life of the responder's data speaks.
        incarnation: Incarnation,
    },
    /// Answer to [`Request::InstallSnapshot`].
    InstallSnapshot {
        /// The responder's term.
        term: Term,
        /// Whether the snapshot, or something newer, is in place.
        success: bool,
        /// Which life of the responder's data speaks.
        incarnation: Incarnation,
    },
    /// Answer to [`Request::TimeoutNow`].
    TimeoutNow,
    /// Answer to [`Request::ReadIndex`].
    ReadIndex {
        /// The responder's term.
        term: Term,
        /// A read that has applied everything up to here is linearizable; `None` if the responder does not lead, or lost
        /// leadership before it had it confirmed, or has too many reads waiting.
        index: Option<LogIndex>,
    },
}

impl Response {
    /// The responder's term.
    #[must_use]
    pub const fn term(&self) -> Option<Term> {
        match self {
            Self::PreVote { term, .. }
            | Self::Vote { term, .. }
            | Self::Append { term, .. }
            | Self::InstallSnapshot { term, .. }
            | Self::ReadIndex { term, .. } => Some(*term),
            Self::TimeoutNow => None,
        }
    }

    /// Which life of the responder's data speaks.
    #[must_use]
    pub const fn incarnation(&self) -> Option<Incarnation> {
        match self {
            Self::PreVote { incarnation, .. }
            | Self::Vote { incarnation, .. }
            | Self::Append { incarnation, .. }
            | Self::InstallSnapshot { incarnation, .. } => Some(*incarnation),
            Self::TimeoutNow | Self::ReadIndex { .. } => None,
        }
    }
}

//! What goes into [`RaftCore::step`](super::RaftCore::step) and what comes out of it.
//!
//! Effects are one ordered list. The core holds a message back until what it depends on was reported durable, so a
//! driver may perform effects in any order that keeps each kind in sequence.

use std::fmt;

use bytes::Bytes;
use raft_types::{
    Configuration, ConfigurationChange, ConfigurationError, EntryId, Incarnation, LogIndex, ServerAddress,
    ServerId, Term, Time,
};

use super::message::{Entry, Regard, Request, Response, SnapshotMeta};

/// The sender of a request, as its header names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub id: ServerId,
    /// Where it can be answered.
    pub address: ServerAddress,
}

/// Names one request of a client of the core (a proposal, a read, a change); chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names one incoming request until it is answered; chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

/// Numbers the requests that this core sends, over all peers, without repeating.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// Numbers the writes that this core asks for; completions are reported in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed; due timers run. Every other input runs them too.
    Tick,
    /// A peer asks.
    Request {
        /// Who, as the request's header says.
        from: Peer,
        /// What.
        request: Request,
        /// Where the answer goes.
        reply: ReplyToken,
        /// What the sender takes this server for; `None` from a server of another kind.
        regard: Option<Regard>,
    },
    /// A peer answered.
    Response {
        /// Who was asked.
        from: ServerId,
        /// The number of the request.
        sequence: Sequence,
        /// The answer.
        response: Response,
    },
    /// A request got no answer: refused, timed out, connection lost. It may have been carried out.
    SendFailed {
        /// Who was asked.
        to: ServerId,
        /// The number of the request.
        sequence: Sequence,
    },
    /// All writes up to this one are durable.
    Persisted {
        /// The last of them.
        through: WriteId,
    },
    /// The store failed or stalls; nothing written from now on can be trusted. Final: the server must be restarted.
    StorageFailed,
    /// The state machine has applied all entries up to this one.
    Applied {
        /// The last of them.
        index: LogIndex,
    },
    /// A snapshot of the own state machine is durable.
    SnapshotTaken {
        /// What it stands for.
        meta: SnapshotMeta,
    },
    /// Put the first entry, a configuration, into an empty log.
    Bootstrap {
        /// Who asks.
        request: RequestId,
        /// The members.
        configuration: Configuration,
    },
    /// Replicate these commands, in this order, as one batch.
    Propose {
        /// Names the batch.
        request: RequestId,
        /// The commands, each with its extensions.
        commands: Vec<(Bytes, Bytes)>,
    },
    /// Append an entry that is answered when everything before it is applied.
    Barrier {
        /// Who asks.
        request: RequestId,
    },
    /// Find an index from which a read is linearizable; on a server that does not lead, by asking the leader.
    Read {
        /// Who asks.
        request: RequestId,
    },
    /// Have a quorum confirm that this server leads; answered like [`Input::Read`].
    VerifyLeader {
        /// Who asks.
        request: RequestId,
    },
    /// Like [`Input::Read`], without asking anybody while a quorum has answered recently enough; otherwise the same.
    LeaseRead {
        /// Who asks.
        request: RequestId,
    },
    /// Change one member.
    Change {
        /// Who asks.
        request: RequestId,
        /// What to change.
        change: ConfigurationChange,
        /// Refuse unless the configuration in force stands at this index.
        expected: Option<LogIndex>,
    },
    /// Change several members at once, through a joint configuration where more than one vote changes hands.
    ChangeMembership {
        /// Who asks.
        request: RequestId,
        /// What to change, in this order.
        changes: Vec<ConfigurationChange>,
        /// Refuse unless the configuration in force stands at this index.
        expected: Option<LogIndex>,
    },
    /// Give a server its vote once it has the log; one that is no member becomes a non-voter first. Refused if it does not
    /// catch up. For a voter the same as [`Input::Change`].
    AddVoter {
        /// Who asks.
        request: RequestId,
        /// The server.
        id: ServerId,
        /// Where it is reached.
        address: ServerAddress,
        /// Refuse unless the configuration in force stands at this index.
        expected: Option<LogIndex>,
    },
    /// Make ready for a snapshot from outside that is to replace the state of the whole cluster.
    BeginRestore {
        /// Who asks.
        request: RequestId,
        /// The last index that the state in the snapshot knows of; zero if it knows of none.
        above: LogIndex,
    },
    /// The snapshot of [`Outcome::RestoreBegun`] is durable here; or it is not on the disk, and never will be. If a durable one
    /// is refused, the driver removes it and then says that it is gone: until then this server acknowledges nothing.
    RestoreStored {
        /// Who waits for the end of the restore.
        request: RequestId,
        /// Which snapshot.
        last: EntryId,
        /// Its size in bytes, if it was stored; `None` once it is sure that no restart will find it.
        size: Option<u64>,
    },
    /// Campaign now instead of when the election timeout ends; asks for pre-votes first where those are on. A leader goes
    /// on leading, and a server that may not vote does nothing.
    Campaign,
    /// Forget who leads and that it was heard, so that others may be elected at once. Does nothing on a leader, and none
    /// where leases rest on the memory ([`Config::lease_reads`](crate::Config::lease_reads)).
    ForgetLeader,
    /// Hand leadership over.
    Transfer {
        /// Who asks.
        request: RequestId,
        /// To whom; the voter with the longest log when `None`.
        to: Option<ServerId>,
    },
}

/// A durable term and vote, and whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The highest term seen.
    pub term: Term,
    /// Who got this server's vote in that term.
    pub voted_for: Option<ServerId>,
    /// The life that this log, term and vote belong to.
    pub incarnation: Incarnation,
}

/// One change of what is on disk. Fields apply in the order in which they stand here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// Its number; each is one above the one before.
    pub id: WriteId,
    /// The new term and vote.
    pub hard_state: Option<HardState>,
    /// Forget the whole log; the next entry comes right after this one (a snapshot replaced it).
    pub reset_to: Option<EntryId>,
    /// Remove the entries from this index on.
    pub truncate_from: Option<LogIndex>,
    /// Add these entries; the first follows the last one there.
    pub entries: Vec<Entry>,
    /// The entries up to and including this one are in a durable snapshot and may be dropped. Needs no sync.
    pub compact_through: Option<EntryId>,
    /// The log is known to be committed through here. Carried along by writes that are made anyway; a server that starts
    /// again need not wait for a leader to apply what it knew (`RestoreCommittedLogs` of hashicorp/raft). What was said before
    /// `reset_to` says nothing about the log after it.
    pub commit: Option<LogIndex>,
}

/// Why a request of a client was refused. Unless a variant says otherwise nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Ask the leader, if one is known.
    NotLeader {
        /// The leader, as far as this server knows.
        leader: Option<Peer>,
    },
    /// Leadership was lost while the request waited. **It may still happen.** Read before trying again.
    LeadershipLost,
    /// Leadership is being handed over. Retry in an election timeout.
    TransferInProgress,
    /// Too much is waiting to be committed. Retry later.
    Overloaded,
    /// The leader has not committed an entry of its own term yet. Retry shortly.
    NotReady,
    /// An earlier change is not committed yet. Retry later.
    ChangeInProgress {
        /// Where the earlier change stands in the log.
        index: LogIndex,
    },
    /// The configuration in force is not the expected one. Read it and decide again.
    ConfigurationMoved {
        /// Where the configuration in force stands.
        index: LogIndex,
    },
    /// The change makes no valid configuration.
    Invalid(ConfigurationError),
    /// This member has not shown that it understands joint configurations. Change one server at a time.
    NotSpoken {
        /// Which member.
        server: ServerId,
    },
    /// The server does not catch up, or does not answer. It has no vote; it may have become a non-voter.
    NotCaughtUp {
        /// Which server.
        server: ServerId,
        /// Entries that it misses.
        behind: u64,
    },
    /// A snapshot from outside is being restored into the cluster. Retry later.
    RestoreInProgress,
    /// The snapshot from outside was not stored. Nothing was restored.
    RestoreFailed,
    /// The leader that this server follows has not shown that it answers for reads on other servers. Ask it directly.
    ReadNotSpoken {
        /// The leader.
        leader: Peer,
    },
    /// The leader did not confirm the read in time, or what it had committed did not get here in time. Retry.
    ReadUnconfirmed,
    /// Too few of the voters that would remain have answered this leader as who they are meant to be: nothing could ever be
    /// committed if they do not. Retry once they do.
    VotersUnheard,
    /// This server has a log, a snapshot or a term already, or has met a running cluster.
    AlreadyBootstrapped,
    /// The target cannot take over: no voter, unknown, or the leader itself.
    InvalidTarget,
    /// The target did not take over in time; leadership stays here.
    TransferFailed,
    /// The store has failed; this server takes no part any more until it is restarted.
    StorageFailed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(peer) } => {
                write!(f, "not the leader; the leader is {} at {}", peer.id, peer.address)
            }
            Self::NotLeader { leader: None } => f.write_str("not the leader, and no leader is known"),
            Self::LeadershipLost => f.write_str("leadership was lost; the outcome is unknown"),
            Self::TransferInProgress => f.write_str("leadership is being handed over"),
            Self::Overloaded => f.write_str("too much is waiting to be committed"),
            Self::NotReady => f.write_str("the leader has not committed an entry of its own term yet"),
            Self::ChangeInProgress { index } => {
                write!(f, "the configuration change at index {index} is not committed yet")
            }
            Self::ConfigurationMoved { index } => {
                write!(f, "the configuration has changed; it now stands at index {index}")
            }
            Self::Invalid(error) => error.fmt(f),
            Self::NotSpoken { server } => {
                write!(f, "{server} has not shown that it understands changes of several servers at once")
            }
            Self::NotCaughtUp { server, behind } => {
                write!(f, "{server} does not catch up: it is {behind} entries behind")
            }
            Self::RestoreInProgress => f.write_str("a snapshot is being restored into the cluster"),
            Self::RestoreFailed => f.write_str("the snapshot was not stored"),
            Self::ReadNotSpoken { leader } => {
                write!(f, "the leader {} has not shown that it answers for reads on other servers", leader.id)
            }
            Self::ReadUnconfirmed => f.write_str("the leader did not confirm the read in time"),
            Self::VotersUnheard => f.write_str("too few of the voters that would remain have answered"),
            Self::AlreadyBootstrapped => f.write_str("this server already has Raft state"),
            Self::InvalidTarget => f.write_str("leadership can only go to another voter"),
            Self::TransferFailed => f.write_str("the target did not take over in time"),
            Self::StorageFailed => f.write_str("the store has failed; restart the server"),
        }
    }
}

/// What became of a client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A batch of proposals is in the log: the first of `count` consecutive entries. They are done when applied.
    Proposed {
        /// The first entry.
        first: EntryId,
        /// How many.
        count: u64,
    },
    /// A read at or after this applied index is linearizable.
    Read {
        /// The index.
        index: LogIndex,
    },
    /// The same, by lease: only while the clock, read after the state, is before `until`.
    LeaseRead {
        /// The index.
        index: LogIndex,
        /// When the lease ends.
        until: Time,
    },
    /// The configuration change is committed; one of several servers is over and done with.
    Changed {
        /// Where the new configuration stands.
        index: LogIndex,
    },
    /// Store the snapshot from outside under this identity, then report [`Input::RestoreStored`].
    RestoreBegun {
        /// What it is to stand for; the size is not known yet.
        meta: SnapshotMeta,
    },
    /// The snapshot from outside is the state of the cluster.
    Restored {
        /// As which entry.
        last: EntryId,
    },
    /// The first configuration is durable.
    Bootstrapped,
    /// The target took over (seen as an answer or a message of a newer term).
    Transferred,
    /// Nothing was done, unless the variant says otherwise.
    Refused(Refusal),
}

/// Something to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write this and report it with [`Input::Persisted`]. Writes are in order; several may share one sync.
    Persist(Write),
    /// Send a request; report the answer with [`Input::Response`] or its absence with [`Input::SendFailed`].
    Send {
        /// To whom.
        to: Peer,
        /// Its number.
        sequence: Sequence,
        /// What. A snapshot's state is read from the snapshot store.
        request: Request,
        /// What the receiver is taken for.
        regard: Regard,
    },
    /// Answer a request.
    Respond {
        /// Which.
        reply: ReplyToken,
        /// With what.
        response: Response,
    },
    /// Drop a request without an answer.
    Ignore {
        /// Which.
        reply: ReplyToken,
    },
    /// Entries up to this index are committed: apply them in order and report [`Input::Applied`].
    Commit {
        /// The last of them.
        through: LogIndex,
    },
    /// Replace the state machine's state by the stored snapshot at this entry, then go on applying after it. Reads that were
    /// confirmed at or below it and not served yet are not to be served from it: it may be one from outside.
    Restore {
        /// What the snapshot stands for.
        meta: SnapshotMeta,
    },
    /// Tell a client.
    Resolve {
        /// Which request.
        request: RequestId,
        /// What became of it.
        outcome: Outcome,
    },
    /// Proposals at and above this index that were not applied yet have an unknown outcome: leadership is lost.
    Abandon {
        /// The first of them.
        from: LogIndex,
    },
    /// Tell observers.
    Notify(Event),
}

/// A server's part in its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Follows a leader or waits for one.
    Follower,
    /// Asks for votes, or first for pre-votes.
    Candidate,
    /// Leads.
    Leader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        })
    }
}

/// What observers may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The role or the term changed.
    Role {
        /// The role now.
        role: Role,
        /// The term now.
        term: Term,
    },
    /// Another leader is known, or none.
    Leader {
        /// Who leads.
        leader: Option<Peer>,
    },
    /// Another configuration is in force.
    Configuration {
        /// Where it stands.
        index: LogIndex,
    },
    /// A member answers the leader as another incarnation than the configuration means: its disk is another one than when it
    /// became a voter. It counts for nothing until its vote was taken and given back, which the leader does by itself
    /// where the others are a quorum.
    NotCounted {
        /// Which member.
        id: ServerId,
    },
    /// This server has no past, or has lost it: it neither votes nor counts until the leader has taken it in anew.
    StartedOver {
        /// The incarnation that begins here.
        incarnation: Incarnation,
    },
    /// The leader's first own entry is committed: it may change members and serve reads.
    Ready {
        /// In this term.
        term: Term,
    },
}

//! What a server holds only while it plays a certain part.

use std::collections::{BTreeMap, VecDeque};

use raft_types::{Incarnation, LogIndex, ServerId, Time};

use super::catch_up::CatchUp;
use super::io::{ReplyToken, RequestId, Role, Sequence};
use super::operator_restore::Restoring;
use super::progress::Progress;

#[derive(Debug)]
pub(super) enum RoleState {
    Follower,
    Candidate(Candidate),
    Leader(Box<Leader>),
}

impl RoleState {
    pub(super) const fn role(&self) -> Role {
        match self {
            Self::Follower => Role::Follower,
            Self::Candidate(_) => Role::Candidate,
            Self::Leader(_) => Role::Leader,
        }
    }
}

/// One round of asking for votes. A new round is a new value, so answers to an earlier one find nothing (catalogue E06).
#[derive(Debug, Default)]
pub(super) struct Candidate {
    /// Only asking whether a campaign would succeed.
    pub(super) pre_vote: bool,
    /// Who granted, and which life of it.
    pub(super) granted: BTreeMap<ServerId, Incarnation>,
    pub(super) asked: BTreeMap<Sequence, ServerId>,
}

#[derive(Debug)]
pub(super) struct Leader {
    pub(super) followers: BTreeMap<ServerId, Progress>,
    /// This leader's first entry.
    pub(super) first: LogIndex,
    /// Whether that entry is committed.
    pub(super) ready: bool,
    pub(super) heartbeat_due: Time,
    pub(super) uncommitted_bytes: usize,
    /// Who waits for the configuration change in flight.
    pub(super) change: Option<(RequestId, LogIndex)>,
    /// Who waits for a server to become a voter that has not answered yet.
    pub(super) joining: Vec<Joining>,
    /// The server that is being brought up to date before it may vote.
    pub(super) catch_up: Option<CatchUp>,
    pub(super) transfer: Option<Transfer>,
    /// Who asks for a restore that has not begun, and above which index.
    pub(super) restore_asked: Option<(RequestId, LogIndex)>,
    pub(super) restoring: Option<Restoring>,
    pub(super) reads: VecDeque<PendingRead>,
    /// The first request number of the read round under way.
    pub(super) read_round: Option<Sequence>,
    /// Somebody was told to campaign in this term: whenever that arrives, it is elected past all leases (catalogue L04).
    pub(super) lease_void: bool,
    /// Until when clients were told that they may read by lease.
    pub(super) lease_told: Time,
}

#[derive(Debug)]
pub(super) struct Joining {
    pub(super) request: RequestId,
    pub(super) id: ServerId,
    pub(super) deadline: Time,
}

#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) request: RequestId,
    pub(super) target: ServerId,
    pub(super) deadline: Time,
    /// Whether TimeoutNow has left.
    pub(super) told: bool,
}

#[derive(Debug)]
pub(super) struct PendingRead {
    pub(super) reader: Reader,
    pub(super) index: LogIndex,
    /// Answers to requests from this number on confirm it; `None` until a round starts after it came.
    pub(super) after: Option<Sequence>,
}

/// Who is told that a read is confirmed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reader {
    /// A client of this server.
    Client(RequestId),
    /// A server that asks on behalf of its clients.
    Peer(ReplyToken),
}

//! What the handle asks of the task.

use std::sync::Arc;

use raft_types::{ServerAddress, ServerId};
use tokio::sync::oneshot;

use super::error::{AddServerError, ApplyError, OrderError, PruneError, RemoveServerError, RequestError};
use crate::core::{Proposal, Record};
use crate::model::{
    Actor, AddServerOutcome, ApplyReport, Event, Hand, Instruction, Ledger, PruneReport, State, StopAnswer,
    Tombstone,
};

type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// A server that is to be a member.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) id: ServerId,
    pub(super) address: ServerAddress,
    /// Whether somebody wants it, so that an earlier removal does not count; and otherwise which of its lives it is.
    pub(super) wanted: Result<(), Option<u64>>,
}

/// A request, by whom, and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) by: Actor,
    pub(super) command: Command,
}

/// A request and where its answer goes. An asker that went away is no reason to stop half way.
#[derive(Debug)]
pub(super) enum Command {
    AddServer { join: Join, reply: Reply<AddServerOutcome, AddServerError> },
    RemoveServer { id: ServerId, reply: Reply<raft_types::LogIndex, RemoveServerError> },
    RemoveDead { reply: Reply<PruneReport, PruneError> },
    Order { instruction: Instruction, reply: Reply<Arc<Hand>, OrderError> },
    SafeToStop { id: ServerId, reply: Reply<StopAnswer, RequestError> },
    Tombstones { reply: Reply<Vec<Tombstone>, RequestError> },
    Audit { reply: Reply<Vec<Arc<Event>>, RequestError> },
    Ledger { reply: Reply<Ledger, RequestError> },
    ComputeState { reply: Reply<Arc<State>, RequestError> },
    Plan { reply: Reply<Proposal, RequestError> },
    Apply { proposal: Box<Proposal>, reply: Reply<ApplyReport, ApplyError> },
    Records { reply: Reply<Vec<Arc<Record>>, RequestError> },
    VotersCount { reply: Reply<usize, RequestError> },
}

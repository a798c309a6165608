//! What the handle asks of the task.

use std::sync::Arc;

use raft_types::{ServerAddress, ServerId};
use tokio::sync::oneshot;

use super::error::{AddServerError, ApplyError, PruneError, RemoveServerError, RequestError};
use crate::core::{Proposal, Record};
use crate::model::{AddServerOutcome, ApplyReport, PruneReport, State};

type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// A request and where its answer goes. An asker that went away is no reason to stop half way.
#[derive(Debug)]
pub(super) enum Command {
    AddServer { id: ServerId, address: ServerAddress, reply: Reply<AddServerOutcome, AddServerError> },
    RemoveServer { id: ServerId, reply: Reply<raft_types::LogIndex, RemoveServerError> },
    RemoveDead { reply: Reply<PruneReport, PruneError> },
    ComputeState { reply: Reply<Arc<State>, RequestError> },
    Plan { reply: Reply<Proposal, RequestError> },
    Apply { proposal: Box<Proposal>, reply: Reply<ApplyReport, ApplyError> },
    Records { reply: Reply<Vec<Arc<Record>>, RequestError> },
    VotersCount { reply: Reply<usize, RequestError> },
}

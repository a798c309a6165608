//! Who waits for what, and the words in which each is refused.

use raft_types::{EntryId, LogIndex};
use tokio::sync::oneshot;

use super::LeaseRead;
use super::apply::ApplyReply;
use super::restores::{Outside, RestoreReply};
use crate::core::Refusal;
use crate::error::{BootstrapError, ChangeError, ProposeError, ReadError, RestoreError, TransferError};

/// A client of one request to the core.
pub(super) enum Waiter {
    /// A batch; each gets an entry of its own.
    Proposals(Vec<Client>),
    Bootstrap(oneshot::Sender<Result<(), BootstrapError>>),
    Read(oneshot::Sender<Result<LogIndex, ReadError>>),
    /// Wants only the confirmation, not the index.
    Verify(oneshot::Sender<Result<(), ReadError>>),
    LeaseRead(oneshot::Sender<Result<LeaseRead, ReadError>>),
    Change(oneshot::Sender<Result<LogIndex, ChangeError>>),
    Transfer(oneshot::Sender<Result<(), TransferError>>),
    BeginRestore(Box<Outside>),
    Restore(RestoreReply),
}

/// Whose command it is.
pub(super) struct Client {
    /// Wants to know at once where the command stands in the log.
    pub(super) placed: Option<oneshot::Sender<EntryId>>,
    /// Waits until it is applied.
    pub(super) done: ApplyReply,
}

impl Client {
    pub(super) fn refuse(self, error: ProposeError) {
        // First why, then that it is nowhere.
        let _ = self.done.send(Err(error));
        drop(self.placed);
    }
}

impl Waiter {
    pub(super) fn refuse(self, refusal: &Refusal) {
        match self {
            Self::Proposals(replies) => {
                for client in replies {
                    client.refuse(propose_error(refusal));
                }
            }
            Self::Bootstrap(reply) => drop(reply.send(Err(bootstrap_error(refusal)))),
            Self::Read(reply) => drop(reply.send(Err(read_error(refusal)))),
            Self::Verify(reply) => drop(reply.send(Err(read_error(refusal)))),
            Self::LeaseRead(reply) => drop(reply.send(Err(read_error(refusal)))),
            Self::Change(reply) => drop(reply.send(Err(change_error(refusal)))),
            Self::Transfer(reply) => drop(reply.send(Err(transfer_error(refusal)))),
            Self::BeginRestore(outside) => drop(outside.reply.send(Err(restore_error(refusal)))),
            Self::Restore(reply) => drop(reply.send(Err(restore_error(refusal)))),
        }
    }
}

fn propose_error(refusal: &Refusal) -> ProposeError {
    match refusal {
        Refusal::NotLeader { leader } => ProposeError::NotLeader { leader: leader.clone() },
        Refusal::TransferInProgress
        | Refusal::RestoreInProgress
        | Refusal::Overloaded
        | Refusal::NotReady => ProposeError::Overloaded,
        Refusal::StorageFailed => ProposeError::Stopped,
        _ => ProposeError::OutcomeUnknown,
    }
}

fn bootstrap_error(refusal: &Refusal) -> BootstrapError {
    match refusal {
        Refusal::AlreadyBootstrapped => BootstrapError::AlreadyBootstrapped,
        Refusal::Invalid(error) => BootstrapError::Invalid(error.clone()),
        _ => BootstrapError::Stopped,
    }
}

fn read_error(refusal: &Refusal) -> ReadError {
    match refusal {
        Refusal::NotLeader { leader } => ReadError::NotLeader { leader: leader.clone() },
        Refusal::Overloaded => ReadError::Overloaded,
        Refusal::ReadNotSpoken { leader } => ReadError::NotSpoken { leader: leader.clone() },
        Refusal::ReadUnconfirmed => ReadError::Unconfirmed,
        _ => ReadError::Stopped,
    }
}

fn change_error(refusal: &Refusal) -> ChangeError {
    match refusal {
        Refusal::NotLeader { leader } => ChangeError::NotLeader { leader: leader.clone() },
        Refusal::NotReady
        | Refusal::TransferInProgress
        | Refusal::RestoreInProgress
        | Refusal::Overloaded => ChangeError::NotReady,
        Refusal::NotCaughtUp { server, behind } => {
            ChangeError::NotCaughtUp { server: server.clone(), behind: *behind }
        }
        Refusal::ChangeInProgress { index } => ChangeError::ChangeInProgress { index: *index },
        Refusal::ConfigurationMoved { index } => ChangeError::ConfigurationMoved { index: *index },
        Refusal::Invalid(error) => ChangeError::Invalid(error.clone()),
        Refusal::VotersUnheard => ChangeError::VotersUnheard,
        Refusal::NotSpoken { server } => ChangeError::NotSpoken { server: server.clone() },
        Refusal::StorageFailed => ChangeError::Stopped,
        _ => ChangeError::OutcomeUnknown,
    }
}

fn transfer_error(refusal: &Refusal) -> TransferError {
    match refusal {
        Refusal::NotLeader { leader } => TransferError::NotLeader { leader: leader.clone() },
        Refusal::InvalidTarget => TransferError::InvalidTarget,
        Refusal::TransferInProgress => TransferError::InProgress,
        Refusal::RestoreInProgress => TransferError::RestoreInProgress,
        Refusal::StorageFailed => TransferError::Stopped,
        _ => TransferError::Failed,
    }
}

fn restore_error(refusal: &Refusal) -> RestoreError {
    match refusal {
        Refusal::NotLeader { leader } => RestoreError::NotLeader { leader: leader.clone() },
        Refusal::NotReady
        | Refusal::TransferInProgress
        | Refusal::RestoreInProgress
        | Refusal::RestoreFailed => RestoreError::NotReady,
        Refusal::ChangeInProgress { index } => RestoreError::ChangeInProgress { index: *index },
        Refusal::StorageFailed => RestoreError::Stopped,
        _ => RestoreError::OutcomeUnknown,
    }
}

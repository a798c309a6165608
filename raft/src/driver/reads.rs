//! Reads that are confirmed and wait for the state machine.

use std::collections::BTreeMap;

use raft_types::LogIndex;
use tokio::sync::oneshot;

use super::LeaseRead;
use crate::error::ReadError;

impl LeaseRead {
    /// Whether it rests on a lease; else a quorum has confirmed the read, and it stays valid.
    #[must_use]
    pub const fn is_by_lease(&self) -> bool {
        self.until.is_some()
    }
}

/// Who waits for a read.
pub(super) enum Reader {
    Index(oneshot::Sender<Result<LogIndex, ReadError>>),
    Lease(LeaseRead, oneshot::Sender<Result<LeaseRead, ReadError>>),
}

/// By the index that must be applied first.
#[derive(Default)]
pub(super) struct Reads(BTreeMap<LogIndex, Vec<Reader>>);

impl Reads {
    pub(super) fn wait(&mut self, index: LogIndex, reader: Reader) {
        self.0.entry(index).or_default().push(reader);
    }

    /// Answers those whose index is applied.
    pub(super) fn serve(&mut self, applied: LogIndex) {
        while let Some(first) = self.0.first_entry()
            && *first.key() <= applied
        {
            let (index, readers) = first.remove_entry();
            for reader in readers {
                match reader {
                    Reader::Index(reply) => drop(reply.send(Ok(index))),
                    Reader::Lease(read, reply) => drop(reply.send(Ok(read))),
                }
            }
        }
    }

    /// A snapshot takes the place of the state for which these were confirmed: if it is from outside, no quorum may have it yet.
    pub(super) fn overtaken(&mut self, through: LogIndex) {
        let later = self.0.split_off(&through.next());
        for reader in std::mem::replace(&mut self.0, later).into_values().flatten() {
            match reader {
                Reader::Index(reply) => drop(reply.send(Err(ReadError::Unconfirmed))),
                Reader::Lease(_, reply) => drop(reply.send(Err(ReadError::Unconfirmed))),
            }
        }
    }

    /// Tells all that the server has stopped.
    pub(super) fn abandon(&mut self) {
        self.0.clear();
    }
}

//! The client's side of a session.

use bytes::Bytes;
use raft_types::EntryId;
use thiserror::Error;

use super::{Answer, Header};
use crate::driver::{Applied, Raft};
use crate::error::ProposeError;

/// Why a request of a session has no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// The proposal failed. Send the same request again, to the leader: it is applied once however often it is sent.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The session was forgotten, because too many others were opened or because it never was. This sending of the request was
    /// not applied; an earlier one whose outcome was unknown may have been.
    #[error("the session has expired")]
    Expired,
    /// A later request of the session was applied already. This sending was not applied; a retry fails again.
    #[error("a later request of this session was applied before")]
    Overtaken,
    /// An earlier sending was applied, once, and its answer was too large to be kept.
    #[error("the request was applied, and its answer was too large to be kept")]
    AnswerNotKept,
    /// The state machine of the leader does not know sessions, or a newer form of them. **The command may have been applied**.
    #[error("the cluster's state machine does not answer as one with sessions does")]
    NoSessions,
}

/// What the state machine answered to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionResponse {
    /// The entry by which the answer came; that of the last sending, not of the one that was applied.
    pub id: EntryId,
    /// The answer.
    pub response: Bytes,
}

/// A client of a cluster whose state machine is a [`super::SessionStateMachine`]; belongs to no server.
#[derive(Debug)]
pub struct Session {
    id: u64,
    next: u64,
}

impl Session {
    /// Opens a session by way of an entry in the log. Opening one in vain costs nothing but a place in the table.
    ///
    /// # Errors
    /// See [`SessionError`]. Dropping the future may leave a session that nobody uses.
    pub async fn open(raft: &Raft) -> Result<Self, SessionError> {
        let applied = raft.propose_with(Bytes::new(), Header::Open.encode()).await?;
        match Answer::decode(&applied.response) {
            Some(Answer::Opened(id)) => Ok(Self { id, next: 1 }),
            _ => Err(SessionError::NoSessions),
        }
    }

    /// A request that is applied at most once. It borrows the session, because only one may be under way: dropping it
    /// and sending another gives up on learning its outcome.
    pub fn request(&mut self, command: impl Into<Bytes>) -> SessionRequest<'_> {
        let number = self.next;
        self.next += 1;
        SessionRequest { session: self, number, command: command.into() }
    }
}

/// One request of a [`Session`].
#[derive(Debug)]
pub struct SessionRequest<'a> {
    session: &'a Session,
    number: u64,
    command: Bytes,
}

impl SessionRequest<'_> {
    /// Sends the request through this server, which should be the leader. May be called until it succeeds, with another
    /// server each time.
    ///
    /// # Errors
    /// See [`SessionError`]. Safe to drop and to call again.
    pub async fn send(&self, raft: &Raft) -> Result<SessionResponse, SessionError> {
        let header = Header::Request { session: self.session.id, number: self.number };
        let Applied { id, response } = raft.propose_with(self.command.clone(), header.encode()).await?;
        match Answer::decode(&response) {
            Some(Answer::Done(response)) => Ok(SessionResponse { id, response }),
            Some(Answer::Expired) => Err(SessionError::Expired),
            Some(Answer::Overtaken) => Err(SessionError::Overtaken),
            Some(Answer::NotKept) => Err(SessionError::AnswerNotKept),
            Some(Answer::Opened(_) | Answer::Malformed) | None => Err(SessionError::NoSessions),
        }
    }
}

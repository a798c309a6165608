//! How requests reach other servers and answers come back.
//!
//! The driver hands a request to [`Transport::send`] and hears of its fate through an [`Inbox`]; requests of others come
//! through the same inbox, each with a [`Responder`].

mod convert;
mod memory;
mod tcp;
pub mod wire;

use std::fmt;
use std::io;

use raft_types::{ServerAddress, ServerId};
use tokio::sync::{mpsc, oneshot};

use crate::core::{Peer, Regard, Request, Response, Sequence, SnapshotMeta};

pub use memory::{MemoryNetwork, MemoryTransport};
pub use tcp::{TcpOptions, TcpTransport};

/// Carries requests. Sending never blocks: what cannot be queued fails through the inbox like any other request.
///
/// Heartbeats, votes and TimeoutNow must not wait behind entries or snapshots (catalogue R22).
pub trait Transport: Send + Sync + 'static {
    /// Starts listening and dialling; everything that arrives goes to `inbox` until [`Transport::shutdown`].
    fn start(&self, local: Peer, inbox: Inbox);

    /// The address under which the others reach this server.
    fn local_address(&self) -> ServerAddress;

    /// Sends a request. Exactly one [`Incoming::Response`] or [`Incoming::SendFailed`] follows within the transport's
    /// time limit. Append requests to one peer arrive in the order in which they were sent or not at all.
    ///
    /// `regard` goes with it. A process that has another id than `to` must not take the request (catalogue M12).
    fn send(&self, to: &Peer, sequence: Sequence, request: Request, regard: Regard);

    /// Sends a snapshot and its state, of `meta.size` bytes. Answered like [`Transport::send`].
    fn send_snapshot(
        &self,
        to: &Peer,
        sequence: Sequence,
        request: Request,
        regard: Regard,
        state: SnapshotState,
    );

    /// Forgets connections to servers that are no longer members.
    fn retain(&self, members: &[ServerId]);

    /// Closes everything. Requests in flight fail; the inbox is dropped.
    fn shutdown(&self);
}

/// A snapshot's state on its way, read from blocking code.
pub type SnapshotState = Box<dyn io::Read + Send>;

/// Where a transport puts what arrives. Bounded: a full inbox makes the transport stop reading.
pub type Inbox = mpsc::Sender<Incoming>;

/// What arrives.
#[derive(Debug)]
pub enum Incoming {
    /// A request of another server.
    Request {
        /// Who, as the header says.
        from: Peer,
        /// What.
        request: Request,
        /// What the sender takes this server for; `None` from a server of another kind.
        regard: Option<Regard>,
        /// Where the answer goes.
        responder: Responder,
    },
    /// A request of another server to install a snapshot, with the state still to be read.
    Snapshot {
        /// Who, as the header says.
        from: Peer,
        /// The leader's request; always [`Request::InstallSnapshot`].
        request: Request,
        /// What the sender takes this server for; `None` from a server of another kind.
        regard: Option<Regard>,
        /// What the snapshot stands for.
        meta: SnapshotMeta,
        /// The chunks of the state, `meta.size` bytes in all; an error or an early end means that the stream broke.
        state: mpsc::Receiver<io::Result<bytes::Bytes>>,
        /// Where the answer goes. Dropping it before the state was read makes the transport drain or close.
        responder: Responder,
    },
    /// An answer.
    Response {
        /// Who was asked.
        from: ServerId,
        /// The number of the request.
        sequence: Sequence,
        /// The answer.
        response: Response,
    },
    /// A request got no answer.
    SendFailed {
        /// Who was asked.
        to: ServerId,
        /// The number of the request.
        sequence: Sequence,
        /// Why, for the log.
        reason: SendError,
    },
}

/// Takes the answer to one incoming request. Dropped without an answer, the connection is closed.
pub struct Responder(oneshot::Sender<Response>);

impl Responder {
    /// A responder and what it answers to.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<Response>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers. If the asker is gone, so is the answer.
    pub fn respond(self, response: Response) {
        let _ = self.0.send(response);
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

/// Why a request got no answer. It may have been carried out, except where a variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No connection. The request was not carried out.
    #[error("cannot reach {}: {source}", address.as_str().escape_debug())]
    Unreachable {
        /// Where.
        address: ServerAddress,
        /// What the operating system said.
        source: io::Error,
    },
    /// Too many requests wait for this peer. The request was not carried out.
    #[error("too many requests wait for {}", to.as_str().escape_debug())]
    QueueFull {
        /// Who.
        to: ServerId,
    },
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// The peer answered with an error text or with bytes that make no sense.
    #[error("the peer answered: {0}")]
    Refused(String),
}

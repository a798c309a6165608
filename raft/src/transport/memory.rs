//! Servers of one process, with links that a test can cut.
#![allow(clippy::disallowed_methods, reason = "delivers answers from tasks of its own")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use raft_types::{ServerAddress, ServerId};
use tokio::sync::{mpsc, oneshot};

use super::{Inbox, Incoming, Responder, SendError, SnapshotState, Transport};
use crate::core::{Peer, Regard, Request, Response, Sequence};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const CHUNK: usize = 64 << 10;

/// A network in memory. Cloning gives another handle on the same one.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    servers: BTreeMap<ServerAddress, (ServerId, Inbox)>,
    cut: BTreeSet<(ServerAddress, ServerAddress)>,
}

impl MemoryNetwork {
    /// A network without servers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The transport of a server at this address.
    pub fn transport(&self, address: impl Into<ServerAddress>) -> MemoryTransport {
        MemoryTransport { network: self.clone(), address: address.into(), local: Arc::default() }
    }

    /// Drops everything from `from` to `to` until [`MemoryNetwork::heal`].
    pub fn cut(&self, from: impl Into<ServerAddress>, to: impl Into<ServerAddress>) {
        self.lock().cut.insert((from.into(), to.into()));
    }

    /// Cuts a server off from all others, both ways.
    pub fn isolate(&self, address: impl Into<ServerAddress>) {
        let address = address.into();
        let mut state = self.lock();
        let others: Vec<ServerAddress> = state.servers.keys().cloned().collect();
        for other in others {
            state.cut.insert((address.clone(), other.clone()));
            state.cut.insert((other, address.clone()));
        }
    }

    /// Mends every link.
    pub fn heal(&self) {
        self.lock().cut.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }

    fn inbox(&self, from: &ServerAddress, peer: &Peer) -> Result<Inbox, SendError> {
        let to = &peer.address;
        let state = self.lock();
        let cut = state.cut.contains(&(from.clone(), to.clone()));
        let unreachable =
            |kind: io::ErrorKind| SendError::Unreachable { address: to.clone(), source: kind.into() };
        if cut {
            return Err(unreachable(io::ErrorKind::TimedOut));
        }
        match state.servers.get(to) {
            Some((id, inbox)) if *id == peer.id => Ok(inbox.clone()),
            Some((id, _)) => Err(SendError::Refused(format!("this is server {id}, not {}", peer.id))),
            None => Err(unreachable(io::ErrorKind::ConnectionRefused)),
        }
    }

    fn is_cut(&self, from: &ServerAddress, to: &ServerAddress) -> bool {
        self.lock().cut.contains(&(from.clone(), to.clone()))
    }
}

/// One server's end of a [`MemoryNetwork`].
#[derive(Clone, Debug)]
pub struct MemoryTransport {
    network: MemoryNetwork,
    address: ServerAddress,
    local: Arc<Mutex<Option<(Peer, Inbox)>>>,
}

impl MemoryTransport {
    fn local(&self) -> Option<(Peer, Inbox)> {
        self.local.lock().expect("nothing panics while it holds the lock").clone()
    }

    fn deliver(&self, to: &Peer, sequence: Sequence, incoming: impl FnOnce(Peer, Responder) -> Incoming) {
        let Some((me, inbox)) = self.local() else { return };
        let (responder, answer) = Responder::new();
        let target = to.id.clone();
        let queued = self.network.inbox(&self.address, to).and_then(|peer| {
            peer.try_send(incoming(me, responder)).map_err(|_| SendError::QueueFull { to: target.clone() })
        });
        let (network, here, there) = (self.network.clone(), self.address.clone(), to.address.clone());
        tokio::spawn(async move {
            let result = match queued {
                Ok(()) => wait_for(answer).await,
                Err(error) => Err(error),
            };
            let result = result.and_then(|response| {
                if network.is_cut(&there, &here) { Err(SendError::TimedOut) } else { Ok(response) }
            });
            let _ = inbox.send(outcome(target, sequence, result)).await;
        });
    }
}

async fn wait_for(answer: oneshot::Receiver<Response>) -> Result<Response, SendError> {
    match tokio::time::timeout(ANSWER_LIMIT, answer).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) => Err(SendError::Broken(io::ErrorKind::ConnectionReset.into())),
        Err(_) => Err(SendError::TimedOut),
    }
}

fn outcome(from: ServerId, sequence: Sequence, result: Result<Response, SendError>) -> Incoming {
    match result {
        Ok(response) => Incoming::Response { from, sequence, response },
        Err(reason) => Incoming::SendFailed { to: from, sequence, reason },
    }
}

impl Transport for MemoryTransport {
    fn start(&self, local: Peer, inbox: Inbox) {
        self.network.lock().servers.insert(self.address.clone(), (local.id.clone(), inbox.clone()));
        *self.local.lock().expect("nothing panics while it holds the lock") = Some((local, inbox));
    }

    fn local_address(&self) -> ServerAddress {
        self.address.clone()
    }

    fn send(&self, to: &Peer, sequence: Sequence, request: Request, regard: Regard) {
        let regard = Some(regard);
        self.deliver(to, sequence, |from, responder| Incoming::Request { from, request, regard, responder });
    }

    fn send_snapshot(
        &self,
        to: &Peer,
        sequence: Sequence,
        request: Request,
        regard: Regard,
        mut state: SnapshotState,
    ) {
        let Request::InstallSnapshot { meta, .. } = &request else { return };
        let meta = meta.clone();
        let (chunks, receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; CHUNK];
            loop {
                let read = state.read(&mut chunk);
                let end = !matches!(read, Ok(n) if n > 0);
                let item = match read {
                    Ok(0) => break,
                    Ok(n) => Ok(Bytes::copy_from_slice(&chunk[..n])),
                    Err(error) => Err(error),
                };
                if chunks.blocking_send(item).is_err() || end {
                    break;
                }
            }
        });
        self.deliver(to, sequence, |from, responder| Incoming::Snapshot {
            from,
            request,
            regard: Some(regard),
            meta,
            state: receiver,
            responder,
        });
    }

    fn retain(&self, _members: &[ServerId]) {}

    fn shutdown(&self) {
        self.network.lock().servers.remove(&self.address);
        *self.local.lock().expect("nothing panics while it holds the lock") = None;
    }
}

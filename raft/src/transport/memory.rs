//! Servers of one process, with links that a test can cut.
#![allow(clippy::disallowed_methods, reason = "delivers answers from tasks of its own")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use raft_types::{ServerAddress, ServerId};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

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
    weather: Option<Weather>,
}

/// What happens to messages, decided by a seed.
#[derive(Debug)]
struct Weather {
    random: Xoshiro256PlusPlus,
    milliseconds: RangeInclusive<u64>,
    loss_permille: u32,
    /// When the last append request between two servers arrives: the next one comes after it.
    appends: BTreeMap<(ServerAddress, ServerAddress), Instant>,
}

/// One request's way there and its answer's way back.
#[derive(Clone, Copy, Debug)]
struct Trip {
    arrives: Instant,
    request_lost: bool,
    back: Duration,
    answer_lost: bool,
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

    /// From now on every message takes a random time within these bounds, in milliseconds, and so many in a thousand are lost; a
    /// lost request or answer fails when nobody waits for it any more, after two seconds. The seed decides all of it, so a
    /// run on a paused clock and one thread repeats itself.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn weather(&self, seed: u64, milliseconds: RangeInclusive<u64>, loss_permille: u32) {
        assert!(!milliseconds.is_empty(), "a message takes some time");
        let random = Xoshiro256PlusPlus::seed_from_u64(seed);
        self.lock().weather = Some(Weather { random, milliseconds, loss_permille, appends: BTreeMap::new() });
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

    fn put(&self, from: &ServerAddress, to: &Peer, incoming: Incoming) -> Result<(), SendError> {
        let inbox = self.inbox(from, to)?;
        inbox.try_send(incoming).map_err(|_| SendError::QueueFull { to: to.id.clone() })
    }

    /// How a message fares; `None` where there is no weather and it arrives at once.
    fn trip(&self, from: &ServerAddress, to: &ServerAddress, is_append: bool) -> Option<Trip> {
        let mut state = self.lock();
        let Weather { random, milliseconds, loss_permille, appends } = state.weather.as_mut()?;
        let lost = |random: &mut Xoshiro256PlusPlus| random.random_range(0..1000) < *loss_permille;
        let (request_lost, answer_lost) = (lost(random), lost(random));
        let takes = |random: &mut Xoshiro256PlusPlus| {
            Duration::from_millis(random.random_range(milliseconds.clone()))
        };
        let (there, back) = (takes(random), takes(random));
        let mut arrives = Instant::now() + there;
        if is_append {
            // Appends keep their order. The runtime's timers do not tell moments within a millisecond apart.
            let last = appends.entry((from.clone(), to.clone())).or_insert(arrives);
            arrives = arrives.max(*last + Duration::from_millis(1));
            *last = arrives;
        }
        Some(Trip { arrives, request_lost, back, answer_lost })
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

    fn deliver(
        &self,
        to: &Peer,
        sequence: Sequence,
        is_append: bool,
        incoming: impl FnOnce(Peer, Responder) -> Incoming,
    ) {
        let Some((me, inbox)) = self.local() else { return };
        let (responder, answer) = Responder::new();
        let incoming = incoming(me, responder);
        let (network, here, target) = (self.network.clone(), self.address.clone(), to.clone());
        let sent = match network.trip(&here, &to.address, is_append) {
            Some(trip) => Err((trip, incoming)),
            // Without weather a message is there before this returns.
            None => Ok(network.put(&here, to, incoming)),
        };
        tokio::spawn(async move {
            let result = match sent {
                Ok(Ok(())) => wait_for(answer).await,
                Ok(Err(error)) => Err(error),
                Err((trip, incoming)) => travel(&network, &here, &target, trip, incoming, answer).await,
            };
            let result = result.and_then(|response| {
                if network.is_cut(&target.address, &here) { Err(SendError::TimedOut) } else { Ok(response) }
            });
            let _ = inbox.send(outcome(target.id, sequence, result)).await;
        });
    }
}

/// Through the weather, there and back.
async fn travel(
    network: &MemoryNetwork,
    from: &ServerAddress,
    to: &Peer,
    trip: Trip,
    incoming: Incoming,
    answer: oneshot::Receiver<Response>,
) -> Result<Response, SendError> {
    tokio::time::sleep_until(trip.arrives).await;
    if trip.request_lost {
        drop((incoming, answer));
        tokio::time::sleep(ANSWER_LIMIT).await;
        return Err(SendError::TimedOut);
    }
    network.put(from, to, incoming)?;
    let result = wait_for(answer).await;
    if trip.answer_lost {
        tokio::time::sleep(ANSWER_LIMIT).await;
        return Err(SendError::TimedOut);
    }
    tokio::time::sleep(trip.back).await;
    result
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
        let is_append = matches!(request, Request::Append { .. });
        self.deliver(to, sequence, is_append, |from, responder| Incoming::Request {
            from,
            request,
            regard: Some(regard),
            responder,
        });
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
        // Reading a chunk from where this transport is used takes no time worth a thread, which a paused clock would not wait for.
        tokio::spawn(async move {
            let mut chunk = vec![0; CHUNK];
            loop {
                let read = state.read(&mut chunk);
                let end = !matches!(read, Ok(n) if n > 0);
                let item = match read {
                    Ok(0) => break,
                    Ok(n) => Ok(Bytes::copy_from_slice(&chunk[..n])),
                    Err(error) => Err(error),
                };
                if chunks.send(item).await.is_err() || end {
                    break;
                }
            }
        });
        self.deliver(to, sequence, false, |from, responder| Incoming::Snapshot {
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

//! The hashicorp/raft protocol over TCP.
//!
//! Each peer is dialled over up to three connections: one for entries, pipelined; one for heartbeats, votes and
//! TimeoutNow, which so never wait behind entries (catalogue R22); one for each snapshot. Answers carry no number; they
//! come in the order of the requests, and that is how they are matched.
//!
//! Here: options, the public handle and what all tasks share. `lane` sends, `snapshot` sends snapshots, `server` listens.

#![allow(clippy::disallowed_methods, reason = "this is a driver: it reads the clock to bound waits")]

mod lane;
mod server;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raft_types::{ServerAddress, ServerId};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::lane::{Job, Lane, LaneKind, Target};
use super::convert::Local;
use super::wire::{Call, FrameBuffer, Limits, ResponseFrame, TimeFormat, WireError};
use super::{Inbox, Incoming, SendError, SnapshotState, Transport};
use crate::core::{Peer, Regard, Request, Sequence};

/// Tunables of a [`TcpTransport`]. The defaults suit a local network and Go peers.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// The address under which the others reach this server; it must be the one in the configuration, for Go peers
    /// compare addresses. Default: the address that was bound.
    pub advertise: Option<ServerAddress>,
    /// Limit on dialling. Default 1 s, the time after which the system itself tries again; a shorter limit finds a
    /// healed network sooner.
    pub connect_timeout: Duration,
    /// Limit on the answer to a heartbeat, vote or TimeoutNow, after which the connections to the peer are made anew.
    /// Default 2 s. Higher delays the recovery after a network fault; lower breaks connections to peers with slow disks.
    pub control_timeout: Duration,
    /// Limit on the answer to an append request, counted from the answer before. Default 10 s; above the time of a slow
    /// disk write.
    pub append_timeout: Duration,
    /// Limit on anything that should flow: a message that has begun, a write. Grows with its size by `rate_min`.
    /// Default 10 s.
    pub io_timeout: Duration,
    /// Bytes a second below which a transfer counts as stalled. Default 64 KiB; at least 1.
    pub rate_min: u64,
    /// Limit on the answer to a snapshot once it is sent. Grows by a second for each MiB. Default 10 s.
    pub snapshot_timeout: Duration,
    /// Connections without traffic are closed after this. Default 10 min. Go peers keep connections in a pool, and each one closed
    /// costs them a failed call.
    pub idle_timeout: Duration,
    /// Connections accepted at the same time. Default 1,024. At the limit a connection that has not sent a request yet
    /// gives way to a new one.
    pub connections_max: usize,
    /// Requests of each kind that may wait for one peer. Default 256; beyond it they fail as `QueueFull`.
    pub queue_max: usize,
    /// Requests on their way to one peer on one connection, and requests of one connection that may wait for their answer here.
    /// Default 64.
    pub pipeline_max: usize,
    /// Bounds on incoming messages.
    pub limits: Limits,
    /// How times in entries are written. Must be what the Go peers of the cluster use. Default legacy, as theirs.
    pub time_format: TimeFormat,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            advertise: None,
            connect_timeout: Duration::from_secs(1),
            control_timeout: Duration::from_secs(2),
            append_timeout: Duration::from_secs(10),
            io_timeout: Duration::from_secs(10),
            rate_min: 64 << 10,
            snapshot_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(600),
            connections_max: 1024,
            queue_max: 256,
            pipeline_max: 64,
            limits: Limits::default(),
            time_format: TimeFormat::Legacy,
        }
    }
}

impl TcpOptions {
    /// `base`, and what `bytes` take at the lowest acceptable rate.
    fn allowance(&self, base: Duration, bytes: usize) -> Duration {
        base + Duration::from_millis((bytes as u64).saturating_mul(1000) / self.rate_min.max(1))
    }
}

/// Bounds on answers, which carry little but an error text.
const ANSWER_LIMITS: Limits = Limits { frame_bytes_max: 1 << 20, items_max: 0 };
/// Pieces in which snapshots go through memory.
const CHUNK: usize = 64 << 10;
/// Chunks that may wait between disk and socket.
const CHUNKS_WAITING: usize = 4;

/// Carries requests over TCP. Listens from the moment it is bound; connections are served once it is started.
#[derive(Debug)]
pub struct TcpTransport {
    options: TcpOptions,
    address: ServerAddress,
    bound: SocketAddr,
    runtime: Handle,
    stop: CancellationToken,
    tasks: TaskTracker,
    listener: server::Listener,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    started: bool,
    /// From the start to the shutdown.
    context: Option<Arc<Context>>,
    peers: BTreeMap<ServerId, Links>,
}

/// What all tasks share.
#[derive(Debug)]
struct Context {
    options: TcpOptions,
    local: Local,
    inbox: Inbox,
    stop: CancellationToken,
    tasks: TaskTracker,
    runtime: Handle,
}

impl Context {
    /// Puts something into the inbox and waits for room, but not beyond a shutdown. False if it did not get there.
    /// Cancel safe: dropped before it is done, it has put nothing.
    async fn put(&self, incoming: Incoming) -> bool {
        match self.inbox.try_send(incoming) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(incoming)) => tokio::select! {
                sent = self.inbox.send(incoming) => sent.is_ok(),
                () = self.stop.cancelled() => false,
            },
        }
    }
}

/// The ways to one peer.
#[derive(Debug)]
struct Links {
    target: Arc<watch::Sender<Target>>,
    entries: mpsc::Sender<Job>,
    control: mpsc::Sender<Job>,
    /// Taken while a snapshot is on its way.
    snapshot: Arc<tokio::sync::Semaphore>,
    stop: CancellationToken,
}

impl Links {
    fn start(context: &Arc<Context>, to: &Peer) -> Self {
        let target = Arc::new(watch::Sender::new(Target { address: to.address.clone(), resets: 0 }));
        let stop = context.stop.child_token();
        let lane = |kind| {
            let (sender, jobs) = mpsc::channel(context.options.queue_max);
            let lane =
                Lane::new(kind, Arc::clone(context), to.id.clone(), Arc::clone(&target), jobs, stop.clone());
            context.tasks.spawn_on(lane.run(), &context.runtime);
            sender
        };
        let (entries, control) = (lane(LaneKind::Entries), lane(LaneKind::Control));
        Self { target, entries, control, snapshot: Arc::new(tokio::sync::Semaphore::new(1)), stop }
    }

    /// Follows a change of address.
    fn aim_at(&self, address: &ServerAddress) {
        self.target.send_if_modified(|target| {
            let moved = target.address != *address;
            if moved {
                target.address = address.clone();
            }
            moved
        });
    }
}

impl TcpTransport {
    /// Takes a port. Must be called inside a tokio runtime, on which everything will run.
    ///
    /// # Errors
    /// The address cannot be bound; or it is a wildcard and `options.advertise` does not say what the others should dial.
    pub async fn bind(address: impl ToSocketAddrs, options: TcpOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        let address = match &options.advertise {
            Some(address) => address.clone(),
            None if bound.ip().is_unspecified() => {
                let hint = format!("{bound} is no address to dial: set an address to advertise");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, hint));
            }
            None => ServerAddress::from(bound.to_string()),
        };
        Ok(Self {
            options,
            address,
            bound,
            runtime: Handle::current(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            listener: server::Listener::new(listener),
            state: Mutex::new(State { started: false, context: None, peers: BTreeMap::new() }),
        })
    }

    /// The address that was bound; tells the port when 0 was asked for.
    #[must_use]
    pub const fn bound_address(&self) -> SocketAddr {
        self.bound
    }

    /// Waits, after [`Transport::shutdown`], until every task has ended. The port is free at once. Cancel safe.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock panics; if it did, the map would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports a request that was never sent. Waits in a task of its own when the inbox is full: there are never more of
/// these than requests that the core has open.
fn fail(context: &Arc<Context>, to: ServerId, sequence: Sequence, reason: SendError) {
    let failed = Incoming::SendFailed { to, sequence, reason };
    if let Err(mpsc::error::TrySendError::Full(failed)) = context.inbox.try_send(failed) {
        let waiting = Arc::clone(context);
        context.tasks.spawn_on(async move { waiting.put(failed).await }, &context.runtime);
    }
}

impl Transport for TcpTransport {
    fn start(&self, local: Peer, inbox: Inbox) {
        let mut state = self.state();
        if state.started || self.stop.is_cancelled() {
            return;
        }
        state.started = true;
        let context = Arc::new(Context {
            options: self.options.clone(),
            local: Local::new(&local),
            inbox,
            stop: self.stop.clone(),
            tasks: self.tasks.clone(),
            runtime: self.runtime.clone(),
        });
        self.tasks.spawn_on(server::accept(Arc::clone(&context), self.listener.clone()), &self.runtime);
        state.context = Some(context);
    }

    fn local_address(&self) -> ServerAddress {
        self.address.clone()
    }

    fn send(&self, to: &Peer, sequence: Sequence, request: Request, regard: Regard) {
        let mut state = self.state();
        let Some(context) = state.context.clone() else { return };
        let links = state.peers.entry(to.id.clone()).or_insert_with(|| Links::start(&context, to));
        links.aim_at(&to.address);
        let lane = match request {
            // Its answer waits for a quorum, so it must be in nobody's way; who asks has no entries to send.
            Request::Append { .. } | Request::ReadIndex => &links.entries,
            _ => &links.control,
        };
        let reason = match lane.try_send(Job { sequence, request, regard }) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(_)) => SendError::QueueFull { to: to.id.clone() },
            Err(mpsc::error::TrySendError::Closed(_)) => {
                SendError::Broken(io::ErrorKind::NotConnected.into())
            }
        };
        drop(state);
        fail(&context, to.id.clone(), sequence, reason);
    }

    fn send_snapshot(
        &self,
        to: &Peer,
        sequence: Sequence,
        request: Request,
        regard: Regard,
        snapshot: SnapshotState,
    ) {
        let mut state = self.state();
        let Some(context) = state.context.clone() else { return };
        let links = state.peers.entry(to.id.clone()).or_insert_with(|| Links::start(&context, to));
        links.aim_at(&to.address);
        let permit = Arc::clone(&links.snapshot).try_acquire_owned();
        let stop = links.stop.clone();
        drop(state);
        let Ok(permit) = permit else {
            return fail(&context, to.id.clone(), sequence, SendError::QueueFull { to: to.id.clone() });
        };
        let to = to.clone();
        let sending = snapshot::Sending { to, sequence, request, regard, state: snapshot, stop, permit };
        context.tasks.spawn_on(sending.run(Arc::clone(&context)), &context.runtime);
    }

    fn retain(&self, members: &[ServerId]) {
        self.state().peers.retain(|id, links| {
            let keep = members.contains(id);
            if !keep {
                links.stop.cancel();
            }
            keep
        });
    }

    fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.listener.close();
        let mut state = self.state();
        state.context = None;
        state.peers.clear();
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Dials a peer.
async fn connect(address: &ServerAddress, limit: Duration) -> Result<TcpStream, SendError> {
    let dialled = match timeout(limit, TcpStream::connect(address.as_str())).await {
        Ok(dialled) => dialled,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    // Small messages must not wait for the answer to the one before.
    let ready = dialled.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
    ready.map_err(|source| SendError::Unreachable { address: address.clone(), source })
}

/// Why no answer came out of a connection.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl From<AnswerError> for SendError {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Io(error) => Self::Broken(error),
            AnswerError::Wire(error) => Self::Refused(error.to_string()),
        }
    }
}

/// Reads the next answer. Cancel safe: what was read stays in the buffer.
async fn next_answer(
    from: &mut (impl AsyncRead + Unpin),
    frames: &mut FrameBuffer,
    call: Call,
) -> Result<ResponseFrame, AnswerError> {
    loop {
        if let Some(answer) = frames.take_response(call)? {
            return Ok(answer);
        }
        if from.read_buf(frames.space()).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

//! Sends the requests of one kind to one peer, over one connection at a time, and matches the answers.
//!
//! Invariant: every job that entered the queue ends in exactly one report. It is in `jobs`, in `waiting`, or in
//! `flow.sent` until that report is in the inbox, wherever the task is interrupted.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use raft_types::{ServerAddress, ServerId, Term};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::convert::{self, Nonsense};
use super::super::wire::{Call, FrameBuffer};
use super::{ANSWER_LIMITS, AnswerError, Context, connect, next_answer};
use crate::core::{Regard, Request, Sequence};
use crate::transport::{Incoming, SendError};

/// Requests are written together up to about this many bytes.
const WRITE_BYTES: usize = 256 << 10;
/// A write buffer that grew beyond this for one large request is given back.
const BUFFER_KEPT: usize = 1 << 20;
/// Longest pause between two attempts to dial.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: ServerAddress,
    /// Counts the times that a heartbeat or vote got no answer. Entries then change connections too: the old one may be
    /// waiting out a long retransmission timeout after the network has healed.
    pub(super) resets: u64,
}

/// A request to send.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) sequence: Sequence,
    pub(super) request: Request,
    pub(super) regard: Regard,
}

/// What goes over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneKind {
    /// Append requests, and reads of the read index: they wait for others too.
    Entries,
    /// Everything that must not wait behind them.
    Control,
}

/// A request whose answer is due.
#[derive(Clone, Copy, Debug)]
struct Sent {
    sequence: Sequence,
    call: Call,
    pre_vote: Option<Term>,
    /// How much was written along with it, and so may have to arrive before it is answered.
    bytes: usize,
}

/// The requests on their way, oldest first.
#[derive(Debug)]
struct Flow {
    sent: Mutex<VecDeque<Sent>>,
    /// Tells the reading side that an answer is due.
    more: Notify,
    /// How many more may be sent before the next answer.
    room: Semaphore,
}

impl Flow {
    fn sent(&self) -> MutexGuard<'_, VecDeque<Sent>> {
        // Nothing that holds the lock panics.
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn oldest(&self) -> Option<Sent> {
        self.sent().front().copied()
    }

    /// The oldest was reported.
    fn settle(&self) {
        self.sent().pop_front();
        self.room.add_permits(1);
    }
}

/// Why a connection ended. Everything in flight on it fails.
#[derive(Debug)]
enum End {
    /// The peer closed it, or it broke.
    Broken(io::Error),
    /// No answer in time.
    TimedOut,
    /// The answer makes no sense.
    Refused(String),
    /// The peer is elsewhere now, or its other connection hangs.
    Moved,
    /// Nothing to send for long.
    Idle,
    /// The owner of the queue is gone.
    Dropped,
}

impl End {
    fn reason(&self) -> SendError {
        let broken = |text: &str| SendError::Broken(io::Error::new(io::ErrorKind::ConnectionAborted, text));
        match self {
            Self::Broken(error) => SendError::Broken(io::Error::new(error.kind(), error.to_string())),
            Self::TimedOut => SendError::TimedOut,
            Self::Refused(text) => SendError::Refused(text.clone()),
            Self::Moved => broken("the connection was changed for a new one"),
            Self::Idle | Self::Dropped => broken("the connection was closed here"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Lane {
    kind: LaneKind,
    context: Arc<Context>,
    peer: ServerId,
    target: Arc<watch::Sender<Target>>,
    moves: watch::Receiver<Target>,
    jobs: mpsc::Receiver<Job>,
    /// Taken from the queue and not sent yet.
    waiting: VecDeque<Job>,
    flow: Flow,
    stop: CancellationToken,
}

impl Lane {
    pub(super) fn new(
        kind: LaneKind,
        context: Arc<Context>,
        peer: ServerId,
        target: Arc<watch::Sender<Target>>,
        jobs: mpsc::Receiver<Job>,
        stop: CancellationToken,
    ) -> Self {
        let flow = Flow {
            sent: Mutex::default(),
            more: Notify::new(),
            room: Semaphore::new(context.options.pipeline_max.max(1)),
        };
        let moves = target.subscribe();
        Self { kind, context, peer, target, moves, jobs, waiting: VecDeque::new(), flow, stop }
    }

    /// Sends until the peer is dropped, then fails what is left.
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
        self.jobs.close();
        self.fail_sent(&End::Dropped).await;
        while let Ok(job) = self.jobs.try_recv() {
            self.waiting.push_back(job);
        }
        self.fail_waiting(&|| End::Dropped.reason()).await;
    }

    async fn work(&mut self) {
        let mut failures = 0;
        loop {
            if self.waiting.is_empty() {
                match self.jobs.recv().await {
                    Some(job) => self.waiting.push_back(job),
                    None => return,
                }
            }
            if failures > 1 {
                sleep(pause(failures)).await;
            }
            let address = self.moves.borrow_and_update().address.clone();
            match connect(&address, self.context.options.connect_timeout).await {
                Ok(stream) => {
                    tracing::debug!(peer = ?self.peer.as_str(), address = ?address.as_str(), lane = ?self.kind, "connected");
                    let answered = self.converse(stream).await;
                    failures = if answered { 0 } else { failures + 1 };
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(peer = ?self.peer.as_str(), lane = ?self.kind, %error, "cannot reach the peer");
                    }
                    failures += 1;
                    self.fail_unreachable(&address, &error).await;
                }
            }
        }
    }

    /// Uses one connection to its end. Tells whether the peer answered at least once.
    async fn converse(&mut self, stream: TcpStream) -> bool {
        let (read, write) = stream.into_split();
        let Self { context, peer, moves, jobs, waiting, flow, kind, .. } = self;
        let mut answered = false;
        let limit = match kind {
            LaneKind::Entries => context.options.append_timeout,
            LaneKind::Control => context.options.control_timeout,
        };
        let reading = Answers { context, peer, flow, limit, answered: &mut answered };
        let end = tokio::select! {
            end = write_requests(context, peer, jobs, waiting, flow, write) => end,
            end = reading.read(read) => end,
            _ = moves.changed() => End::Moved,
        };
        match &end {
            End::Idle | End::Moved | End::Dropped => {}
            End::Broken(_) | End::TimedOut | End::Refused(_) => {
                let error = end.reason();
                tracing::warn!(peer = ?self.peer.as_str(), lane = ?self.kind, %error, "lost the connection to the peer");
            }
        }
        if self.kind == LaneKind::Control && matches!(end, End::TimedOut) {
            self.target.send_modify(|target| target.resets += 1);
        }
        self.fail_sent(&end).await;
        answered
    }

    async fn fail_sent(&self, end: &End) {
        while let Some(sent) = self.flow.oldest() {
            let (to, sequence) = (self.peer.clone(), sent.sequence);
            self.context.put(Incoming::SendFailed { to, sequence, reason: end.reason() }).await;
            self.flow.settle();
        }
    }

    async fn fail_waiting(&mut self, reason: &(dyn Fn() -> SendError + Sync)) {
        while let Some(job) = self.waiting.front() {
            let (to, sequence) = (self.peer.clone(), job.sequence);
            self.context.put(Incoming::SendFailed { to, sequence, reason: reason() }).await;
            self.waiting.pop_front();
        }
    }

    /// Everything that waits fails with the attempt to dial, so that nothing old is sent when the peer is back.
    async fn fail_unreachable(&mut self, address: &ServerAddress, error: &SendError) {
        let (kind, text) = match error {
            SendError::Unreachable { source, .. } => (source.kind(), source.to_string()),
            other => (io::ErrorKind::Other, other.to_string()),
        };
        while self.waiting.len() < self.context.options.queue_max
            && let Ok(job) = self.jobs.try_recv()
        {
            self.waiting.push_back(job);
        }
        let reason = || SendError::Unreachable {
            address: address.clone(),
            source: io::Error::new(kind, text.clone()),
        };
        self.fail_waiting(&reason).await;
    }
}

/// How long to wait before dialling, after so many failures in a row; after the first there is no wait. Short: a peer that
/// is back must be heard soon.
fn pause(failures: u32) -> Duration {
    (Duration::from_millis(5) * 2_u32.pow(failures.min(10))).min(PAUSE_MAX)
}

async fn write_requests(
    context: &Context,
    peer: &ServerId,
    jobs: &mut mpsc::Receiver<Job>,
    waiting: &mut VecDeque<Job>,
    flow: &Flow,
    mut write: OwnedWriteHalf,
) -> End {
    let mut out = BytesMut::new();
    loop {
        if waiting.is_empty() {
            match jobs.recv().await {
                Some(job) => waiting.push_back(job),
                None => return End::Dropped,
            }
        }
        // Wait for room for the first, take as many more as there is room for.
        let Ok(room) = flow.room.acquire().await else { return End::Dropped };
        room.forget();
        loop {
            let Some(job) = waiting.pop_front() else { break };
            let format = context.options.time_format;
            context.local.encode_request_to(peer, &job.request, job.regard, format, &mut out);
            let pre_vote = match job.request {
                Request::PreVote { term, .. } => Some(term),
                _ => None,
            };
            let call = call_of(&job.request);
            flow.sent().push_back(Sent { sequence: job.sequence, call, pre_vote, bytes: out.len() });
            if out.len() >= WRITE_BYTES {
                break;
            }
            if waiting.is_empty()
                && let Ok(job) = jobs.try_recv()
            {
                waiting.push_back(job);
            }
            if waiting.is_empty() {
                break;
            }
            match flow.room.try_acquire() {
                Ok(room) => room.forget(),
                Err(_) => break,
            }
        }
        flow.more.notify_one();
        let limit = context.options.allowance(context.options.io_timeout, out.len());
        match timeout(limit, write.write_all(&out)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return End::Broken(error),
            Err(_) => return End::TimedOut,
        }
        out.clear();
        if out.capacity() > BUFFER_KEPT {
            out = BytesMut::new();
        }
    }
}

const fn call_of(request: &Request) -> Call {
    match request {
        Request::Append { .. } | Request::Heartbeat { .. } => Call::AppendEntries,
        Request::Vote { .. } => Call::RequestVote,
        Request::PreVote { .. } => Call::RequestPreVote,
        Request::InstallSnapshot { .. } => Call::InstallSnapshot,
        Request::TimeoutNow { .. } => Call::TimeoutNow,
        Request::ReadIndex => Call::ReadIndex,
    }
}

/// The reading side of a connection.
struct Answers<'a> {
    context: &'a Context,
    peer: &'a ServerId,
    flow: &'a Flow,
    limit: Duration,
    answered: &'a mut bool,
}

impl Answers<'_> {
    async fn read(mut self, mut from: OwnedReadHalf) -> End {
        let mut frames = FrameBuffer::new(ANSWER_LIMITS);
        loop {
            let Some(oldest) = self.flow.oldest() else {
                match self.watch(&mut from, &mut frames).await {
                    None => continue,
                    Some(end) => return end,
                }
            };
            let limit = self.context.options.allowance(self.limit, oldest.bytes);
            let answer = match timeout(limit, next_answer(&mut from, &mut frames, oldest.call)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(AnswerError::Io(error))) => return End::Broken(error),
                Ok(Err(AnswerError::Wire(error))) => return End::Refused(error.to_string()),
                Err(_) => return End::TimedOut,
            };
            *self.answered = true;
            let meaning = convert::read_response(answer, self.peer, oldest.pre_vote);
            let wrong = matches!(meaning, Err(Nonsense::WrongServer { .. }));
            if let Err(error) = &meaning {
                tracing::debug!(peer = ?self.peer.as_str(), %error, "the peer refused a request");
            }
            if wrong {
                // The end of the connection fails this request along with the others.
                return End::Refused(meaning.map_or_else(|error| error.to_string(), |_| String::new()));
            }
            let (from, sequence) = (self.peer.clone(), oldest.sequence);
            let incoming = match meaning {
                Ok(response) => Incoming::Response { from, sequence, response },
                Err(error) => {
                    Incoming::SendFailed { to: from, sequence, reason: SendError::Refused(error.to_string()) }
                }
            };
            if !self.context.put(incoming).await {
                return End::Dropped;
            }
            self.flow.settle();
        }
    }

    /// Waits while no answer is due, so that a peer's end is noticed at once and not by the next request.
    async fn watch(&mut self, from: &mut OwnedReadHalf, frames: &mut FrameBuffer) -> Option<End> {
        let idle = self.context.options.idle_timeout;
        tokio::select! {
            () = self.flow.more.notified() => None,
            read = timeout(idle, from.read_buf(frames.space())) => match read {
                Ok(Ok(0)) => Some(End::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(Ok(_)) if self.flow.oldest().is_none() => {
                    Some(End::Refused("bytes that nobody asked for".to_owned()))
                }
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(End::Broken(error)),
                Err(_) => Some(End::Idle),
            },
        }
    }
}

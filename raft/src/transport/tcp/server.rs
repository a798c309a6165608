//! Listens, and serves each connection with one task.
//!
//! Of a connection several requests may wait for their answers at the same time, so that a follower can write them to
//! disk together; answers leave in the order of the requests. Nobody can hold much memory here: messages, waiting
//! requests, connections and large messages under way are limited, and what stalls is closed.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::super::convert::{self, Asked};
use super::super::wire::{FrameBuffer, RequestFrame, ResponseFrame, WireError};
use super::{CHUNK, CHUNKS_WAITING, Context};
use crate::core::{Peer, Regard, Request, Response, SnapshotMeta};
use crate::transport::{Incoming, Responder};

/// Answers are written together up to about this many bytes.
const WRITE_BYTES: usize = 64 << 10;
/// What is left of an unwanted snapshot is read away up to this size, beyond it the connection is closed.
const DRAIN_MAX: u64 = 16 << 20;
/// A message that has more than this of its bytes here counts as large while the rest arrives.
const LARGE: usize = 256 << 10;
/// So many large messages may arrive at the same time, so that many connections together cannot take much memory either.
/// A server has one leader, and that sends one message after the other.
const LARGE_AT_ONCE: usize = 4;
/// Pause after a failure to accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listening socket. Shared, so that a shutdown closes it at once and the port can be bound again right after.
#[derive(Clone, Debug)]
pub(super) struct Listener(Arc<Mutex<Option<TcpListener>>>);

impl Listener {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self(Arc::new(Mutex::new(Some(listener))))
    }

    pub(super) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The next connection; never, once closed. Cancel safe.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(listener) => listener.poll_accept(cx),
            None => Poll::Pending,
        })
        .await
    }
}

/// Accepts connections until the shutdown.
pub(super) async fn accept(context: Arc<Context>, listener: Listener) {
    let connections = Arc::new(Connections { open: Mutex::default(), large: Semaphore::new(LARGE_AT_ONCE) });
    loop {
        let accepted = tokio::select! {
            () = context.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = connections.admit(&context) else {
            tracing::warn!(%from, limit = context.options.connections_max, "too many connections, refusing one");
            continue;
        };
        let connection = Connection { context: Arc::clone(&context), from, place };
        context.tasks.spawn_on(connection.serve(stream), &context.runtime);
    }
}

/// The connections that are open.
#[derive(Debug)]
struct Connections {
    open: Mutex<Open>,
    large: Semaphore,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// In the order in which they came.
    places: BTreeMap<u64, (CancellationToken, Arc<AtomicBool>)>,
}

impl Connections {
    /// Makes room for one more, if need be in the place of the oldest that never sent a request.
    fn admit(self: &Arc<Self>, context: &Context) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.places.len() >= context.options.connections_max {
            let stranger = open.places.iter().find(|(_, (_, proven))| !proven.load(Ordering::Relaxed));
            let number = *stranger?.0;
            if let Some((stop, _)) = open.places.remove(&number) {
                stop.cancel();
            }
        }
        let number = open.next;
        open.next += 1;
        let (stop, proven) = (context.stop.child_token(), Arc::new(AtomicBool::new(false)));
        open.places.insert(number, (stop.clone(), Arc::clone(&proven)));
        Some(Place { connections: Arc::clone(self), number, stop, proven })
    }
}

/// A connection's entry among [`Connections`], removed with it.
#[derive(Debug)]
struct Place {
    connections: Arc<Connections>,
    number: u64,
    stop: CancellationToken,
    /// Whether a whole request has arrived.
    proven: Arc<AtomicBool>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.places.remove(&self.number);
    }
}

/// Why a connection is closed from this side.
#[derive(Debug, thiserror::Error)]
enum Closing {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0} took too long")]
    Slow(&'static str),
    #[error("the request was dropped")]
    NoAnswer,
}

/// A request's answer, in the order of the requests.
#[derive(Debug)]
enum Pending {
    /// The core answers. The permit bounds the bytes of requests that wait.
    Answer(oneshot::Receiver<Response>, Option<OwnedSemaphorePermit>),
    /// The request makes no sense; this says why.
    Refused(String),
}

#[derive(Debug)]
struct Connection {
    context: Arc<Context>,
    from: SocketAddr,
    place: Place,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(from = %self.from, %error, "the connection broke at once");
            return;
        }
        let (read, write) = stream.into_split();
        let (pending, answers) = mpsc::channel(self.context.options.pipeline_max.max(1));
        let reading = Requests::new(&self, read, pending).read();
        let writing = write_answers(&self.context, write, answers);
        tokio::pin!(reading, writing);
        let closing = tokio::select! {
            () = self.place.stop.cancelled() => return,
            end = &mut writing => end.err(),
            end = &mut reading => match end {
                // The other side sends nothing more and may still wait for answers.
                Ok(()) => {
                    let limit = self.context.options.io_timeout;
                    tokio::select! {
                        () = self.place.stop.cancelled() => return,
                        end = timeout(limit, &mut writing) => {
                            end.unwrap_or(Err(Closing::Slow("the answer"))).err()
                        }
                    }
                }
                Err(closing) => Some(closing),
            },
        };
        match closing {
            Some(error @ (Closing::Wire(_) | Closing::Slow(_))) => {
                tracing::warn!(from = %self.from, %error, "closing a connection");
            }
            Some(error @ (Closing::Io(_) | Closing::NoAnswer)) => {
                tracing::debug!(from = %self.from, %error, "closing a connection");
            }
            None => {}
        }
    }
}

/// The reading side of a connection.
struct Requests<'a> {
    connection: &'a Connection,
    context: &'a Context,
    read: OwnedReadHalf,
    frames: FrameBuffer,
    pending: mpsc::Sender<Pending>,
    /// Bytes of requests that may wait for their answer: one message of the largest size.
    room: Arc<Semaphore>,
    room_max: usize,
    /// When the first wait for the rest of the message that is arriving began.
    since: Option<Instant>,
    /// Held while a large message arrives.
    large: Option<SemaphorePermit<'a>>,
}

impl<'a> Requests<'a> {
    fn new(connection: &'a Connection, read: OwnedReadHalf, pending: mpsc::Sender<Pending>) -> Self {
        let context: &Context = &connection.context;
        let limits = context.options.limits;
        let room_max = limits.frame_bytes_max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            connection,
            context,
            read,
            frames: FrameBuffer::new(limits),
            pending,
            room: Arc::new(Semaphore::new(room_max)),
            room_max,
            since: None,
            large: None,
        }
    }

    /// Reads until the other side closes.
    async fn read(mut self) -> Result<(), Closing> {
        loop {
            let before = self.frames.len();
            match self.frames.take_request()? {
                Some(frame) => {
                    self.since = None;
                    self.large = None;
                    self.connection.place.proven.store(true, Ordering::Relaxed);
                    let size = before - self.frames.len();
                    if !self.handle(frame, size).await? {
                        return Ok(());
                    }
                }
                None => {
                    if !self.fill().await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Reads some bytes. False at the end of the stream.
    async fn fill(&mut self) -> Result<bool, Closing> {
        let options = &self.context.options;
        let between = self.frames.is_empty();
        let deadline = if !between {
            let since = *self.since.get_or_insert_with(Instant::now);
            since + options.allowance(options.io_timeout, self.frames.len())
        } else if self.connection.place.proven.load(Ordering::Relaxed) {
            Instant::now() + options.idle_timeout
        } else {
            Instant::now() + options.io_timeout
        };
        if self.frames.len() > LARGE && self.large.is_none() {
            let permit = timeout_at(deadline, self.connection.place.connections.large.acquire()).await;
            self.large = permit.map_err(|_| Closing::Slow("other large requests"))?.ok();
        }
        match timeout_at(deadline, self.read.read_buf(self.frames.space())).await {
            Ok(read) => Ok(read? > 0),
            Err(_) if between => {
                tracing::debug!(from = %self.connection.from, "closing an idle connection");
                Ok(false)
            }
            Err(_) => Err(Closing::Slow("a request")),
        }
    }

    /// Hands a request on. False if the connection cannot be used any further.
    async fn handle(&mut self, frame: RequestFrame, size: usize) -> Result<bool, Closing> {
        let body = match &frame {
            RequestFrame::InstallSnapshot(request) => u64::try_from(request.size).unwrap_or(0),
            _ => 0,
        };
        let asked = convert::read_request(frame, &self.context.options.limits);
        match asked.and_then(|asked| self.context.local.check_target(asked)) {
            Ok(Asked { from, request, regard, .. }) => match request {
                Request::InstallSnapshot { ref meta, .. } => {
                    let meta = meta.clone();
                    self.snapshot(from, request, regard, meta).await
                }
                request => self.request(from, request, regard, size).await,
            },
            Err(error) => {
                tracing::warn!(from = %self.connection.from, %error, "refusing a request");
                let usable = self.drain(body).await?;
                self.expect(Pending::Refused(error.to_string())).await?;
                Ok(usable)
            }
        }
    }

    async fn request(
        &mut self,
        from: Peer,
        request: Request,
        regard: Option<Regard>,
        size: usize,
    ) -> Result<bool, Closing> {
        let permits = u32::try_from(size.min(self.room_max)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.room).acquire_many_owned(permits).await.ok();
        let (responder, answer) = Responder::new();
        self.expect(Pending::Answer(answer, permit)).await?;
        self.deliver(Incoming::Request { from, request, regard, responder }).await
    }

    /// Puts an answer in line.
    async fn expect(&self, pending: Pending) -> Result<(), Closing> {
        self.pending.send(pending).await.map_err(|_| Closing::NoAnswer)
    }

    async fn deliver(&self, incoming: Incoming) -> Result<bool, Closing> {
        if self.context.put(incoming).await { Ok(true) } else { Err(Closing::NoAnswer) }
    }

    /// Hands a snapshot on while it arrives. The stream never loses its place: the whole state is read, or the
    /// connection ends (catalogue P10).
    async fn snapshot(
        &mut self,
        from: Peer,
        request: Request,
        regard: Option<Regard>,
        meta: SnapshotMeta,
    ) -> Result<bool, Closing> {
        let (chunks, state) = mpsc::channel(CHUNKS_WAITING);
        let (responder, answer) = Responder::new();
        let mut left = meta.size;
        self.deliver(Incoming::Snapshot { from, request, regard, meta, state, responder }).await?;
        let mut usable = true;
        while left > 0 {
            // Whoever stops listening early gets the rest read away.
            if chunks.is_closed() {
                usable = self.drain(left).await?;
                break;
            }
            match self.chunk(left).await {
                Ok(chunk) => {
                    left -= chunk.len() as u64;
                    let _ = chunks.send(Ok(chunk)).await;
                }
                Err(error) => {
                    let text = io::Error::new(error.kind(), format!("{left} bytes short: {error}"));
                    let _ = chunks.send(Err(text)).await;
                    return Err(error.into());
                }
            }
        }
        drop(chunks);
        self.expect(Pending::Answer(answer, None)).await?;
        Ok(usable)
    }

    /// The next bytes of a snapshot: a full chunk, or all that is left, or what was read along with the request.
    async fn chunk(&mut self, left: u64) -> io::Result<Bytes> {
        let wanted = left.min(CHUNK as u64) as usize;
        if !self.frames.is_empty() {
            return Ok(self.frames.take_bytes(wanted));
        }
        let mut chunk = BytesMut::with_capacity(wanted);
        let read = &mut self.read;
        let filling = async {
            while chunk.len() < wanted {
                let space = wanted - chunk.len();
                if read.read_buf(&mut (&mut chunk).limit(space)).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
            }
            Ok(())
        };
        // A chunk at a time in a limited time: a byte now and then is not enough.
        timeout(self.context.options.io_timeout, filling).await??;
        Ok(chunk.freeze())
    }

    /// Reads away what nobody wants. False if that is too much.
    async fn drain(&mut self, mut left: u64) -> Result<bool, Closing> {
        if left > DRAIN_MAX {
            return Ok(false);
        }
        while left > 0 {
            left -= self.chunk(left).await?.len() as u64;
        }
        Ok(true)
    }
}

/// Writes answers in the order of the requests until there are no more.
async fn write_answers(
    context: &Context,
    mut write: OwnedWriteHalf,
    mut answers: mpsc::Receiver<Pending>,
) -> Result<(), Closing> {
    let mut out = BytesMut::new();
    let mut next = None;
    loop {
        let pending = match next.take() {
            Some(pending) => pending,
            None => match answers.recv().await {
                Some(pending) => pending,
                None => return Ok(()),
            },
        };
        wait(context, pending).await?.encode(&mut out);
        // Whatever is answered already goes out with it.
        let mut dropped = None;
        while out.len() < WRITE_BYTES
            && let Ok(pending) = answers.try_recv()
        {
            match ready(context, pending) {
                Ok(Ok(frame)) => frame.encode(&mut out),
                Ok(Err(closing)) => {
                    dropped = Some(closing);
                    break;
                }
                Err(pending) => {
                    next = Some(pending);
                    break;
                }
            }
        }
        timeout(context.options.io_timeout, write.write_all(&out))
            .await
            .map_err(|_| Closing::Slow("reading answers"))??;
        out.clear();
        if let Some(closing) = dropped {
            return Err(closing);
        }
    }
}

async fn wait(context: &Context, pending: Pending) -> Result<ResponseFrame, Closing> {
    match pending {
        Pending::Answer(answer, _permit) => match answer.await {
            Ok(response) => Ok(context.local.response(&response)),
            Err(_) => Err(Closing::NoAnswer),
        },
        Pending::Refused(text) => Ok(ResponseFrame::refused(text)),
    }
}

/// The answer if it is there; otherwise the pending request again.
fn ready(context: &Context, pending: Pending) -> Result<Result<ResponseFrame, Closing>, Pending> {
    match pending {
        Pending::Answer(mut answer, permit) => match answer.try_recv() {
            Ok(response) => Ok(Ok(context.local.response(&response))),
            Err(oneshot::error::TryRecvError::Closed) => Ok(Err(Closing::NoAnswer)),
            Err(oneshot::error::TryRecvError::Empty) => Err(Pending::Answer(answer, permit)),
        },
        Pending::Refused(text) => Ok(Ok(ResponseFrame::refused(text))),
    }
}

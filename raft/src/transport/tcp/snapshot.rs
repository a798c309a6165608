//! Sends one snapshot over a connection of its own.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::convert;
use super::super::wire::{Call, FrameBuffer};
use super::{ANSWER_LIMITS, CHUNK, CHUNKS_WAITING, Context, TcpOptions, connect, next_answer};
use crate::core::{Peer, Regard, Request, Response, Sequence};
use crate::transport::{Incoming, SendError, SnapshotState};

/// Bytes of state for which a second is added to the time for the answer: the peer may load it before it answers.
const INSTALL_RATE: u64 = 1 << 20;

/// A snapshot on its way.
pub(super) struct Sending {
    pub(super) to: Peer,
    pub(super) sequence: Sequence,
    pub(super) request: Request,
    pub(super) regard: Regard,
    pub(super) state: SnapshotState,
    pub(super) stop: CancellationToken,
    /// One snapshot at a time for each peer.
    pub(super) permit: OwnedSemaphorePermit,
}

impl Sending {
    pub(super) async fn run(self, context: Arc<Context>) {
        let Self { to, sequence, request, regard, state, stop, permit } = self;
        let sent = tokio::select! {
            () = stop.cancelled() => Err(SendError::Broken(io::ErrorKind::ConnectionAborted.into())),
            sent = send(&context, &to, &request, regard, state) => sent,
        };
        drop(permit);
        let id = to.id;
        context
            .put(match sent {
                Ok(response) => Incoming::Response { from: id, sequence, response },
                Err(reason) => Incoming::SendFailed { to: id, sequence, reason },
            })
            .await;
    }
}

async fn send(
    context: &Context,
    to: &Peer,
    request: &Request,
    regard: Regard,
    state: SnapshotState,
) -> Result<Response, SendError> {
    let Request::InstallSnapshot { meta, .. } = request else {
        let text = "only snapshots have a state to send";
        return Err(SendError::Broken(io::Error::new(io::ErrorKind::InvalidInput, text)));
    };
    let options = &context.options;
    let stream = connect(&to.address, options.connect_timeout).await?;
    let (mut read, mut write) = stream.into_split();
    let mut head = BytesMut::new();
    context.local.encode_request_to(&to.id, request, regard, options.time_format, &mut head);
    let chunks = read_chunks(context, state, meta.size);
    let writing = write_all(&mut write, head.freeze(), chunks, options);
    let mut frames = FrameBuffer::new(ANSWER_LIMITS);
    let reading = next_answer(&mut read, &mut frames, Call::InstallSnapshot);
    tokio::pin!(reading);
    // A peer that has no use for the snapshot says so before it has all of it.
    let answer = tokio::select! {
        biased;
        answer = &mut reading => answer,
        written = writing => {
            written.map_err(SendError::Broken)?;
            let limit = options.snapshot_timeout + Duration::from_secs(meta.size / INSTALL_RATE);
            timeout(limit, reading).await.map_err(|_| SendError::TimedOut)?
        }
    };
    convert::read_response(answer?, &to.id, None).map_err(|error| SendError::Refused(error.to_string()))
}

/// Reads the state in a thread that may block, a few chunks ahead of the connection.
fn read_chunks(context: &Context, mut state: SnapshotState, size: u64) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
    let read = move || {
        let mut left = size;
        while left > 0 {
            let mut chunk = vec![0; left.min(CHUNK as u64) as usize];
            let read = state.read_exact(&mut chunk).map(|()| Bytes::from(chunk));
            left = left.saturating_sub(CHUNK as u64);
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    };
    context.tasks.spawn_blocking_on(read, &context.runtime);
    chunks
}

async fn write_all(
    write: &mut OwnedWriteHalf,
    head: Bytes,
    mut chunks: mpsc::Receiver<io::Result<Bytes>>,
    options: &TcpOptions,
) -> io::Result<()> {
    let mut next = Some(Ok(head));
    while let Some(chunk) = next {
        let chunk = chunk?;
        let limit = options.allowance(options.io_timeout, chunk.len());
        timeout(limit, write.write_all(&chunk)).await??;
        next = chunks.recv().await;
    }
    Ok(())
}

//! Committed commands as a stream, for applications that keep their state to themselves.
//!
//! In the style of the MIT 6.824 labs: the application reads [`ApplyMessage`]s in order, and tells from time to time, with
//! [`ApplyStream::compact`], that it has captured everything up to an index in a few bytes of its own. The commands
//! after that are kept here, so that a snapshot of this server is always the application's last capture and the
//! commands since.
//!
//! A proposal's answer is empty and says that the command is in the stream, not that the application has read it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use raft_types::{EntryId, LogIndex};
use tokio::sync::Notify;

use crate::core::Entry;
use crate::state_machine::{SnapshotWriter, StateMachine};

const SNAPSHOT_MAGIC: &[u8; 4] = b"RSm1";
/// What a snapshot may claim for one command or capture before the bytes are there.
const PART_BYTES_MAX: u64 = 1 << 40;

/// What the application reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyMessage {
    /// A committed command.
    Command {
        /// Its entry.
        id: EntryId,
        /// What was proposed.
        command: Bytes,
    },
    /// Replace the state by this capture; the commands after it follow. Comes after a start and when a leader sent a
    /// snapshot.
    Snapshot {
        /// The last entry in the capture.
        index: LogIndex,
        /// What was given to [`ApplyStream::compact`], on whichever server.
        state: Bytes,
    },
}

#[derive(Debug, Default)]
struct Shared {
    queue: VecDeque<ApplyMessage>,
    /// The application's last capture, and the commands since.
    capture: (LogIndex, Bytes),
    tail: VecDeque<(EntryId, Bytes)>,
    /// The last entry that was read from the stream.
    read: LogIndex,
    machine_gone: bool,
    stream_gone: bool,
}

#[derive(Debug)]
struct Channel {
    shared: Mutex<Shared>,
    capacity: usize,
    room: Condvar,
    news: Notify,
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A state machine that hands everything to an [`ApplyStream`], which holds at most `capacity` commands, at least one:
/// while it is full nothing is applied.
#[must_use]
pub fn channel(capacity: usize) -> (ChannelStateMachine, ApplyStream) {
    let channel = Arc::new(Channel {
        shared: Mutex::default(),
        capacity: capacity.max(1),
        room: Condvar::new(),
        news: Notify::new(),
    });
    (ChannelStateMachine(Arc::clone(&channel)), ApplyStream(channel))
}

/// The server's end of [`channel`].
#[derive(Debug)]
pub struct ChannelStateMachine(Arc<Channel>);

/// The application's end of [`channel`]. Dropping it discards what comes; the server goes on.
#[derive(Debug)]
pub struct ApplyStream(Arc<Channel>);

impl ApplyStream {
    /// The next message. `None` once the server has stopped and everything was read. Cancel safe.
    pub async fn next(&mut self) -> Option<ApplyMessage> {
        loop {
            // Registered before the look, so that nothing that comes in between is missed.
            let news = self.0.news.notified();
            {
                let mut shared = self.0.lock();
                if let Some(message) = shared.queue.pop_front() {
                    if let ApplyMessage::Command { id, .. } = &message {
                        shared.read = id.index;
                    }
                    self.0.room.notify_one();
                    return Some(message);
                }
                if shared.machine_gone {
                    return None;
                }
            }
            news.await;
        }
    }

    /// The application has captured everything through `index`, which it has read, in `state`. The next snapshot of the
    /// server contains it; [`crate::Raft::snapshot`] takes one at once. False if a later capture is there already or `index`
    /// was not read yet; nothing was changed then.
    pub fn compact(&self, index: LogIndex, state: impl Into<Bytes>) -> bool {
        let mut shared = self.0.lock();
        if index <= shared.capture.0 || index > shared.read {
            return false;
        }
        shared.capture = (index, state.into());
        while shared.tail.front().is_some_and(|(id, _)| id.index <= index) {
            shared.tail.pop_front();
        }
        true
    }

    /// Whether an [`ApplyMessage::Snapshot`] at `index` should replace the state: not if a command after it was read
    /// meanwhile. Counts as read if so.
    pub fn install_if_newer(&self, index: LogIndex) -> bool {
        let mut shared = self.0.lock();
        let newer = index > shared.read;
        if newer {
            shared.read = index;
        }
        newer
    }
}

impl Drop for ApplyStream {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.stream_gone = true;
        shared.queue.clear();
        self.0.room.notify_one();
    }
}

impl Drop for ChannelStateMachine {
    fn drop(&mut self) {
        self.0.lock().machine_gone = true;
        self.0.news.notify_one();
    }
}

impl StateMachine for ChannelStateMachine {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        for entry in commands {
            let full = |shared: &mut Shared| shared.queue.len() >= self.0.capacity && !shared.stream_gone;
            let shared = self.0.room.wait_while(self.0.lock(), full);
            let mut shared = shared.unwrap_or_else(PoisonError::into_inner);
            shared.tail.push_back((entry.id, entry.data.clone()));
            if !shared.stream_gone {
                shared.queue.push_back(ApplyMessage::Command { id: entry.id, command: entry.data.clone() });
            }
            self.0.news.notify_one();
        }
        vec![Bytes::new(); commands.len()]
    }

    fn snapshot(&self) -> SnapshotWriter {
        let shared = self.0.lock();
        let (index, state) = shared.capture.clone();
        let tail = shared.tail.clone();
        Box::new(move |out| {
            out.write_all(SNAPSHOT_MAGIC)?;
            put(out, index.0, &state)?;
            out.write_all(&(tail.len() as u64).to_le_bytes())?;
            for (id, command) in tail {
                out.write_all(&id.term.0.to_le_bytes())?;
                put(out, id.index.0, &command)?;
            }
            Ok(())
        })
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        if take::<4>(state)? != *SNAPSHOT_MAGIC {
            let text = "the snapshot was not written by a stream";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let (index, capture) = get(state)?;
        let mut tail = VecDeque::new();
        for _ in 0..u64::from_le_bytes(take(state)?) {
            let term = u64::from_le_bytes(take(state)?);
            let (index, command) = get(state)?;
            tail.push_back((EntryId::new(term, index), command));
        }
        let mut shared = self.0.lock();
        shared.capture = (LogIndex(index), capture.clone());
        if !shared.stream_gone {
            // Without waiting for room: nobody reads before the server has started, and the snapshot bounds it.
            shared.queue.clear();
            shared.queue.push_back(ApplyMessage::Snapshot { index: LogIndex(index), state: capture });
            let commands = tail.iter().cloned().map(|(id, command)| ApplyMessage::Command { id, command });
            shared.queue.extend(commands);
        }
        shared.tail = tail;
        self.0.news.notify_one();
        Ok(())
    }
}

fn put(out: &mut dyn Write, index: u64, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&index.to_le_bytes())?;
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)
}

fn get(from: &mut dyn Read) -> io::Result<(u64, Bytes)> {
    let index = u64::from_le_bytes(take(from)?);
    let length = u64::from_le_bytes(take(from)?);
    if length > PART_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a part is longer than any can be"));
    }
    let mut bytes = Vec::new();
    if (from.take(length).read_to_end(&mut bytes)? as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((index, bytes.into()))
}

fn take<const N: usize>(from: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::EntryKind;

    fn commands(indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
        let entry = |index: u64| {
            Entry::new(EntryId::new(1, index), EntryKind::Command, Bytes::from(index.to_string()))
        };
        indexes.map(entry).collect()
    }

    fn message(index: u64) -> ApplyMessage {
        ApplyMessage::Command { id: EntryId::new(1, index), command: Bytes::from(index.to_string()) }
    }

    #[tokio::test]
    async fn a_snapshot_is_the_last_capture_and_the_commands_since() {
        let (mut machine, mut stream) = channel(16);
        machine.apply(&commands(1..=6));
        assert!(!stream.compact(LogIndex(1), "early"), "not read yet");
        for index in 1..=4 {
            assert_eq!(stream.next().await, Some(message(index)));
        }
        assert!(stream.compact(LogIndex(4), "one to four"));
        assert!(!stream.compact(LogIndex(3), "older"), "a later capture is there");
        let mut bytes = Vec::new();
        machine.snapshot()(&mut bytes).expect("memory");

        let (mut other, mut restored) = channel(1);
        other.apply(&commands(1..=1));
        other.restore(&mut &bytes[..]).expect("its own format");
        let first = restored.next().await;
        let capture =
            ApplyMessage::Snapshot { index: LogIndex(4), state: Bytes::from_static(b"one to four") };
        assert_eq!(first, Some(capture));
        assert!(restored.install_if_newer(LogIndex(4)));
        assert_eq!(restored.next().await, Some(message(5)));
        assert!(!restored.install_if_newer(LogIndex(4)), "something newer was read");
        assert_eq!(restored.next().await, Some(message(6)));
        drop(other);
        assert_eq!(restored.next().await, None);
        for length in 0..bytes.len() {
            let (mut other, _stream) = channel(1);
            assert!(other.restore(&mut &bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_full_stream_holds_the_server_up_and_a_dropped_one_does_not() {
        let (mut machine, mut stream) = channel(2);
        let applying = tokio::task::spawn_blocking(move || {
            machine.apply(&commands(1..=100));
            machine
        });
        for index in 1..=50 {
            assert_eq!(stream.next().await, Some(message(index)));
            assert!(stream.0.lock().queue.len() <= 2);
        }
        drop(stream);
        let machine = applying.await.expect("it is not held up any more");
        assert_eq!(machine.0.lock().tail.len(), 100, "a snapshot still has everything");
    }
}

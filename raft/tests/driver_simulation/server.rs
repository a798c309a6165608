//! What one server of a run is made of: its state machine, its disk, its end of the network.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft::core::{Entry, Peer, Regard, Request, Sequence, Write};
use raft::storage::{CrashChoice, FileLog, Kept, LogStore, Recovered, StorageError, Torn};
use raft::transport::{Inbox, MemoryTransport, SnapshotState, Transport};
use raft::{Operation, ServerAddress, ServerId, SnapshotWriter, StateMachine};
use rand::RngExt;

use super::Random;
use super::truth::{Truth, lock};

/// One incarnation's state machine: the list of all commands.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) id: &'static str,
    pub(crate) truth: Arc<Truth>,
    pub(crate) values: Arc<Mutex<Vec<u64>>>,
}

impl StateMachine for Journal {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        let mut values = lock(&self.values);
        let answer = |entry: &Entry| {
            let value = entry.data.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let position = values.len();
            self.truth.applied(self.id, position, value);
            values.push(value);
            Bytes::from(position.to_string())
        };
        commands.iter().map(answer).collect()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let values = lock(&self.values).clone();
        Box::new(move |out: &mut dyn io::Write| {
            values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
        })
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        state.read_to_end(&mut bytes)?;
        let restored: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        for (position, value) in restored.iter().enumerate() {
            self.truth.applied(self.id, position, *value);
        }
        *lock(&self.values) = restored;
        Ok(())
    }
}

/// How long disk and state machine of one server take.
pub(crate) struct Pace {
    pub(crate) random: Random,
    /// The longest write, in microseconds.
    pub(crate) write: u64,
    /// The longest batch of the state machine, in microseconds.
    pub(crate) apply: u64,
    /// What never goes on from now on.
    pub(crate) hangs: Option<Operation>,
}

impl Pace {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, write: 3_000, apply: 1_000, hangs: None }
    }

    pub(crate) fn takes(&mut self, operation: Operation) -> Duration {
        if self.hangs == Some(operation) {
            return Duration::MAX;
        }
        let longest = match operation {
            Operation::Write | Operation::Written => self.write / 2,
            Operation::Store => self.write * 4,
            _ => self.apply / 2,
        };
        Duration::from_micros(self.random.random_range(0..=longest))
    }
}

/// The log, as this run has it.
pub(crate) struct Log {
    pub(crate) log: FileLog,
    /// On threads of its own a log is as slow as it is; on a paused clock the executor waits.
    pub(crate) sleeps: Option<Arc<Mutex<Pace>>>,
    /// A planted defect: what was written last is only told to be durable.
    pub(crate) lies: bool,
    pub(crate) kept_back: Vec<Write>,
}

impl LogStore for Log {
    fn recover(&mut self) -> Result<Recovered, StorageError> {
        self.log.recover()
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StorageError> {
        if let Some(pace) = &self.sleeps {
            std::thread::sleep(lock(pace).takes(Operation::Write));
        }
        if self.lies {
            let before = std::mem::replace(&mut self.kept_back, writes.to_vec());
            return if before.is_empty() { Ok(()) } else { self.log.write(&before) };
        }
        self.log.write(writes)
    }
}

/// Keeps a random part of what was not synced.
pub(crate) struct Dice<'a>(pub(crate) &'a mut Random);

impl CrashChoice for Dice<'_> {
    fn file(&mut self, _path: &Path, units: u64) -> Kept {
        let torn = [Torn::Cut, Torn::Zeros, Torn::Garbage][self.0.random_range(0..3)];
        Kept { units: self.0.random_range(0..=units), torn, hole: self.0.random_bool(0.2) }
    }

    fn name(&mut self, _path: &Path) -> bool {
        self.0.random_bool(0.5)
    }
}

/// A transport that tells what is sent.
pub(crate) struct Recorded {
    pub(crate) inner: MemoryTransport,
    pub(crate) id: ServerId,
    pub(crate) truth: Arc<Truth>,
    /// The longest pause between two heartbeats of a leader; only where the clock is simulated.
    pub(crate) gap: Option<Duration>,
}

impl Recorded {
    fn note(&self, to: &Peer, sequence: Sequence, request: &Request) {
        self.truth.note(&format!("{} {} {sequence:?} {request:?}", self.id, to.id));
        if let (Request::Heartbeat { term, .. }, Some(gap)) = (request, self.gap) {
            self.truth.heartbeat(&self.id, *term, gap);
        }
    }
}

impl Transport for Recorded {
    fn start(&self, local: Peer, inbox: Inbox) {
        self.inner.start(local, inbox);
    }

    fn local_address(&self) -> ServerAddress {
        self.inner.local_address()
    }

    fn send(&self, to: &Peer, sequence: Sequence, request: Request, regard: Regard) {
        self.note(to, sequence, &request);
        self.inner.send(to, sequence, request, regard);
    }

    fn send_snapshot(
        &self,
        to: &Peer,
        sequence: Sequence,
        request: Request,
        regard: Regard,
        state: SnapshotState,
    ) {
        self.note(to, sequence, &request);
        self.inner.send_snapshot(to, sequence, request, regard, state);
    }

    fn retain(&self, members: &[ServerId]) {
        self.inner.retain(members);
    }

    fn shutdown(&self) {
        self.inner.shutdown();
    }
}

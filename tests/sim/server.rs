//! One simulated server: its core, its disk, its state machine and what its driver keeps.

use std::collections::{BTreeMap, VecDeque};

use raft::core::{Entry, Peer, RaftCore, Regard, ReplyToken, Request, RequestId, Role, Sequence};
use raft::{EntryId, Incarnation, LogIndex, ServerId, Term, Time};

use crate::clock::Clock;
use crate::disk::{Disk, LogImage};
use crate::linearizable::Key;
use crate::machine::Machine;

/// What a core showed before a step.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Its commit index.
    pub commit: LogIndex,
    /// Its applied index.
    pub applied: LogIndex,
    /// Its last entry.
    pub last: EntryId,
    /// Where the configuration in force stands.
    pub configuration: LogIndex,
}

impl Seen {
    /// Takes it from a core.
    #[must_use]
    pub fn of(core: &RaftCore) -> Self {
        Self {
            role: core.role(),
            term: core.term(),
            commit: core.commit_index(),
            applied: core.applied_index(),
            last: core.last(),
            configuration: core.configuration_index(),
        }
    }
}

/// A request that was received and not answered yet.
#[derive(Clone, Debug)]
pub struct Received {
    /// Who asked.
    pub from: usize,
    /// Which incarnation of the asker.
    pub epoch: u64,
    /// The asker's number for it.
    pub sequence: Sequence,
    /// What was asked.
    pub request: Request,
    /// What the asker takes the receiver for.
    pub regard: Option<Regard>,
}

/// A proposal in the log that a client waits for.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// The term in which it was proposed.
    pub term: Term,
    /// The client's request.
    pub request: RequestId,
    /// The command's value; `None` for a barrier.
    pub value: Option<u64>,
}

/// A read that was confirmed and waits until its server has applied enough.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// What must be applied.
    pub index: LogIndex,
    /// What it must see.
    pub floor: LogIndex,
    /// Of which register.
    pub key: Key,
    /// When it was asked for.
    pub began: Time,
    /// Until when it may be served, by its server's clock: when the lease ends.
    pub until: Time,
}

/// A snapshot from outside on its way to a disk.
#[derive(Clone, Copy, Debug)]
pub struct Storing {
    /// Who waits for the end of the restore.
    pub request: RequestId,
    /// What it is to stand for.
    pub last: EntryId,
}

/// What a disk held that is gone: what was said of it may still count.
#[derive(Clone, Debug)]
pub struct Past {
    /// Which life of the server's data it was.
    pub life: Incarnation,
    /// The durable term.
    pub term: Term,
    /// The durable log.
    pub log: LogImage,
    /// The newest durable snapshot.
    pub snapshot: EntryId,
}

impl Past {
    /// What a disk holds now.
    #[must_use]
    pub fn of(disk: &Disk) -> Self {
        Self {
            life: disk.hard_state.incarnation,
            term: disk.hard_state.term,
            log: disk.log.clone(),
            snapshot: disk.newest().map_or_else(EntryId::default, |snapshot| snapshot.meta.last),
        }
    }

    /// Whether it held this entry.
    #[must_use]
    pub fn held(&self, id: EntryId) -> bool {
        self.snapshot >= id || self.log.lists(id)
    }
}

/// A server.
#[derive(Debug)]
pub struct SimServer {
    /// Who and where.
    pub peer: Peer,
    /// The core; `None` while the server is down.
    pub core: Option<RaftCore>,
    /// Counts starts.
    pub epoch: u64,
    /// What survives a crash, and what is on its way there.
    pub disk: Disk,
    /// The log as the core holds it, rebuilt from its writes.
    pub log: LogImage,
    /// The state machine.
    pub machine: Machine,
    /// Committed entries that are not applied yet.
    pub to_apply: VecDeque<Entry>,
    /// Whether a batch is being applied.
    pub applying: bool,
    /// Whether a snapshot is being written.
    pub snapshotting: bool,
    /// The snapshot from outside that is being stored, or removed again.
    pub storing: Option<Storing>,
    /// Requests received and not answered yet.
    pub received: BTreeMap<ReplyToken, Received>,
    /// Requests sent and not answered yet, and to whom.
    pub sent: BTreeMap<Sequence, usize>,
    /// Proposals in the log that clients wait for.
    pub waiting: BTreeMap<LogIndex, Waiting>,
    /// Reads that were confirmed and not served yet.
    pub reading: Vec<Reading>,
    /// The next wake-up that is in the event queue.
    pub wake: Option<Time>,
    /// The process stands still until then.
    pub paused_until: Time,
    /// Its clock.
    pub clock: Clock,
    /// Its disk was damaged; it never starts again.
    pub lost: bool,
    /// It was lost, and another has taken its place.
    pub replaced: bool,
    /// Its disk came back without what it held, and it has not been taken in anew yet.
    pub forgot: bool,
    /// What was on its disk each time it was lost or came back older.
    pub past: Vec<Past>,
    /// An older copy of its disk.
    pub copy: Option<Disk>,
    /// The largest term this server was ever in, over all incarnations.
    pub highest_term: Term,
    /// The largest term it ever spoke in: no crash may take it back below (S3).
    pub promised: Term,
}

impl SimServer {
    /// A server that was never started.
    #[must_use]
    pub fn new(number: usize) -> Self {
        let id = format!("s{number}");
        Self {
            peer: Peer { address: format!("{id}:7000").into(), id: id.into() },
            core: None,
            epoch: 0,
            disk: Disk::default(),
            log: LogImage::default(),
            machine: Machine::default(),
            to_apply: VecDeque::new(),
            applying: false,
            snapshotting: false,
            storing: None,
            received: BTreeMap::new(),
            sent: BTreeMap::new(),
            waiting: BTreeMap::new(),
            reading: Vec::new(),
            wake: None,
            paused_until: Time::ZERO,
            clock: Clock::default(),
            lost: false,
            replaced: false,
            forgot: false,
            past: Vec::new(),
            copy: None,
            highest_term: Term(0),
            promised: Term(0),
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &ServerId {
        &self.peer.id
    }

    /// Whether it runs.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.core.is_some()
    }

    /// Whether it runs and leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.core.as_ref().is_some_and(|core| core.role() == Role::Leader)
    }

    /// What happens to memory when the process dies.
    pub fn forget(&mut self) {
        self.core = None;
        self.epoch += 1;
        self.machine = Machine::default();
        self.log = LogImage::default();
        self.to_apply.clear();
        self.received.clear();
        self.sent.clear();
        self.waiting.clear();
        self.reading.clear();
        (self.applying, self.snapshotting) = (false, false);
        (self.storing, self.wake) = (None, None);
        self.paused_until = Time::ZERO;
    }
}

//! What can happen in a world, and when.

use raft::core::{Input, Response, Sequence, WriteId};
use raft::{EntryId, LogIndex, Time};

use crate::machine::Snapshot;
use crate::nemesis::Strike;
use crate::pilot::Flying;
use crate::server::{Reading, Received};

/// Something that will happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// A timer of a core.
    Wake {
        /// Whose.
        node: usize,
        /// Of which incarnation.
        epoch: u64,
    },
    /// A request arrives.
    Deliver {
        /// Where.
        node: usize,
        /// From whom.
        received: Box<Received>,
        /// The state that travels beside a snapshot.
        snapshot: Option<Box<Snapshot>>,
    },
    /// An answer arrives.
    Answer {
        /// Where.
        node: usize,
        /// At which incarnation.
        epoch: u64,
        /// From whom.
        from: usize,
        /// Which request it answers.
        sequence: Sequence,
        /// The answer.
        response: Response,
    },
    /// A sender has waited long enough for an answer, or was told that there will be none.
    GiveUp {
        /// Who.
        node: usize,
        /// Of which incarnation.
        epoch: u64,
        /// For which request.
        sequence: Sequence,
    },
    /// The disk says that writes are durable.
    DiskDone {
        /// Whose.
        node: usize,
        /// Of which incarnation.
        epoch: u64,
        /// Up to which.
        through: WriteId,
        /// Whether the core is told. Only a planted defect keeps the two apart.
        told: bool,
    },
    /// The state machine is done with what was queued.
    ApplyDone {
        /// Whose.
        node: usize,
        /// Of which incarnation.
        epoch: u64,
    },
    /// The state machine holds an installed snapshot.
    Restored {
        /// Whose.
        node: usize,
        /// Of which incarnation.
        epoch: u64,
        /// The snapshot's last entry.
        index: LogIndex,
    },
    /// A snapshot is durable.
    SnapshotDone {
        /// Whose.
        node: usize,
        /// Of which incarnation.
        epoch: u64,
        /// The snapshot.
        snapshot: Box<Snapshot>,
    },
    /// A crashed server starts again.
    Restart {
        /// Which.
        node: usize,
        /// If it is still this incarnation.
        epoch: u64,
    },
    /// A server whose disk failed gets a working one and starts again.
    Replace {
        /// Which.
        node: usize,
        /// If it is still this incarnation.
        epoch: u64,
    },
    /// The operator looks after a server that is lost for good.
    Operate {
        /// The lost one.
        lost: usize,
        /// The one that takes its place, once there is one.
        fresh: Option<usize>,
    },
    /// The operator takes a backup or restores one.
    Backup,
    /// The operator looks for servers that a restore left behind.
    Tend,
    /// A snapshot from outside is written.
    OutsideStored {
        /// Where.
        node: usize,
        /// At which incarnation.
        epoch: u64,
        /// The snapshot.
        snapshot: Box<Snapshot>,
    },
    /// The core hears that it is.
    OutsideTold {
        /// Where.
        node: usize,
        /// At which incarnation.
        epoch: u64,
        /// Which snapshot.
        last: EntryId,
        /// Its size.
        size: Option<u64>,
    },
    /// One that was not restored goes from the disk.
    OutsideRemoved {
        /// Where.
        node: usize,
        /// At which incarnation.
        epoch: u64,
        /// Which snapshot.
        last: EntryId,
    },
    /// A client's request reaches a server that stood still when it was sent.
    Ask {
        /// Which.
        node: usize,
        /// Of which incarnation.
        epoch: u64,
        /// The request.
        input: Box<Input>,
    },
    /// Something beside Raft: autopilot, its application, machines.
    Flying(Box<Flying>),
    /// A read by lease reaches a server that looked at its clock some time ago.
    LateAsk {
        /// Which.
        node: usize,
        /// Of which incarnation.
        epoch: u64,
        /// What the clock showed.
        clock: Time,
    },
    /// A client that may read by lease reads.
    LeaseLook {
        /// Where.
        node: usize,
        /// At which incarnation.
        epoch: u64,
        /// What it was told.
        told: Reading,
    },
    /// Clients ask a leader that may be deposed.
    AskDeposed {
        /// Which.
        node: usize,
        /// Until when.
        until: Time,
    },
    /// A client does something.
    Client,
    /// A fault begins.
    Fault,
    /// A fault that was begun takes its next step.
    Strike(Strike),
    /// Cuts and loss end.
    Mend,
}

/// An event with its time; events at the same time happen in the order in which they were scheduled.
#[derive(Debug)]
pub(super) struct Scheduled {
    pub(super) at: Time,
    pub(super) order: u64,
    pub(super) event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The server whose process must run for this to happen.
pub(super) fn node_of(event: &Event) -> Option<usize> {
    match event {
        Event::Wake { node, .. }
        | Event::Deliver { node, .. }
        | Event::Answer { node, .. }
        | Event::GiveUp { node, .. }
        | Event::DiskDone { node, .. }
        | Event::ApplyDone { node, .. }
        | Event::Restored { node, .. }
        | Event::Ask { node, .. }
        | Event::LateAsk { node, .. }
        | Event::LeaseLook { node, .. }
        | Event::OutsideStored { node, .. }
        | Event::OutsideTold { node, .. }
        | Event::OutsideRemoved { node, .. }
        | Event::SnapshotDone { node, .. } => Some(*node),
        Event::Flying(flying) => flying.node(),
        Event::Restart { .. }
        | Event::Replace { .. }
        | Event::Operate { .. }
        | Event::Backup
        | Event::Tend
        | Event::AskDeposed { .. }
        | Event::Client
        | Event::Fault
        | Event::Strike(_)
        | Event::Mend => None,
    }
}

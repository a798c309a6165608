//! What a server reports to the [`metrics`] facade, under the names that hashicorp/raft gives to the same figures.
//!
//! Without a recorder nothing is kept and each report costs next to nothing. Names are global: servers of one process
//! add up. Durations are in milliseconds, as there.

#![allow(clippy::disallowed_methods, reason = "measures what the driver does")]

use std::time::{Duration, Instant};

/// How often a loop says how busy it was, and how fine the age of the oldest entry is.
pub(crate) const SATURATION_INTERVAL: Duration = Duration::from_secs(1);

/// What is behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// What is so now.
    Gauge,
    /// One value each time.
    Histogram,
}

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name.
    pub name: &'static str,
    /// How it is to be read.
    pub kind: Kind,
    /// Its unit and what it says.
    pub meaning: &'static str,
}

macro_rules! figures {
    ($($constant:ident $name:literal $kind:ident $meaning:literal;)*) => {
        $(pub(crate) const $constant: &str = $name;)*

        /// Every figure that a server reports.
        pub const FIGURES: &[Figure] =
            &[$(Figure { name: $name, kind: Kind::$kind, meaning: $meaning }),*];
    };
}

figures! {
    MAIN_SATURATION "raft_thread_main_saturation" Histogram "0 to 1: the part of its time that the actor works";
    FSM_SATURATION "raft_thread_fsm_saturation" Histogram "0 to 1: the part of its time that the state machine works";
    APPLY "raft_apply" Counter "commands proposed";
    BARRIER "raft_barrier" Counter "barriers asked for";
    VERIFY_LEADER "raft_verify_leader" Counter "times a quorum was asked whether this server leads";
    RESTORE "raft_restore" Counter "snapshots from outside to be restored";
    COMMIT_TIME "raft_commitTime" Histogram "ms from taking the oldest proposal of a batch to handing it, committed, to the state machine";
    COMMIT_NUM_LOGS "raft_commitNumLogs" Histogram "entries handed to the state machine at a time";
    DISPATCH_LOG "raft_leader_dispatchLog" Histogram "ms to make a batch of writes durable";
    DISPATCH_NUM_LOGS "raft_leader_dispatchNumLogs" Histogram "entries in a batch of writes";
    FSM_APPLY "raft_fsm_applyBatch" Histogram "ms that the state machine takes for a batch of commands";
    FSM_APPLY_NUM "raft_fsm_applyBatchNum" Histogram "commands in such a batch";
    FSM_SNAPSHOT "raft_fsm_snapshot" Histogram "ms to fix the state for a snapshot";
    SNAPSHOT_CREATE "raft_snapshot_create" Histogram "ms to begin a snapshot in the store";
    SNAPSHOT_PERSIST "raft_snapshot_persist" Histogram "ms to write a snapshot and make it durable";
    SNAPSHOT_TAKE "raft_snapshot_takeSnapshot" Histogram "ms for all of a snapshot";
    FSM_RESTORE "raft_fsm_restore" Histogram "ms in which the state machine takes over a snapshot";
    FSM_LAST_RESTORE "raft_fsm_lastRestoreDuration" Gauge "ms that the last such restore took, the one at the start included";
    USER_RESTORE "raft_restoreUserSnapshot" Histogram "ms to store a snapshot from outside";
    OLDEST_LOG_AGE "raft_leader_oldestLogAge" Gauge "ms that this process has had the oldest entry of its log, to a second";
    LAST_CONTACT "raft_leader_lastContact" Histogram "ms since the voter that was heard least recently was heard by its leader";
    PEERS "raft_peers" Gauge "members in the configuration in force";
    STATE_FOLLOWER "raft_state_follower" Counter "times this server began to follow";
    STATE_CANDIDATE "raft_state_candidate" Counter "times it began to ask for votes";
    STATE_LEADER "raft_state_leader" Counter "times it began to lead";
}

/// Reports how long something took that began at `since`.
pub(crate) fn took(name: &'static str, since: Instant) {
    metrics::histogram!(name).record(millis(since.elapsed()));
}

/// Reports that the state machine took over a snapshot, beginning at `since`.
pub(crate) fn restored(since: Instant) {
    took(FSM_RESTORE, since);
    metrics::gauge!(FSM_LAST_RESTORE).set(millis(since.elapsed()));
}

/// A duration in the unit of all these figures.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A number that counts something; exact as far as anybody counts.
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) const fn count(number: usize) -> f64 {
    number as f64
}

/// How busy a loop is. [`Saturation::idle`] before it waits, [`Saturation::busy`] after.
#[derive(Debug)]
pub(crate) struct Saturation {
    name: &'static str,
    reported: Instant,
    idle_from: Instant,
    idle: Duration,
}

impl Saturation {
    pub(crate) fn new(name: &'static str) -> Self {
        let now = Instant::now();
        Self { name, reported: now, idle_from: now, idle: Duration::ZERO }
    }

    pub(crate) fn idle(&mut self) {
        self.idle_from = Instant::now();
    }

    pub(crate) fn busy(&mut self) {
        let now = Instant::now();
        self.idle += now - self.idle_from;
        let passed = now - self.reported;
        if passed >= SATURATION_INTERVAL {
            let part = 1.0 - self.idle.as_secs_f64() / passed.as_secs_f64();
            metrics::histogram!(self.name).record(part.clamp(0.0, 1.0));
            (self.reported, self.idle) = (now, Duration::ZERO);
        }
    }
}

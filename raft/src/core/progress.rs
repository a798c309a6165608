//! What a leader knows of one follower and what is on its way to it.

use std::collections::BTreeMap;

use raft_types::{EntryId, Incarnation, LogIndex, Time};

use super::io::{Peer, Sequence};
use super::message::Features;

/// Requests that say nothing about the log and wait unanswered; beyond it no further heartbeat is sent.
const HEARTBEATS_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Where the logs agree is unknown: one request at a time.
    Probe,
    /// The logs agree up to `matched`: requests are pipelined.
    Replicate,
    /// A snapshot is on its way.
    Snapshot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Append { prev: LogIndex, last: LogIndex, bytes: usize },
    Heartbeat,
    Snapshot { last: EntryId },
    TimeoutNow,
}

#[derive(Debug)]
pub(super) struct Progress {
    pub(super) peer: Peer,
    /// Which life of it answers; `None` until it has answered this leader.
    pub(super) incarnation: Option<Incarnation>,
    pub(super) mode: Mode,
    /// The next entry to send.
    pub(super) next: LogIndex,
    /// Everything up to here is durable there and equal to ours.
    pub(super) matched: LogIndex,
    /// The newest commit index sent.
    pub(super) commit_sent: LogIndex,
    /// The last append was not answered: nothing more until the next heartbeat.
    pub(super) paused: bool,
    /// A snapshot failed: no other before this moment.
    pub(super) snapshot_after: Time,
    /// What it has shown that it can do.
    pub(super) features: Features,
    /// When the newest answered request was **sent** (catalogue L05).
    pub(super) contact: Time,
    /// The newest answered request.
    pub(super) acknowledged: Sequence,
    outstanding: BTreeMap<Sequence, (Time, Sent)>,
}

impl Progress {
    pub(super) const fn new(peer: Peer, next: LogIndex, now: Time) -> Self {
        Self {
            peer,
            incarnation: None,
            mode: Mode::Probe,
            next,
            matched: LogIndex::ZERO,
            commit_sent: LogIndex::ZERO,
            paused: false,
            snapshot_after: Time::ZERO,
            features: Features(0),
            contact: now,
            acknowledged: Sequence(0),
            outstanding: BTreeMap::new(),
        }
    }

    pub(super) fn sent(&mut self, sequence: Sequence, now: Time, what: Sent) {
        self.outstanding.insert(sequence, (now, what));
    }

    /// Whether an answer to this request is still of interest.
    pub(super) fn awaits(&self, sequence: Sequence) -> bool {
        self.outstanding.contains_key(&sequence)
    }

    /// Takes note of an answer. `None` for one to a request that is not waited for any more.
    pub(super) fn answered(&mut self, sequence: Sequence) -> Option<Sent> {
        let (sent, what) = self.outstanding.remove(&sequence)?;
        self.contact = self.contact.max(sent);
        self.acknowledged = self.acknowledged.max(sequence);
        Some(what)
    }

    /// Forgets a request that got no answer.
    pub(super) fn failed(&mut self, sequence: Sequence) -> Option<Sent> {
        self.outstanding.remove(&sequence).map(|(_, what)| what)
    }

    /// How many appends are on their way, and the bytes in them.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        let appends = self.outstanding.values().filter_map(|(_, what)| match what {
            Sent::Append { bytes, .. } => Some(*bytes),
            Sent::Heartbeat | Sent::Snapshot { .. } | Sent::TimeoutNow => None,
        });
        appends.fold((0, 0), |(count, all), bytes| (count + 1, all + bytes))
    }

    /// The last entry in the snapshot that is on its way.
    pub(super) fn snapshot_in_flight(&self) -> Option<LogIndex> {
        self.outstanding.values().find_map(|(_, what)| match what {
            Sent::Snapshot { last } => Some(last.index),
            Sent::Append { .. } | Sent::Heartbeat | Sent::TimeoutNow => None,
        })
    }

    pub(super) fn may_send_heartbeat(&self) -> bool {
        self.outstanding.values().filter(|(_, what)| *what == Sent::Heartbeat).count() < HEARTBEATS_MAX
    }

    /// Starts over from `next`. Answers to appends and snapshots sent before mean nothing from now on.
    pub(super) fn probe_from(&mut self, next: LogIndex) {
        self.mode = Mode::Probe;
        self.next = next.max(self.matched.next());
        self.outstanding.retain(|_, (_, what)| !matches!(what, Sent::Append { .. } | Sent::Snapshot { .. }));
    }

    /// Everything up to `index` is there.
    pub(super) fn matched_through(&mut self, index: LogIndex) {
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched.next());
    }
}

//! What observers see of a server.

use std::collections::BTreeMap;
use std::time::Instant;

use raft_types::{Configuration, EntryId, Incarnation, LogIndex, ServerId, Term, Time};
use tokio::sync::watch;

use crate::core::{Peer, RaftCore, Role};

/// A server at a moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// Its part in the term.
    pub role: Role,
    /// The highest term it has seen.
    pub term: Term,
    /// The leader of that term, if known.
    pub leader: Option<Peer>,
    /// Whether it leads and has committed an entry of its own term, so that it may change members.
    pub ready: bool,
    /// The last entry of its log.
    pub last: EntryId,
    /// Bytes of the entries that it keeps in memory, which is the log since the last compaction.
    pub log_bytes: usize,
    /// The last entry known to be committed.
    pub commit_index: LogIndex,
    /// The last entry that its state machine has applied.
    pub applied_index: LogIndex,
    /// The last entry in its newest snapshot; zero without one.
    pub snapshot_index: LogIndex,
    /// The term of that entry.
    pub snapshot_term: Term,
    /// The members in force.
    pub configuration: Configuration,
    /// Where that configuration stands.
    pub configuration_index: LogIndex,
    /// Whether it is committed.
    pub configuration_committed: bool,
    /// When it last heard a leader of its term; `None` for the leader itself, and before it heard one.
    pub last_leader_contact: Option<Instant>,
    /// The other members, as the leader sees them; empty elsewhere.
    pub peers: BTreeMap<ServerId, PeerMetrics>,
    /// Which life of its data this is.
    pub incarnation: Incarnation,
    /// Its store failed; it takes no part until it is restarted.
    pub storage_failed: bool,
}

impl Metrics {
    /// Whether the log ends with an entry of the present term.
    #[must_use]
    pub fn has_current_term_entry(&self) -> bool {
        self.last.term == self.term
    }
}

/// A follower as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerMetrics {
    /// The last entry known to be durable there and equal to the leader's.
    pub match_id: EntryId,
    /// When the newest request that it answered was sent; `None` if it answered none in this leader's time.
    pub last_contact: Option<Instant>,
    /// A snapshot is on its way to it.
    pub snapshotting: bool,
    /// Which life of its data answers; `None` while none has in this leader's time.
    pub incarnation: Option<Incarnation>,
    /// Whether it is the one that the configuration means. A voter for which this is false has lost its data, or was given
    /// another server's: it counts for nothing until the leader has taken it in anew.
    pub counted: bool,
}

/// Who leads, from this server's point of view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// This server leads.
    Leader {
        /// In this term.
        term: Term,
    },
    /// Another server leads, or none that is known.
    Follower {
        /// The leader.
        leader: Option<Peer>,
    },
}

/// A stream of [`Leadership`]. A slow reader misses what was overtaken and never the newest.
#[derive(Clone, Debug)]
pub struct LeadershipWatch {
    receiver: watch::Receiver<Leadership>,
    first: bool,
}

impl LeadershipWatch {
    pub(super) const fn new(receiver: watch::Receiver<Leadership>) -> Self {
        Self { receiver, first: true }
    }

    /// The present, then each change. `None` once the server has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<Leadership> {
        if self.first {
            self.first = false;
        } else {
            self.receiver.changed().await.ok()?;
        }
        Some(self.receiver.borrow_and_update().clone())
    }
}

/// Puts metrics together; `start` is the moment that the core knows as zero.
pub(super) fn metrics_of(core: &RaftCore, start: tokio::time::Instant) -> Metrics {
    let instant = |time: Time| (start + time.since(Time::ZERO)).into_std();
    let peers = core
        .configuration()
        .everyone()
        .filter_map(|server| {
            let view = core.follower(&server.id)?;
            let peer = PeerMetrics {
                match_id: view.matched,
                last_contact: view.heard.then(|| instant(view.contact)),
                snapshotting: view.snapshotting,
                incarnation: view.incarnation,
                counted: view.counted,
            };
            Some((server.id.clone(), peer))
        })
        .collect();
    Metrics {
        role: core.role(),
        term: core.term(),
        leader: core.leader().cloned(),
        ready: core.is_ready(),
        last: core.last(),
        log_bytes: core.log_bytes(),
        commit_index: core.commit_index(),
        applied_index: core.applied_index(),
        snapshot_index: core.snapshot().map_or(LogIndex::ZERO, |meta| meta.last.index),
        snapshot_term: core.snapshot().map_or(Term::default(), |meta| meta.last.term),
        configuration: core.configuration().clone(),
        configuration_index: core.configuration_index(),
        configuration_committed: core.configuration_index() <= core.commit_index(),
        last_leader_contact: core.leader_contact().map(instant),
        peers,
        incarnation: core.incarnation(),
        storage_failed: core.storage_failed(),
    }
}

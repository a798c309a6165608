//! Replacing the state of the whole cluster by a snapshot from outside, as `Restore` of hashicorp/raft does.
//!
//! The leader takes the snapshot under an identity of its own: the present term, and an index above everything in the log
//! and in the snapshot, so that indexes never fall. The log starts anew right after it, without a gap, and since no follower
//! can have the entry before, all of them get the snapshot. The configuration and where it stands stay as they are
//! (catalogue P06, D15). Done when an entry after the snapshot is committed, which takes a quorum that has the snapshot; until
//! then nothing is read.
//!
//! A leader that fails before that may be left behind with a state that the others do not have. [`RaftCore::denies`] keeps
//! it from acknowledging entries of theirs as its own.

use raft_types::{EntryId, LogIndex};

use super::RaftCore;
use super::io::{Effect, Outcome, Refusal, RequestId};
use super::message::{EntryKind, SnapshotMeta};
use super::role::RoleState;

/// Beyond it no log could go on for long.
const INDEX_MAX: u64 = 1 << 63;

/// A snapshot from outside on its way into the cluster.
#[derive(Debug)]
pub(super) enum Restoring {
    /// The driver is storing it.
    Storing { meta: SnapshotMeta },
    /// It is this leader's state.
    Taken { last: EntryId, request: RequestId },
}

impl Restoring {
    /// Who waits for its end.
    pub(super) const fn request(&self) -> Option<RequestId> {
        match self {
            Self::Storing { .. } => None,
            Self::Taken { request, .. } => Some(*request),
        }
    }

    fn is_storing(&self, last: EntryId) -> bool {
        matches!(self, Self::Storing { meta } if meta.last == last)
    }
}

impl RaftCore {
    /// Says under which identity the snapshot is to be stored. Nothing is appended until [`RaftCore::on_restore_stored`].
    pub(super) fn on_begin_restore(&mut self, request: RequestId, above: LogIndex) {
        if let Err(refusal) = self.check_change(None) {
            self.refuse(request, refusal);
            return;
        }
        let index = LogIndex(self.log.last().index.max(above).0.saturating_add(1));
        if index.0 > INDEX_MAX {
            self.refuse(request, Refusal::RestoreFailed);
            return;
        }
        let last = EntryId { term: self.hard_state.term, index };
        let meta = SnapshotMeta {
            last,
            configuration: self.configuration().clone(),
            configuration_index: self.configuration_index(),
            size: 0,
        };
        if let Some(leader) = self.leader_mut() {
            leader.restoring = Some(Restoring::Storing { meta: meta.clone() });
        }
        self.out.push(Effect::Resolve { request, outcome: Outcome::RestoreBegun { meta } });
    }

    /// The snapshot is durable, or will not be stored.
    pub(super) fn on_restore_stored(&mut self, request: RequestId, last: EntryId, size: Option<u64>) {
        let not_leader = self.not_leader();
        let Some(leader) = self.leader_mut() else { return self.refuse(request, not_leader) };
        // Otherwise it is of an earlier time as leader, or given up already.
        let storing = leader.restoring.take_if(|restoring| restoring.is_storing(last));
        match (storing, size) {
            (Some(Restoring::Storing { meta }), Some(size)) => {
                self.take_restored(request, SnapshotMeta { size, ..meta });
            }
            _ => self.refuse(request, Refusal::RestoreFailed),
        }
    }

    fn take_restored(&mut self, request: RequestId, meta: SnapshotMeta) {
        let last = meta.last;
        self.reset_log(last);
        self.commit = last.index;
        self.configurations.replace(&meta);
        self.snapshot = Some(meta.clone());
        self.notify_configuration();
        self.out.push(Effect::Restore { meta });
        let Some(leader) = self.leader_mut() else { return };
        leader.restoring = Some(Restoring::Taken { last, request });
        // What is read now would be gone if this leader failed.
        leader.first = last.index.next();
        leader.ready = false;
        leader.uncommitted_bytes = 0;
        leader.read_round = None;
        leader.reads.iter_mut().for_each(|read| read.after = None);
        for progress in leader.followers.values_mut() {
            progress.probe_from(progress.matched.next());
            progress.commit_sent = LogIndex::ZERO;
            progress.paused = false;
        }
        self.append_own(EntryKind::Noop, bytes::Bytes::new(), bytes::Bytes::new());
        self.replicate_to_all();
        self.advance_commit();
    }

    /// Answers a restore whose first entry afterwards is committed.
    pub(super) fn finish_restore(&mut self) {
        let Some(leader) = self.leader_mut().filter(|leader| leader.ready) else { return };
        if let Some(Restoring::Taken { last, request }) =
            leader.restoring.take_if(|restoring| matches!(restoring, Restoring::Taken { .. }))
        {
            self.out.push(Effect::Resolve { request, outcome: Outcome::Restored { last } });
        }
    }

    /// Whether a snapshot from outside is on its way into the cluster.
    pub(super) fn is_restoring(&self) -> bool {
        matches!(&self.role, RoleState::Leader(leader) if leader.restoring.is_some())
    }

    /// Whether an entry of a leader proves that it does not share what is compacted here: terms never fall along a log, so
    /// no log has an entry of a newer term before this base. Without a restore that failed half-way this cannot be.
    pub(super) fn denies(&self, id: EntryId) -> bool {
        let base = self.log.base();
        (id.index < base.index && id.term > base.term) || (id.index == base.index && id.term != base.term)
    }
}

//! Replacing the state of the whole cluster by a snapshot from outside, as `Restore` of hashicorp/raft does.
//!
//! The leader takes the snapshot under an identity of its own: the present term, and an index above everything in the log
//! and in the snapshot, so that indexes never fall. The log starts anew right after it, without a gap, and since no follower
//! can have the entry before, all of them get the snapshot. The configuration and where it stands stay as they are
//! (catalogue P06, D15). Done when an entry after the snapshot is committed, which takes a quorum that has the snapshot; until
//! then nothing is read.
//!
//! A leader that fails before that may be left behind with a state that the others do not have. [`RaftCore::denies`] keeps
//! it from acknowledging entries of theirs as its own, and [`RaftCore::agrees`] from serving reads out of that state.
//!
//! While the snapshot is being stored it may already be what a restart finds, which would drop the log for it. So until the
//! driver has said what became of it, this server gives no word that such a restart would break: it acknowledges nothing to
//! another leader, and does not campaign.

use raft_types::{EntryId, LogIndex, Time};

use super::RaftCore;
use super::io::{Effect, Outcome, Refusal, RequestId};
use super::message::{EntryKind, SnapshotMeta};
use super::mutant::Mutant;
use super::role::RoleState;

/// Beyond it no log could go on for long.
const INDEX_MAX: u64 = 1 << 63;

/// A snapshot from outside that may be on the disk, or may come there, and is not this server's state.
#[derive(Debug)]
pub(super) struct Storing {
    meta: SnapshotMeta,
    /// Whoever waited for it was told that it comes too late.
    refused: bool,
}

/// A snapshot from outside that is this leader's state, and of which no quorum is known to have it.
#[derive(Debug)]
pub(super) struct Restoring {
    last: EntryId,
    /// Who waits for its end.
    pub(super) request: RequestId,
}

impl RaftCore {
    /// Says under which identity the snapshot is to be stored, once nobody may read by lease any more: whoever was told so looks
    /// at the state later. Nothing is appended until [`RaftCore::on_restore_stored`].
    pub(super) fn on_begin_restore(&mut self, request: RequestId, above: LogIndex) {
        if let Err(refusal) = self.check_change(None) {
            self.refuse(request, refusal);
            return;
        }
        if let Some(leader) = self.leader_mut() {
            leader.restore_asked = Some((request, above));
        }
        self.begin_restore();
    }

    /// When the restore that was asked for may begin; `None` if there is none.
    pub(super) fn restore_due(&self) -> Option<Time> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let after = if self.mutated(Mutant::RestoreBesideLease) { Time::ZERO } else { leader.lease_told };
        leader.restore_asked.map(|_| after)
    }

    pub(super) fn begin_restore(&mut self) {
        if self.restore_due().is_none_or(|due| due > self.now) {
            return;
        }
        let asked = self.leader_mut().and_then(|leader| leader.restore_asked.take());
        let Some((request, above)) = asked else { return };
        let above = if self.mutated(Mutant::RestoreInsideLog) { LogIndex::ZERO } else { above };
        let step = u64::from(!self.mutated(Mutant::RestoreInsideLog));
        let index = LogIndex(self.log.last().index.max(above).0.saturating_add(step));
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
        self.storing = Some(Storing { meta: meta.clone(), refused: false });
        self.out.push(Effect::Resolve { request, outcome: Outcome::RestoreBegun { meta } });
    }

    /// The snapshot is durable, or is not on the disk and never will be.
    ///
    /// One that comes too late, after leadership was lost, is refused and stays fenced off until it is gone from the disk.
    pub(super) fn on_restore_stored(&mut self, request: RequestId, last: EntryId, size: Option<u64>) {
        let leads = matches!(self.role, RoleState::Leader(_)) && last.term == self.hard_state.term;
        let refusal = if leads { Refusal::RestoreFailed } else { self.not_leader() };
        let storing = self.storing.take_if(|storing| storing.meta.last == last);
        match (storing, size) {
            (Some(Storing { meta, .. }), Some(size)) if leads => {
                self.take_restored(request, SnapshotMeta { size, ..meta });
            }
            (Some(storing), Some(_)) => {
                self.storing = Some(Storing { refused: true, ..storing });
                self.refuse(request, refusal);
            }
            (Some(Storing { refused: true, .. }), None) => {}
            (Some(_) | None, _) => self.refuse(request, refusal),
        }
    }

    /// Whether nothing may be appended, because a snapshot from outside is about to take the place of it all.
    pub(super) fn awaits_restore(&self) -> bool {
        self.storing.is_some() || self.restore_due().is_some()
    }

    /// Whether a restart might find a snapshot from outside that is not this server's state, so that its log may vanish.
    pub(super) fn is_storing(&self) -> bool {
        self.storing.is_some() && !self.mutated(Mutant::RestoreUnfenced)
    }

    fn take_restored(&mut self, request: RequestId, meta: SnapshotMeta) {
        let last = meta.last;
        self.reset_log(last);
        self.commit = last.index;
        self.configurations.replace(&meta);
        self.snapshot = Some(meta.clone());
        self.installed = last.index;
        self.notify_configuration();
        self.out.push(Effect::Restore { meta });
        let at_once = self.mutated(Mutant::RestoreServedAtOnce);
        let Some(leader) = self.leader_mut() else { return };
        leader.restoring = Some(Restoring { last, request });
        // What is read now would be gone if this leader failed.
        leader.first = last.index.next();
        leader.ready = at_once;
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
        if let Some(Restoring { last, request }) = leader.restoring.take() {
            self.out.push(Effect::Resolve { request, outcome: Outcome::Restored { last } });
        }
    }

    /// Whether a snapshot from outside is on its way into the cluster.
    pub(super) fn is_restoring(&self) -> bool {
        self.awaits_restore() || matches!(&self.role, RoleState::Leader(leader) if leader.restoring.is_some())
    }

    /// Whether an entry of a leader proves that it does not share what is compacted here: terms never fall along a log, so
    /// no log has an entry of a newer term before this base. Without a restore that failed half-way this cannot be.
    pub(super) fn denies(&self, id: EntryId) -> bool {
        let base = self.log.base();
        if self.mutated(Mutant::RestoreDeniesNobody) {
            return false;
        }
        (id.index < base.index && id.term > base.term) || (id.index == base.index && id.term != base.term)
    }

    /// Notes that the log was just compared with the leader's where both begin or later, and found to be the same history.
    pub(super) fn note_agreement(&mut self) {
        self.agreed = self.hard_state.term;
        self.serve_follower_reads();
    }

    /// Whether the state here is known to be the leader's, so that an index of the leader's means the same here.
    pub(super) fn agrees(&self) -> bool {
        self.agreed == self.hard_state.term || self.mutated(Mutant::RestoreReadUnproved)
    }
}

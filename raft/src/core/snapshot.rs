//! Snapshots: sent to followers whose next entry is gone, installed, and used to shorten the log.

use raft_types::{EntryId, LogIndex, ServerId, Term};

use super::RaftCore;
use super::io::{Effect, Peer, ReplyToken, Sequence};
use super::message::{Entry, Request, Response, SnapshotMeta};
use super::mutant::Mutant;
use super::progress::{Mode, Progress, Sent};
use super::role::RoleState;

impl RaftCore {
    /// Sends the newest snapshot; the state itself is the driver's to send along.
    pub(super) fn send_snapshot(&mut self, id: &ServerId) {
        let Some(meta) = self.snapshot.clone() else { return };
        let sequence = self.take_sequence();
        let (now, term) = (self.now, self.hard_state.term);
        let Some(progress) = self.leader_mut().and_then(|leader| leader.followers.get_mut(id)) else {
            return;
        };
        if now < progress.snapshot_after {
            return;
        }
        progress.mode = Mode::Snapshot;
        progress.sent(sequence, now, Sent::Snapshot { last: meta.last });
        let to = progress.peer.clone();
        let (request, regard) = (Request::InstallSnapshot { term, meta }, self.regard(id));
        self.out.push(Effect::Send { to, sequence, request, regard });
    }

    pub(super) fn on_snapshot_response(&mut self, from: &ServerId, sequence: Sequence, success: bool) {
        let again = self.mutated(Mutant::SnapshotSentAgain);
        let Some(progress) = self.leader_mut().and_then(|leader| leader.followers.get_mut(from)) else {
            return;
        };
        let Some(Sent::Snapshot { last }) = progress.answered(sequence) else { return };
        if success && !again {
            progress.matched_through(last.index);
        }
        let next = progress.matched.next();
        progress.probe_from(next);
        if !success {
            self.postpone_snapshot(from);
        }
        self.advance_commit();
        self.replicate(from);
        self.continue_transfer(from);
    }

    /// A snapshot is dear: whatever made one fail gets some time to pass.
    pub(super) fn postpone_snapshot(&mut self, to: &ServerId) {
        let after = self.now + 2 * self.config.election_timeout;
        if let Some(progress) = self.leader_mut().and_then(|leader| leader.followers.get_mut(to)) {
            progress.snapshot_after = after;
        }
    }

    /// Takes a leader's snapshot, which is durable here already.
    ///
    /// Entries after it are kept only if this log holds the snapshot's last entry; otherwise they are of a history that
    /// did not happen (Raft paper, figure 13, rules 6 and 7; catalogue P01).
    pub(super) fn on_install_snapshot(
        &mut self,
        from: Peer,
        term: Term,
        meta: SnapshotMeta,
        reply: ReplyToken,
    ) {
        let incarnation = self.hard_state.incarnation;
        let refusal = Response::InstallSnapshot { term: self.hard_state.term, success: false, incarnation };
        if !self.follow(from, term, reply, refusal) {
            return;
        }
        if self.is_storing() {
            // What is acknowledged now could be gone at the next start.
            self.out.push(Effect::Ignore { reply });
            return;
        }
        let other = self.log.term_at(meta.last.index).is_some_and(|term| term != meta.last.term);
        let unchecked = self.mutated(Mutant::SnapshotIdentityUnchecked);
        if meta.last.index <= self.commit && (other || self.denies(meta.last)) && !unchecked {
            // What is committed here has another identity; no leader of this cluster sends that (catalogue P13).
            self.out.push(Effect::Ignore { reply });
            return;
        }
        if meta.last.index > self.commit || self.mutated(Mutant::OlderSnapshotInstalled) {
            if self.contradicts(meta.last) || self.mutated(Mutant::SnapshotDropsSuffix) {
                self.reset_log(meta.last);
            }
            self.commit = meta.last.index;
            if !self.mutated(Mutant::ConfigurationSurvivesSnapshot) {
                self.configurations.replace(&meta);
            }
            self.snapshot = Some(meta.clone());
            self.compact();
            self.notify_configuration();
            self.installed = meta.last.index;
            self.drop_overtaken_reads();
            self.out.push(Effect::Restore { meta });
            self.note_agreement();
        }
        let incarnation = self.hard_state.incarnation;
        let response = Response::InstallSnapshot { term: self.hard_state.term, success: true, incarnation };
        let effect = Effect::Respond { reply, response };
        let last = self.log.last().index;
        self.out.extend(self.writes.after_entries(last, effect));
    }

    /// Whether this log does not hold a snapshot's last entry.
    pub(super) fn contradicts(&self, snapshot: EntryId) -> bool {
        let here = self.log.term_at(snapshot.index);
        here.is_none() || (here != Some(snapshot.term) && !self.mutated(Mutant::Rule7Missing))
    }

    pub(super) fn reset_log(&mut self, base: EntryId) {
        self.log.reset(base);
        self.configurations.truncate_after_reset(base.index);
        self.writes.mark_reset(base.index);
        let written = !self.mutated(Mutant::ResetNotWritten);
        self.writes.pending().reset_to = written.then_some(base);
    }

    pub(super) fn on_snapshot_taken(&mut self, meta: SnapshotMeta) {
        if meta.last.index <= self.snapshot_last().index || meta.last.index > self.commit {
            return;
        }
        self.snapshot = Some(meta);
        self.compact();
    }

    /// The entries after this index go to a follower once the snapshot on its way there has arrived. Without them it would
    /// need the next snapshot, and never catch up under load (catalogue P11).
    fn needed_by_a_joiner(&self) -> LogIndex {
        let RoleState::Leader(leader) = &self.role else { return LogIndex(u64::MAX) };
        let on_their_way = leader.followers.values().filter_map(Progress::snapshot_in_flight);
        on_their_way.min().unwrap_or(LogIndex(u64::MAX))
    }

    /// Drops what the snapshot holds, but for the newest entries before it: followers that are a little late need
    /// them, within limits on count and bytes.
    pub(super) fn compact(&mut self) {
        let beyond = self.mutated(Mutant::CompactsBeyondSnapshot);
        let snapshot = if beyond { self.commit } else { self.snapshot_last().index };
        let base = self.log.base().index;
        let trailing = LogIndex(snapshot.0.saturating_sub(self.config.trailing_logs));
        let oldest_kept = trailing.min(self.needed_by_a_joiner()).max(base);
        let mut bytes: usize = self
            .log
            .iter_from(oldest_kept.next())
            .take_while(|entry| entry.id.index <= snapshot)
            .map(Entry::size)
            .sum();
        let mut through = oldest_kept;
        let limit = if oldest_kept < trailing {
            self.config.log_bytes_max
        } else {
            self.config.snapshot_threshold_bytes
        };
        while bytes > limit / 2 && through < snapshot {
            through = through.next();
            bytes -= self.log.get(through).map_or(0, Entry::size);
        }
        if through > base {
            self.log.compact_through(through);
            self.configurations.compact_through(through);
            self.writes.pending().compact_through = Some(self.log.base());
        }
    }
}

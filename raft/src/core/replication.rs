//! The leader's side: appending, sending, counting.

use bytes::Bytes;
use raft_types::{EntryId, LogIndex, ServerId};

use super::RaftCore;
use super::io::{Effect, Event, Outcome, Refusal, RequestId, Sequence};
use super::message::{Entry, EntryKind, Features, Regard, Request};
use super::mutant::Mutant;
use super::progress::{Mode, Sent};
use super::quorum;
use super::role::{Leader, RoleState};

impl RaftCore {
    pub(super) fn leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            RoleState::Leader(leader) => Some(leader),
            RoleState::Follower | RoleState::Candidate(_) => None,
        }
    }

    /// Appends an entry of the own term.
    pub(super) fn append_own(&mut self, kind: EntryKind, data: Bytes, extensions: Bytes) -> EntryId {
        let id = EntryId { term: self.hard_state.term, index: self.log.last().index.next() };
        let entry = Entry { id, kind, data, extensions };
        if let Some(leader) = self.leader_mut() {
            leader.uncommitted_bytes += entry.size();
        }
        self.push_entry(entry);
        id
    }

    pub(super) fn on_propose(&mut self, request: RequestId, commands: Vec<(Bytes, Bytes)>) {
        if let Err(refusal) = self.may_append() {
            self.refuse(request, refusal);
            return;
        }
        let count = commands.len() as u64;
        let first = EntryId { term: self.hard_state.term, index: self.log.last().index.next() };
        for (data, extensions) in commands {
            self.append_own(EntryKind::Command, data, extensions);
        }
        self.out.push(Effect::Resolve { request, outcome: Outcome::Proposed { first, count } });
        self.replicate_to_all();
    }

    pub(super) fn on_barrier(&mut self, request: RequestId) {
        if let Err(refusal) = self.may_append() {
            self.refuse(request, refusal);
            return;
        }
        let first = self.append_own(EntryKind::Barrier, Bytes::new(), Bytes::new());
        self.out.push(Effect::Resolve { request, outcome: Outcome::Proposed { first, count: 1 } });
        self.replicate_to_all();
    }

    fn may_append(&self) -> Result<(), Refusal> {
        let RoleState::Leader(leader) = &self.role else { return Err(self.not_leader()) };
        if leader.transfer.is_some() && !self.mutated(Mutant::WritesDuringTransfer) {
            return Err(Refusal::TransferInProgress);
        }
        if self.awaits_restore() {
            return Err(Refusal::RestoreInProgress);
        }
        let full = leader.uncommitted_bytes >= self.config.uncommitted_bytes_max
            || self.log.bytes() >= self.config.log_bytes_max;
        if full && !self.mutated(Mutant::UncommittedUnlimited) {
            return Err(Refusal::Overloaded);
        }
        Ok(())
    }

    fn follower_ids(&self) -> Vec<ServerId> {
        match &self.role {
            RoleState::Leader(leader) => leader.followers.keys().cloned().collect(),
            RoleState::Follower | RoleState::Candidate(_) => Vec::new(),
        }
    }

    pub(super) fn replicate_to_all(&mut self) {
        for id in self.follower_ids() {
            self.replicate(&id);
        }
    }

    /// Sends a follower whatever it may get now.
    pub(super) fn replicate(&mut self, id: &ServerId) {
        while let Some((next, mode)) = self.may_send(id) {
            let prev = next.previous();
            let Some(prev_term) = self.log.term_at(prev) else {
                if !self.mutated(Mutant::SnapshotNeverSent) {
                    self.send_snapshot(id);
                }
                return;
            };
            let entries = self.log.slice(
                next,
                self.log.last().index,
                self.config.append_entries_max,
                self.config.append_bytes_max,
            );
            let commit = self.commit;
            let knows_commit = self.progress(id).is_none_or(|p| p.commit_sent >= commit);
            if entries.is_empty() && mode == Mode::Replicate && knows_commit {
                return;
            }
            self.send_append(id, EntryId { term: prev_term, index: prev }, entries);
        }
    }

    fn progress(&self, id: &ServerId) -> Option<&super::progress::Progress> {
        match &self.role {
            RoleState::Leader(leader) => leader.followers.get(id),
            RoleState::Follower | RoleState::Candidate(_) => None,
        }
    }

    /// The next entry to send and in which mode; `None` while nothing may be sent.
    fn may_send(&self, id: &ServerId) -> Option<(LogIndex, Mode)> {
        let progress = self.progress(id)?;
        let (count, bytes) = progress.in_flight();
        let allowed = match progress.mode {
            Mode::Probe => !progress.paused && count == 0,
            Mode::Replicate => {
                count < self.config.inflight_max && (count == 0 || bytes < self.config.inflight_bytes_max)
            }
            Mode::Snapshot => false,
        };
        allowed.then_some((progress.next, progress.mode))
    }

    fn send_append(&mut self, id: &ServerId, prev: EntryId, entries: Vec<Entry>) {
        let sequence = self.take_sequence();
        let (now, term, commit) = (self.now, self.hard_state.term, self.commit);
        let last = entries.last().map_or(prev.index, |entry| entry.id.index);
        let bytes = entries.iter().map(Entry::size).sum();
        let Some(progress) = self.leader_mut().and_then(|leader| leader.followers.get_mut(id)) else {
            return;
        };
        progress.sent(sequence, now, Sent::Append { prev: prev.index, last, bytes });
        progress.commit_sent = commit;
        if progress.mode == Mode::Replicate {
            progress.next = last.next();
        }
        let to = progress.peer.clone();
        let request = Request::Append { term, prev, entries, commit };
        let regard = self.regard(id);
        self.out.push(Effect::Send { to, sequence, request, regard });
    }

    fn send_heartbeats(&mut self) {
        let (now, term) = (self.now, self.hard_state.term);
        let regards: Vec<Regard> = self.follower_ids().iter().map(|id| self.regard(id)).collect();
        let RoleState::Leader(leader) = &mut self.role else { return };
        for (progress, regard) in leader.followers.values_mut().zip(regards) {
            if !progress.may_send_heartbeat() {
                continue;
            }
            let sequence = Sequence(self.next_sequence);
            self.next_sequence += 1;
            progress.sent(sequence, now, Sent::Heartbeat);
            let to = progress.peer.clone();
            let request = Request::Heartbeat { term, features: Features::OURS };
            self.out.push(Effect::Send { to, sequence, request, regard });
        }
    }

    pub(super) fn run_leader_timers(&mut self) {
        let now = self.now;
        self.expire_transfer();
        self.begin_restore();
        let Some(leader) = self.leader_mut() else { return };
        if now < leader.heartbeat_due {
            return;
        }
        let interval = self.config.heartbeat_interval;
        let paused_forever = self.mutated(Mutant::PausedForever);
        let told_once = self.mutated(Mutant::CommitToldOnce);
        if let Some(leader) = self.leader_mut() {
            leader.heartbeat_due = now + interval;
            for progress in leader.followers.values_mut() {
                progress.paused &= paused_forever;
                if progress.in_flight().0 == 0 && !told_once {
                    // A heartbeat carries no commit index, and a follower that was restarted has forgotten its own.
                    progress.commit_sent = LogIndex::ZERO;
                }
            }
        }
        self.check_quorum();
        self.send_heartbeats();
        self.replicate_to_all();
        self.continue_catch_up();
    }

    /// Starts a round of heartbeats out of turn, so that a read need not wait for the next one.
    pub(super) fn send_read_round(&mut self) -> Sequence {
        let first = Sequence(self.next_sequence);
        self.send_heartbeats();
        first
    }

    pub(super) fn on_append_response(
        &mut self,
        from: &ServerId,
        sequence: Sequence,
        success: bool,
        last_log: LogIndex,
    ) {
        let newest = Sequence(self.next_sequence);
        let (mutation, now) = (self.mutation, self.now);
        let Some(progress) = self.leader_mut().and_then(|leader| leader.followers.get_mut(from)) else {
            return;
        };
        let answered = progress.answered(sequence);
        if mutation.is(Mutant::OldAnswersConfirmReads) {
            progress.acknowledged = newest;
        }
        if mutation.is(Mutant::ContactWhenAnswered) {
            progress.contact = now;
        }
        match answered {
            Some(Sent::Append { last, .. }) if success => {
                let there = mutation.is(Mutant::MatchesWhatIsThere);
                progress.matched_through(if there { last_log } else { last });
                if progress.mode == Mode::Probe {
                    progress.mode = Mode::Replicate;
                }
                progress.paused = false;
                self.advance_commit();
                self.replicate(from);
                self.continue_transfer(from);
                self.continue_catch_up();
            }
            Some(Sent::Append { prev, .. }) => {
                let next = LogIndex(last_log.0.saturating_add(1)).min(prev).max(LogIndex(1));
                if mutation.is(Mutant::RefusalRewindsMatch) {
                    progress.matched = progress.matched.min(last_log);
                }
                progress.probe_from(if mutation.is(Mutant::NeverGoesBack) { prev.next() } else { next });
                self.replicate(from);
            }
            Some(Sent::Heartbeat) => {
                if mutation.is(Mutant::HeartbeatMatches) {
                    progress.matched_through(last_log);
                }
                // A follower that lost requests without a word is found again here (catalogue R11, R15).
                progress.paused &= mutation.is(Mutant::PausedForever);
                self.replicate(from);
            }
            Some(Sent::Snapshot { .. } | Sent::TimeoutNow) | None => return,
        }
        self.confirm_reads();
    }

    pub(super) fn on_send_failed(&mut self, to: &ServerId, sequence: Sequence) {
        if self.mutated(Mutant::WindowLeaks) {
            return;
        }
        self.on_read_index_failed(to, sequence);
        let waits = self.mutated(Mutant::SnapshotFailureIgnored);
        let Some(progress) = self.leader_mut().and_then(|leader| leader.followers.get_mut(to)) else {
            return;
        };
        match progress.failed(sequence) {
            Some(Sent::Snapshot { .. }) if waits => {}
            Some(sent @ (Sent::Append { .. } | Sent::Snapshot { .. })) => {
                let next = progress.matched.next();
                progress.probe_from(next);
                progress.paused = true;
                if matches!(sent, Sent::Snapshot { .. }) {
                    self.postpone_snapshot(to);
                }
            }
            Some(Sent::TimeoutNow) => self.fail_transfer(),
            Some(Sent::Heartbeat) | None => {}
        }
    }

    /// Commits by counting, own-term entries only (Raft paper, section 5.4.2; catalogue R01). The leader counts itself
    /// for what it has synced (catalogue R06) and only if it is a voter.
    pub(super) fn advance_commit(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        let unsynced = self.mutated(Mutant::CountsItselfUnsynced);
        let durable = if unsynced { self.log.last().index } else { self.writes.durable() };
        let electorate = self.electorate(&[
            Mutant::NonvotersCommit,
            Mutant::JointCommitsByNewOnly,
            Mutant::JointCommitsByOldOnly,
        ]);
        let reached = quorum::reached_by_quorum(&electorate, |server| {
            if server.id == self.me.id || self.counts_unseen(Mutant::CommitsOneShort, &server.id) {
                durable
            } else {
                self.counted(leader, server).map_or(LogIndex::ZERO, |progress| progress.matched)
            }
        });
        let Some(index) = reached else { return };
        let of_this_term =
            self.log.term_at(index) == Some(self.hard_state.term) || self.mutated(Mutant::CommitsOldTerms);
        if index <= self.commit || !of_this_term {
            return;
        }
        let from = self.commit.next();
        let never_freed = self.mutated(Mutant::UncommittedNeverFreed);
        let released: usize = self
            .log
            .iter_from(from)
            .take_while(|entry| entry.id.index <= index)
            .filter(|entry| entry.id.term == self.hard_state.term)
            .map(Entry::size)
            .sum();
        if let Some(leader) = self.leader_mut().filter(|_| !never_freed) {
            leader.uncommitted_bytes = leader.uncommitted_bytes.saturating_sub(released);
        }
        self.commit_through(index);
        self.after_commit();
    }

    fn after_commit(&mut self) {
        let (commit, term) = (self.commit, self.hard_state.term);
        let Some(leader) = self.leader_mut() else { return };
        if !leader.ready && commit >= leader.first {
            leader.ready = true;
            self.out.push(Effect::Notify(Event::Ready { term }));
            self.start_read_round();
        }
        self.finish_restore();
        self.finish_change();
        self.replicate_to_all();
        self.continue_catch_up();
    }
}

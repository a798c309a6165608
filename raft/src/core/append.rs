//! The follower's side of replication.

use raft_types::{EntryId, LogIndex, Term};

use super::io::{Effect, Event, Peer, ReplyToken};
use super::message::{Entry, EntryKind, Features, Response};
use super::mutant::Mutant;
use super::role::RoleState;
use super::{RaftCore, Role};

impl RaftCore {
    /// Takes note of a leader. False if its term is over, or if it cannot lead this term because this server does; the
    /// request is answered then.
    pub(super) fn follow(&mut self, from: Peer, term: Term, reply: ReplyToken, refusal: Response) -> bool {
        if term < self.hard_state.term && !self.mutated(Mutant::OldLeaderObeyed) {
            self.respond_after_hard_state(reply, refusal);
            return false;
        }
        let other = self.leader.as_ref().is_some_and(|leader| leader.id != from.id);
        if term == self.hard_state.term && (other || matches!(self.role, RoleState::Leader(_))) {
            // Two leaders in a term cannot be; whoever says so is not one of us.
            self.out.push(Effect::Ignore { reply });
            return false;
        }
        if term > self.hard_state.term || self.role.role() != Role::Follower {
            self.become_follower(term, Some(from));
        } else {
            self.set_leader(Some(from));
        }
        self.leader_contact = Some(self.now);
        self.reset_election_deadline();
        true
    }

    fn append_refusal(&self, last_log: LogIndex) -> Response {
        self.append_response(false, last_log)
    }

    pub(super) fn append_response(&self, success: bool, last_log: LogIndex) -> Response {
        Response::Append {
            term: self.hard_state.term,
            success,
            last_log,
            features: Features::OURS,
            incarnation: self.hard_state.incarnation,
        }
    }

    pub(super) fn on_heartbeat(&mut self, from: Peer, term: Term, features: Features, reply: ReplyToken) {
        let last_log = self.log.last().index;
        let refusal = self.append_refusal(last_log);
        if self.follow(from, term, reply, refusal) {
            self.follower_reads.features = features;
            let response = self.append_response(true, last_log);
            self.respond_after_hard_state(reply, response);
        }
    }

    pub(super) fn on_append(
        &mut self,
        from: Peer,
        term: Term,
        prev: EntryId,
        entries: Vec<Entry>,
        commit: LogIndex,
        reply: ReplyToken,
    ) {
        let refusal = self.append_refusal(self.log.last().index);
        if !well_formed(term, prev, &entries) {
            self.out.push(Effect::Ignore { reply });
            return;
        }
        if !self.follow(from, term, reply, refusal) {
            return;
        }
        if self.is_storing() {
            // What is acknowledged now could be gone at the next start.
            self.out.push(Effect::Ignore { reply });
            return;
        }
        if self.denies_any(prev, &entries) {
            // This server was left behind with a state that the others do not have; only a newer snapshot helps it.
            self.out.push(Effect::Ignore { reply });
            return;
        }
        let matched = LogIndex(prev.index.0 + entries.len() as u64);
        let Some(entries) = self.after_base(prev, entries) else {
            // All of it is compacted, so committed; as far as that can still be told it is equal.
            self.acknowledge(matched, reply);
            return;
        };
        // Where the request begins before the base, the base takes the place of `prev`: both are committed.
        let skips = prev.index < self.log.base().index && !self.mutated(Mutant::CompactedIsConflict);
        let at = if skips { self.log.base() } else { prev };
        let here = self.log.term_at(at.index);
        if here.is_none() || (here != Some(at.term) && !self.mutated(Mutant::PrevTermUnchecked)) {
            let hint = self.log.conflict_hint(prev, self.commit);
            let refusal = self.append_refusal(hint);
            self.respond_after_hard_state(reply, refusal);
            return;
        }
        if self.is_full_for(&entries) {
            // The commit index comes all the same, for only what is committed can be applied and make room.
            self.commit_through(commit.min(at.index));
            self.out.push(Effect::Ignore { reply });
            return;
        }
        if !self.take_entries(entries) {
            // It contradicts what is committed; no leader of this cluster sends that.
            self.out.push(Effect::Ignore { reply });
            return;
        }
        self.note_agreement();
        let known = if self.mutated(Mutant::CommitsUnmatched) { self.log.last().index } else { matched };
        self.commit_through(commit.min(known));
        self.acknowledge(matched, reply);
    }

    fn denies_any(&self, prev: EntryId, entries: &[Entry]) -> bool {
        let base = self.log.base().index;
        let early = entries.iter().map(|entry| entry.id).take_while(|id| id.index <= base);
        prev.index < base && std::iter::once(prev).chain(early).any(|id| self.denies(id))
    }

    /// Whether there is no memory for more entries after the last one: the state machine or the snapshots do not keep up. The
    /// leader tries again with each heartbeat.
    ///
    /// Only what is committed counts. It makes room by itself, while the rest may need the very next entry to be committed.
    fn is_full_for(&self, entries: &[Entry]) -> bool {
        let news = entries.iter().find(|entry| self.log.term_at(entry.id.index) != Some(entry.id.term));
        news.is_some_and(|entry| entry.id.index > self.log.last().index)
            && self.log.bytes() >= self.config.log_bytes_max
            && self.log.bytes() - self.uncommitted_bytes_here() >= self.config.log_bytes_max
    }

    fn uncommitted_bytes_here(&self) -> usize {
        self.log.iter_from(self.commit.next()).map(Entry::size).sum()
    }

    /// Cuts off what was compacted here; `None` if that is everything.
    fn after_base(&self, prev: EntryId, mut entries: Vec<Entry>) -> Option<Vec<Entry>> {
        let base = self.log.base().index;
        let compacted = usize::try_from(base.ahead_of(prev.index)).unwrap_or(usize::MAX);
        if compacted == 0 || self.mutated(Mutant::CompactedIsAppended) {
            return Some(entries);
        }
        if compacted >= entries.len() {
            return None;
        }
        Some(entries.split_off(compacted))
    }

    /// Adds what is not here yet. Removes entries only where the terms differ, never because a request ends earlier
    /// (catalogue R02). False if committed entries would go.
    fn take_entries(&mut self, entries: Vec<Entry>) -> bool {
        for entry in entries {
            let index = entry.id.index;
            match self.log.term_at(index) {
                Some(term) if term == entry.id.term && !self.mutated(Mutant::TruncatesWhatMatches) => {
                    continue;
                }
                Some(_) if index <= self.commit => return false,
                Some(_) if self.mutated(Mutant::ConflictKept) => continue,
                Some(_) => {
                    self.log.truncate_from(index);
                    if !self.mutated(Mutant::ConfigurationSurvivesTruncation) {
                        self.configurations.truncate_from(index);
                    }
                    self.writes.mark_entries(index);
                    let written = !self.mutated(Mutant::TruncationNotWritten);
                    self.writes.pending().truncate_from = written.then_some(index);
                    self.notify_configuration();
                }
                None => {}
            }
            self.push_entry(entry);
        }
        true
    }

    /// Appends one entry in memory and to the pending write.
    pub(super) fn push_entry(&mut self, entry: Entry) {
        if let EntryKind::Configuration(configuration) = &entry.kind {
            self.configurations.push(entry.id.index, configuration.clone());
            self.notify_configuration();
        }
        self.writes.mark_entries(entry.id.index);
        self.writes.pending().entries.push(entry.clone());
        self.log.push(entry);
    }

    pub(super) fn notify_configuration(&mut self) {
        let index = self.configuration_index();
        self.out.push(Effect::Notify(Event::Configuration { index }));
    }

    /// Answers success once everything through `matched` is durable.
    fn acknowledge(&mut self, matched: LogIndex, reply: ReplyToken) {
        let last_log = self.log.last().index;
        let response = self.append_response(true, last_log);
        let effect = Effect::Respond { reply, response };
        let early = self.mutated(Mutant::AcksBeforeDurable);
        self.out.extend(if early { Some(effect) } else { self.writes.after_entries(matched, effect) });
    }

    pub(super) fn commit_through(&mut self, index: LogIndex) {
        if index > self.commit || self.mutated(Mutant::CommitFalls) {
            self.commit = index;
            self.out.push(Effect::Commit { through: index });
            self.serve_follower_reads();
        }
    }
}

/// Whether the entries follow `prev` one by one and belong to terms that can be (catalogue, bad input 5).
fn well_formed(term: Term, prev: EntryId, entries: &[Entry]) -> bool {
    if prev.index.0.checked_add(entries.len() as u64).is_none() || prev.term > term {
        return false;
    }
    let mut before = prev;
    entries.iter().all(|entry| {
        let follows = entry.id.index == before.index.next()
            && entry.id.term >= before.term
            && entry.id.term > Term(0)
            && entry.id.term <= term;
        before = entry.id;
        follows
    })
}

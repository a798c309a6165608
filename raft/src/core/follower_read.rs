//! Linearizable reads on servers that do not lead: the leader makes a read index for them.
//!
//! The asker sends [`Request::ReadIndex`] to the leader that it follows. The leader treats it as a read of its own (see
//! `read`) and answers with the index; the read is served here once that index is committed here and applied. The token of
//! the round is the leader's; the number of the request is the asker's, so that an answer to an earlier request confirms no
//! later read (catalogue L09). Reads that come while a request is on its way share the next one.
//!
//! Every read ends: confirmed, or refused when the leader changes, the request is lost, the store fails, or its time is
//! up. Only a leader that says that it knows the call is asked: another implementation would close the connection.

use std::collections::VecDeque;

use raft_types::{LogIndex, ServerId, Time};

use super::RaftCore;
use super::io::{Effect, Outcome, Peer, Refusal, ReplyToken, RequestId, Sequence};
use super::message::{Features, Request, Response};
use super::mutant::Mutant;
use super::read::READS_MAX;
use super::role::{Reader, RoleState};

/// What a server asks its leader on behalf of its clients.
#[derive(Debug, Default)]
pub(super) struct FollowerReads {
    /// Not confirmed yet, oldest first.
    waiting: VecDeque<Wait>,
    /// How many of them, from the first, are what the request under way is for.
    asked: usize,
    under_way: Option<Sequence>,
    /// Confirmed at an index that is not committed here yet. Neither indexes nor deadlines decrease.
    behind: VecDeque<(LogIndex, Wait)>,
    /// What the leader that is followed has shown that it can do.
    pub(super) features: Features,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    request: RequestId,
    deadline: Time,
}

impl FollowerReads {
    /// When the first read must end.
    pub(super) fn deadline(&self) -> Time {
        let first = |wait: Option<&Wait>| wait.map_or(Time::NEVER, |wait| wait.deadline);
        first(self.waiting.front()).min(first(self.behind.front().map(|(_, wait)| wait)))
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.behind.len()
    }

    /// Takes the reads of the request under way.
    fn take_asked(&mut self) -> Vec<Wait> {
        self.under_way = None;
        self.waiting.drain(..std::mem::take(&mut self.asked)).collect()
    }

    /// Takes all that are not confirmed.
    fn take_unconfirmed(&mut self) -> Vec<Wait> {
        (self.asked, self.under_way) = (0, None);
        self.waiting.drain(..).collect()
    }

    /// Takes the reads whose index is committed.
    fn take_reached(&mut self, commit: LogIndex) -> Vec<(LogIndex, Wait)> {
        let count = self.behind.iter().take_while(|(index, _)| *index <= commit).count();
        self.behind.drain(..count).collect()
    }

    /// Takes the reads whose time is up.
    fn take_expired(&mut self, now: Time) -> Vec<Wait> {
        let due = |wait: &&Wait| wait.deadline <= now;
        let count = self.waiting.iter().take_while(due).count();
        self.asked = self.asked.saturating_sub(count);
        if self.asked == 0 {
            // Nobody waits for that answer any more.
            self.under_way = None;
        }
        let mut expired: Vec<Wait> = self.waiting.drain(..count).collect();
        let count = self.behind.iter().take_while(|(_, wait)| due(&wait)).count();
        expired.extend(self.behind.drain(..count).map(|(_, wait)| wait));
        expired
    }
}

impl RaftCore {
    /// A client reads here, and this server does not lead.
    pub(super) fn ask_leader_to_read(&mut self, request: RequestId) {
        let Some(leader) = self.leader.clone() else {
            let refusal = self.not_leader();
            return self.refuse(request, refusal);
        };
        if !self.follower_reads.features.contains(Features::READ_INDEX) {
            return self.refuse(request, Refusal::ReadNotSpoken { leader });
        }
        if self.follower_reads.len() >= READS_MAX {
            return self.refuse(request, Refusal::Overloaded);
        }
        // A leader that cannot confirm anything gives up within an election timeout; what it saw needs as long to get here.
        let limit = self.now + self.config.election_timeout * 2;
        let before = self.follower_reads.waiting.back().map_or(Time::ZERO, |wait| wait.deadline);
        let wait = Wait { request, deadline: limit.max(before) };
        self.follower_reads.waiting.push_back(wait);
        if self.mutated(Mutant::FollowerReadJoinsOldRequest) && self.follower_reads.under_way.is_some() {
            self.follower_reads.asked += 1;
        }
        self.ask_for_read_index(&leader);
    }

    /// Sends a request for all reads that wait, unless one is under way.
    fn ask_for_read_index(&mut self, leader: &Peer) {
        if self.follower_reads.under_way.is_some() || self.follower_reads.waiting.is_empty() {
            return;
        }
        let sequence = self.take_sequence();
        self.follower_reads.under_way = Some(sequence);
        self.follower_reads.asked = self.follower_reads.waiting.len();
        let (request, regard) = (Request::ReadIndex, self.regard(&leader.id));
        self.out.push(Effect::Send { to: leader.clone(), sequence, request, regard });
    }

    fn ask_again(&mut self) {
        if let Some(leader) = self.leader.clone().filter(|leader| leader.id != self.me.id) {
            self.ask_for_read_index(&leader);
        }
    }

    /// Whether this is the answer, or the end, of the request under way.
    fn is_under_way(&self, from: &ServerId, sequence: Sequence) -> bool {
        let of_the_leader = self.leader.as_ref().is_some_and(|leader| leader.id == *from);
        match self.follower_reads.under_way {
            Some(_) if self.mutated(Mutant::OldReadIndexAccepted) => true,
            Some(expected) => expected == sequence && of_the_leader,
            None => false,
        }
    }

    pub(super) fn on_read_index_response(
        &mut self,
        from: &ServerId,
        sequence: Sequence,
        index: Option<LogIndex>,
    ) {
        if !self.is_under_way(from, sequence) {
            return;
        }
        let asked = self.follower_reads.take_asked();
        match index {
            // Below an installed snapshot the index is of a state that is gone, for another one that no quorum may have.
            Some(index) if index >= self.installed || self.mutated(Mutant::ReadsOutliveSnapshot) => {
                self.confirm_follower_reads(index, asked);
            }
            Some(_) | None => self.refuse_reads(asked, &Refusal::ReadUnconfirmed),
        }
        self.ask_again();
    }

    fn confirm_follower_reads(&mut self, index: LogIndex, asked: Vec<Wait>) {
        let index = if self.mutated(Mutant::ReadAtOwnCommit) { self.commit } else { index };
        let last = self.follower_reads.behind.back().map(|(index, wait)| (*index, wait.deadline));
        let (at, until) = last.unwrap_or((LogIndex::ZERO, Time::ZERO));
        let behind = asked.into_iter().map(|Wait { request, deadline }| {
            (index.max(at), Wait { request, deadline: deadline.max(until) })
        });
        self.follower_reads.behind.extend(behind);
        self.serve_follower_reads();
    }

    /// Hands over the reads whose index is committed here; the driver has them wait until it is applied. An index says nothing
    /// about a state that may not be of the leader's history.
    pub(super) fn serve_follower_reads(&mut self) {
        if !self.agrees() {
            return;
        }
        for (index, wait) in self.follower_reads.take_reached(self.commit) {
            self.out.push(Effect::Resolve { request: wait.request, outcome: Outcome::Read { index } });
        }
    }

    /// A snapshot takes the place of the state for which these reads were confirmed. It may be one from outside that no quorum
    /// has yet, so it says nothing about the index.
    pub(super) fn drop_overtaken_reads(&mut self) {
        if !self.mutated(Mutant::ReadsOutliveSnapshot) {
            let overtaken = self.follower_reads.take_reached(self.installed);
            self.refuse_reads(
                overtaken.into_iter().map(|(_, wait)| wait).collect(),
                &Refusal::ReadUnconfirmed,
            );
        }
    }

    pub(super) fn on_read_index_failed(&mut self, to: &ServerId, sequence: Sequence) {
        if self.is_under_way(to, sequence) {
            let asked = self.follower_reads.take_asked();
            self.refuse_reads(asked, &Refusal::ReadUnconfirmed);
            self.ask_again();
        }
    }

    pub(super) fn expire_follower_reads(&mut self) {
        if self.follower_reads.deadline() > self.now {
            return;
        }
        let expired = self.follower_reads.take_expired(self.now);
        self.refuse_reads(expired, &Refusal::ReadUnconfirmed);
        self.ask_again();
    }

    /// Another leader is followed, or none. What is confirmed already stays: it holds whoever leads.
    pub(super) fn forget_asked_leader(&mut self) {
        self.follower_reads.features = Features::default();
        let unconfirmed = self.follower_reads.take_unconfirmed();
        self.refuse_reads(unconfirmed, &Refusal::NotLeader { leader: None });
    }

    /// The store failed: nothing more will be committed here.
    pub(super) fn abandon_follower_reads(&mut self) {
        self.forget_asked_leader();
        let behind = std::mem::take(&mut self.follower_reads.behind);
        self.refuse_reads(behind.into_iter().map(|(_, wait)| wait).collect(), &Refusal::StorageFailed);
    }

    fn refuse_reads(&mut self, reads: Vec<Wait>, refusal: &Refusal) {
        let forgotten = self.mutated(Mutant::FollowerReadsForgotten);
        for wait in reads.into_iter().filter(|_| !forgotten) {
            self.refuse(wait.request, refusal.clone());
        }
    }

    /// A follower asks for a read index: a read like those of the own clients, told to another.
    pub(super) fn on_read_index(&mut self, reply: ReplyToken) {
        let leads = matches!(self.role, RoleState::Leader(_));
        if leads && self.mutated(Mutant::ReadIndexUnconfirmed) {
            let index = Some(self.commit);
            let response = Response::ReadIndex { term: self.hard_state.term, index };
            self.out.push(Effect::Respond { reply, response });
        } else if !leads || !self.queue_read(Reader::Peer(reply)) {
            self.answer_read_index(reply, None);
        }
    }

    pub(super) fn answer_read_index(&mut self, reply: ReplyToken, index: Option<LogIndex>) {
        let response = Response::ReadIndex { term: self.hard_state.term, index };
        self.respond_after_hard_state(reply, response);
    }
}

#[cfg(test)]
mod tests;

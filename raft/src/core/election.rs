//! Becoming and ceasing to be leader: pre-vote, votes, check-quorum.
//!
//! Votes are judged by term and log alone, not by this server's view of the configuration: a voter may not know yet
//! that it is one (catalogue E11, Raft dissertation section 4.1). Removed servers are kept quiet by pre-vote and by the
//! rule that a server which hears a leader grants nothing.

use std::time::Duration;

use raft_types::{Configuration, EntryId, Incarnation, Server, ServerId, Term, Time};
use rand::RngExt;

use super::io::{Effect, Event, Outcome, Peer, Refusal, ReplyToken, Sequence};
use super::message::{EntryKind, Request, Response};
use super::mutant::Mutant;
use super::progress::Progress;
use super::quorum;
use super::role::{Candidate, Leader, Reader, RoleState};
use super::{Input, RaftCore};

impl RaftCore {
    pub(super) fn reset_election_deadline(&mut self) {
        let base = u64::try_from(self.config.election_timeout.as_nanos()).unwrap_or(u64::MAX / 2);
        let extra = self.rng.random_range(0..=base);
        self.election_deadline = self.now + Duration::from_nanos(base.saturating_add(extra));
    }

    pub(super) fn run_timers(&mut self) {
        self.expire_follower_reads();
        if matches!(self.role, RoleState::Leader(_)) {
            self.run_leader_timers();
        } else if self.now >= self.election_deadline {
            self.start_election();
        }
    }

    pub(super) fn on_campaign(&mut self) {
        if !matches!(self.role, RoleState::Leader(_)) {
            self.start_election();
        }
    }

    pub(super) fn on_forget_leader(&mut self) {
        if !matches!(self.role, RoleState::Leader(_)) && !self.config.lease_reads {
            self.set_leader(None);
            self.leader_contact = None;
        }
    }

    fn start_election(&mut self) {
        self.reset_election_deadline();
        if !self.mutated(Mutant::LeaderRemembered) {
            self.set_leader(None);
            self.leader_contact = None;
        }
        if !self.may_campaign() {
            return;
        }
        if self.config.pre_vote {
            self.ask_for_votes(true, false);
        } else {
            self.campaign(false);
        }
    }

    /// Whether this server may ask for votes: it is a voter, or was one before a change that is not committed and that it may
    /// have to bring about itself (Raft dissertation, section 4.2.2; catalogue M08).
    pub(super) fn may_campaign(&self) -> bool {
        let before = self.configurations.at(self.configuration_index().previous()).1;
        let undecided = self.configuration_index() > self.commit
            && self.votes_in(before)
            && !self.mutated(Mutant::UndecidedRemovalBars);
        let may = self.votes_in(self.configuration()) || undecided || self.mutated(Mutant::NonvoterCampaigns);
        may && !self.disk_stalled() && !self.is_storing()
    }

    /// Whether a configuration gives a vote to this life of this server. Another life's is not its to use (catalogue M07).
    pub(super) fn votes_in(&self, configuration: &Configuration) -> bool {
        configuration.is_voter_as(&self.me.id, self.hard_state.incarnation)
            || (self.mutated(Mutant::ActsOnOlderLife) && configuration.is_voter(&self.me.id))
    }

    /// Whether the oldest unfinished write is older than the limit (catalogue D03).
    pub(super) fn disk_stalled(&self) -> bool {
        self.writes.oldest().is_some_and(|since| self.now.since(since) > self.config.disk_stall_limit)
    }

    /// Enters the next term and votes for itself. The requests leave once both are durable (catalogue E02, E03).
    pub(super) fn campaign(&mut self, transfer: bool) {
        let term = self.hard_state.term.next();
        let own = (!self.mutated(Mutant::OwnVoteNotRecorded)).then(|| self.me.id.clone());
        self.enter_term(term, own);
        self.set_leader(None);
        self.reset_election_deadline();
        self.ask_for_votes(false, transfer);
        self.count_own_vote();
    }

    fn ask_for_votes(&mut self, pre_vote: bool, transfer: bool) {
        let mut candidate = Candidate { pre_vote, ..Candidate::default() };
        let last = self.log.last();
        let term = self.hard_state.term;
        let others: Vec<Peer> = self.other_voters().collect();
        for to in others {
            let sequence = self.take_sequence();
            candidate.asked.insert(sequence, to.id.clone());
            let request = if pre_vote {
                Request::PreVote { term: term.next(), last }
            } else {
                Request::Vote { term, last, transfer }
            };
            let regard = self.regard(&to.id);
            let effect = Effect::Send { to, sequence, request, regard };
            let early = self.mutated(Mutant::AsksBeforeDurable);
            self.out.extend(if early { Some(effect) } else { self.writes.after_hard_state(effect) });
        }
        if pre_vote {
            candidate.granted.insert(self.me.id.clone(), self.hard_state.incarnation);
        }
        let was = self.role.role();
        self.role = RoleState::Candidate(candidate);
        if was != self.role.role() || !pre_vote {
            self.notify_role();
        }
        self.count_votes();
    }

    fn other_voters(&self) -> impl Iterator<Item = Peer> {
        self.configuration()
            .everyone()
            .filter(|server| server.id != self.me.id && self.configuration().is_voter(&server.id))
            .map(|server| Peer { id: server.id.clone(), address: server.address.clone() })
    }

    /// A candidate's vote for itself counts once it is durable.
    pub(super) fn count_own_vote(&mut self) {
        let durable = self.writes.hard_state_durable();
        let own = self.hard_state.incarnation;
        if let RoleState::Candidate(candidate) = &mut self.role
            && !candidate.pre_vote
            && durable
            && candidate.granted.insert(self.me.id.clone(), own).is_none()
        {
            self.count_votes();
        }
    }

    fn count_votes(&mut self) {
        let RoleState::Candidate(candidate) = &self.role else { return };
        let granted = |server: &Server| {
            let by = candidate.granted.get(&server.id);
            by.is_some_and(|by| *by == server.incarnation || self.mutated(Mutant::IncarnationIgnored))
                || self.counts_unseen(Mutant::ElectedOneShort, &server.id)
        };
        let electorate = self.electorate(&[Mutant::JointElectedByNewOnly, Mutant::JointElectedByOldOnly]);
        if !quorum::has_quorum(&electorate, granted) {
            return;
        }
        if candidate.pre_vote {
            self.campaign(false);
        } else {
            self.become_leader();
        }
    }

    fn become_leader(&mut self) {
        let last = self.log.last().index;
        let followers = self
            .configuration()
            .everyone()
            .filter(|server| server.id != self.me.id)
            .map(|server| {
                let peer = Peer { id: server.id.clone(), address: server.address.clone() };
                (server.id.clone(), Progress::new(peer, last.next(), self.now))
            })
            .collect();
        self.role = RoleState::Leader(Box::new(Leader {
            followers,
            first: last.next(),
            ready: false,
            heartbeat_due: self.now,
            uncommitted_bytes: 0,
            change: None,
            joining: Vec::new(),
            catch_up: None,
            transfer: None,
            restore_asked: None,
            restoring: None,
            reads: std::collections::VecDeque::new(),
            read_round: None,
            lease_void: false,
            lease_told: Time::ZERO,
        }));
        self.leader_contact = None;
        self.set_leader(Some(self.me.clone()));
        self.notify_role();
        if !self.mutated(Mutant::NoEntryOfOwnTerm) {
            self.append_own(EntryKind::Noop, bytes::Bytes::new(), bytes::Bytes::new());
        }
        self.run_leader_timers();
        self.advance_commit();
    }

    /// Follows `leader` in `term`, which is at least the present one.
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<Peer>) {
        let was = self.role.role();
        let before = self.hard_state.term;
        let old = std::mem::replace(&mut self.role, RoleState::Follower);
        if let RoleState::Leader(old) = old {
            self.leave_leadership(*old, term > before);
        }
        if term > before {
            self.enter_term(term, None);
            self.set_leader(None);
        } else if was == super::Role::Candidate && self.mutated(Mutant::VoteForgottenOnStepDown) {
            self.save_vote(None);
        }
        if leader.is_some() || was == super::Role::Leader {
            self.set_leader(leader);
        }
        if was != super::Role::Follower {
            self.reset_election_deadline();
        }
        if was != super::Role::Follower || term > before {
            self.notify_role();
        }
    }

    fn leave_leadership(&mut self, old: Leader, newer_term: bool) {
        if !self.mutated(Mutant::ProposalsForgotten) {
            self.out.push(Effect::Abandon { from: self.commit.next() });
        }
        self.witness(&old);
        for joining in &old.joining {
            self.refuse(joining.request, Refusal::LeadershipLost);
        }
        if let Some((request, _)) = old.change.filter(|_| !self.mutated(Mutant::ChangeForgotten)) {
            self.refuse(request, Refusal::LeadershipLost);
        }
        if let Some((request, _)) = old.restore_asked {
            self.refuse(request, Refusal::NotLeader { leader: None });
        }
        let restoring = old.restoring.map(|restoring| restoring.request);
        for request in restoring.into_iter().chain(old.catch_up.map(|catch_up| catch_up.request)) {
            self.refuse(request, Refusal::LeadershipLost);
        }
        let forgotten = self.mutated(Mutant::ReadsForgotten);
        for read in old.reads.into_iter().filter(|_| !forgotten) {
            match read.reader {
                Reader::Client(request) => self.refuse(request, Refusal::NotLeader { leader: None }),
                Reader::Peer(reply) => self.answer_read_index(reply, None),
            }
        }
        if let Some(transfer) = old.transfer.filter(|_| !self.mutated(Mutant::TransferForgotten)) {
            let outcome =
                if newer_term { Outcome::Transferred } else { Outcome::Refused(Refusal::TransferFailed) };
            self.out.push(Effect::Resolve { request: transfer.request, outcome });
        }
    }

    /// Makes a new term and vote pending. What waited to be said in the old term is not said any more.
    fn enter_term(&mut self, term: Term, voted_for: Option<ServerId>) {
        debug_assert!(term > self.hard_state.term);
        self.hard_state.term = term;
        self.save_vote(voted_for);
        self.leader_contact = None;
        let (last_log, incarnation) = (self.log.last().index, self.hard_state.incarnation);
        for effect in self.writes.take_held() {
            let (reply, response) = match effect {
                other if self.mutated(Mutant::OldAnswersSurvive) => {
                    self.out.extend(self.writes.after_entries(last_log, other));
                    continue;
                }
                Effect::Respond { reply, response: Response::Append { .. } } => {
                    (reply, self.append_response(false, last_log))
                }
                Effect::Respond { reply, response: Response::Vote { .. } } => {
                    (reply, Response::Vote { term, granted: false, incarnation })
                }
                Effect::Respond { reply, response: Response::InstallSnapshot { .. } } => {
                    (reply, Response::InstallSnapshot { term, success: false, incarnation })
                }
                Effect::Respond { reply, response: Response::ReadIndex { .. } } => {
                    (reply, Response::ReadIndex { term, index: None })
                }
                // Campaigns of older terms are over.
                Effect::Send { .. } => continue,
                other => {
                    self.out.extend(self.writes.after_entries(last_log, other));
                    continue;
                }
            };
            self.respond_after_hard_state(reply, response);
        }
    }

    pub(super) fn save_vote(&mut self, voted_for: Option<ServerId>) {
        self.hard_state.voted_for = voted_for;
        let hard_state = self.hard_state.clone();
        let written = !self.mutated(Mutant::VoteNotWritten);
        self.writes.pending().hard_state = written.then_some(hard_state);
        self.writes.mark_hard_state();
    }

    pub(super) fn set_leader(&mut self, leader: Option<Peer>) {
        if self.leader != leader {
            self.leader.clone_from(&leader);
            self.forget_asked_leader();
            self.out.push(Effect::Notify(Event::Leader { leader }));
        }
    }

    fn notify_role(&mut self) {
        let (role, term) = (self.role.role(), self.hard_state.term);
        self.out.push(Effect::Notify(Event::Role { role, term }));
    }

    /// Whether a leader other than `asker` was heard less than an election timeout ago. Remembered by time, so that the
    /// memory of a dead leader blocks nobody (catalogue E09).
    ///
    /// After a restart a server cannot know whom it heard; where leases are in use it is bound for as long as one may
    /// last (catalogue E15, L06).
    fn bound_to_another_leader(&self, asker: &Peer) -> bool {
        if self.now < self.vote_after && !self.mutated(Mutant::LeaseForgottenAtRestart) {
            return true;
        }
        match &self.role {
            _ if self.mutated(Mutant::LiveLeaderDeposed) => false,
            RoleState::Leader(_) => true,
            RoleState::Follower | RoleState::Candidate(_) => {
                self.leader.as_ref().is_some_and(|leader| leader.id != asker.id)
                    && self.leader_contact.is_some_and(|contact| {
                        self.now.since(contact) < self.config.election_timeout
                            || self.mutated(Mutant::LeaderRemembered)
                    })
            }
        }
    }

    pub(super) fn on_pre_vote(
        &mut self,
        from: &Peer,
        term: Term,
        last: EntryId,
        eligible: bool,
        reply: ReplyToken,
    ) {
        if term > self.hard_state.term && self.mutated(Mutant::PreVoteMovesTerm) {
            self.become_follower(term, None);
        }
        let up_to_date = last >= self.log.last() || self.mutated(Mutant::PreVoteIgnoresLog);
        let granted =
            eligible && term >= self.hard_state.term && up_to_date && !self.bound_to_another_leader(from);
        let incarnation = self.hard_state.incarnation;
        let response = Response::PreVote { term: self.hard_state.term, granted, incarnation };
        self.respond_after_hard_state(reply, response);
    }

    /// Refuses a vote and changes nothing.
    pub(super) fn refuse_vote(&mut self, reply: ReplyToken) {
        let incarnation = self.hard_state.incarnation;
        let response = Response::Vote { term: self.hard_state.term, granted: false, incarnation };
        self.respond_after_hard_state(reply, response);
    }

    pub(super) fn on_vote(
        &mut self,
        from: &Peer,
        term: Term,
        last: EntryId,
        transfer: bool,
        reply: ReplyToken,
    ) {
        let stale = (term < self.hard_state.term && !self.mutated(Mutant::OldCandidateGranted))
            || (self.mutated(Mutant::OnlyKnownVotersGranted) && !self.configuration().is_voter(&from.id));
        // Whoever a leader hands over to campaigns in the very next term, and is one of its voters.
        let handed_over =
            transfer && term == self.hard_state.term.next() && self.configuration().is_voter(&from.id);
        if stale || (!handed_over && self.bound_to_another_leader(from)) {
            self.refuse_vote(reply);
            return;
        }
        if term > self.hard_state.term && !self.mutated(Mutant::VoteKeepsOldTerm) {
            self.become_follower(term, None);
        }
        let free = self.mutated(Mutant::VotesTwice)
            || self.hard_state.voted_for.as_ref().is_none_or(|id| *id == from.id);
        let granted = free && self.is_up_to_date(last) && !matches!(self.role, RoleState::Leader(_));
        if granted {
            if self.hard_state.voted_for.is_none() {
                self.save_vote(Some(from.id.clone()));
            }
            self.reset_election_deadline();
        }
        let incarnation = self.hard_state.incarnation;
        let response = Response::Vote { term: self.hard_state.term, granted, incarnation };
        self.respond_after_hard_state(reply, response);
    }

    /// Whether a candidate whose log ends like this holds everything that this server does (Raft paper, section 5.4.1).
    fn is_up_to_date(&self, last: EntryId) -> bool {
        let own = self.log.last();
        match () {
            () if self.mutated(Mutant::VoteIgnoresLog) => true,
            () if self.mutated(Mutant::LongerLogWins) => last.index >= own.index,
            () if self.mutated(Mutant::NewerTermWins) => last.term >= own.term,
            () => last >= own,
        }
    }

    pub(super) fn on_pre_vote_response(
        &mut self,
        from: &ServerId,
        sequence: Sequence,
        term: Term,
        granted: bool,
        incarnation: Incarnation,
    ) {
        if term > self.hard_state.term.next() {
            self.become_follower(term, None);
        } else if granted {
            self.count_grant(from, sequence, true, incarnation);
        }
    }

    pub(super) fn on_vote_response(
        &mut self,
        from: &ServerId,
        sequence: Sequence,
        granted: bool,
        incarnation: Incarnation,
    ) {
        if granted || self.mutated(Mutant::RefusalsCount) {
            self.count_grant(from, sequence, false, incarnation);
        }
    }

    fn count_grant(&mut self, from: &ServerId, sequence: Sequence, pre_vote: bool, incarnation: Incarnation) {
        let RoleState::Candidate(candidate) = &mut self.role else { return };
        let same_kind = candidate.pre_vote == pre_vote || self.mutation.is(Mutant::PreVotesCountAsVotes);
        let any_round =
            self.mutation.is(Mutant::OldVotesCount) || self.mutation.is(Mutant::PreVotesCountAsVotes);
        if same_kind && (any_round || candidate.asked.get(&sequence) == Some(from)) {
            candidate.granted.insert(from.clone(), incarnation);
            self.count_votes();
        }
    }

    /// Steps down when a quorum has not answered anything sent within an election timeout (check-quorum), or when the
    /// disk stalls.
    pub(super) fn check_quorum(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        let now = self.now;
        let electorate = self.electorate(&[Mutant::NonvotersKeepLeader, Mutant::JointQuorumOfNewOnly]);
        let contact = quorum::reached_by_quorum(&electorate, |server| {
            if server.id == self.me.id || self.counts_unseen(Mutant::CheckQuorumOneShort, &server.id) {
                return now;
            }
            self.counted(leader, server).map_or(Time::ZERO, |progress| progress.contact)
        });
        let lost = contact.is_none_or(|contact| {
            now.since(contact) > self.config.leader_lease_timeout.unwrap_or(self.config.election_timeout)
        });
        if (lost && !self.mutated(Mutant::NoCheckQuorum)) || self.disk_stalled() {
            self.become_follower(self.hard_state.term, None);
        }
    }

    pub(super) fn on_storage_failed(&mut self) {
        if self.mutated(Mutant::StorageFailureIgnored) {
            return;
        }
        self.storage_failed = true;
        self.become_follower(self.hard_state.term, None);
        self.abandon_follower_reads();
        for effect in self.writes.take_held() {
            match effect {
                Effect::Respond { reply, .. } => self.out.push(Effect::Ignore { reply }),
                Effect::Resolve { request, .. } => self.refuse(request, Refusal::StorageFailed),
                _ => {}
            }
        }
    }

    pub(super) fn refuse_everything(&mut self, input: &Input) {
        match input {
            Input::Request { reply, .. } => self.out.push(Effect::Ignore { reply: *reply }),
            Input::Bootstrap { request, .. }
            | Input::Propose { request, .. }
            | Input::Barrier { request }
            | Input::Read { request }
            | Input::VerifyLeader { request }
            | Input::LeaseRead { request }
            | Input::Change { request, .. }
            | Input::ChangeMembership { request, .. }
            | Input::AddVoter { request, .. }
            | Input::BeginRestore { request, .. }
            | Input::RestoreStored { request, .. }
            | Input::Transfer { request, .. } => self.refuse(*request, Refusal::StorageFailed),
            Input::Applied { index } => self.applied = self.applied.max(*index),
            Input::Tick
            | Input::Response { .. }
            | Input::SendFailed { .. }
            | Input::Persisted { .. }
            | Input::Campaign
            | Input::ForgetLeader
            | Input::StorageFailed
            | Input::SnapshotTaken { .. } => {}
        }
    }
}

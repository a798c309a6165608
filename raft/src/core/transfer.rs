//! Handing leadership over (Raft dissertation, section 3.10).

use raft_types::{ServerId, Term};

use super::RaftCore;
use super::io::{Effect, Outcome, Peer, Refusal, ReplyToken, RequestId, Sequence};
use super::message::{Request, Response};
use super::mutant::Mutant;
use super::progress::Sent;
use super::role::{RoleState, Transfer};

impl RaftCore {
    pub(super) fn on_transfer(&mut self, request: RequestId, to: Option<ServerId>) {
        let RoleState::Leader(leader) = &self.role else {
            let refusal = self.not_leader();
            self.refuse(request, refusal);
            return;
        };
        if leader.transfer.is_some() {
            self.refuse(request, Refusal::TransferInProgress);
            return;
        }
        if self.is_restoring() {
            self.refuse(request, Refusal::RestoreInProgress);
            return;
        }
        let target = to.or_else(|| self.best_voter());
        let has_vote =
            |id: &ServerId| self.configuration().is_voter(id) || self.mutated(Mutant::TransfersToAnybody);
        let valid = |id: &ServerId| *id != self.me.id && has_vote(id);
        let Some(target) = target.filter(valid) else {
            self.refuse(request, Refusal::InvalidTarget);
            return;
        };
        let deadline = self.now + self.config.election_timeout;
        if let Some(leader) = self.leader_mut() {
            leader.transfer = Some(Transfer { request, target: target.clone(), deadline, told: false });
        }
        self.replicate(&target);
        self.continue_transfer(&target);
    }

    /// Tells the target to campaign once it has everything. From the start of a transfer nothing is appended, so it
    /// catches up (catalogue L01).
    pub(super) fn continue_transfer(&mut self, from: &ServerId) {
        let last = self.log.last().index;
        let too_early = self.mutated(Mutant::TransfersTooEarly);
        let Some(leader) = self.leader_mut() else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let caught_up =
            too_early || leader.followers.get(from).is_some_and(|progress| progress.matched == last);
        if transfer.target == *from && !transfer.told && caught_up {
            transfer.told = true;
            self.send_timeout_now(from);
        }
    }

    pub(super) fn send_timeout_now(&mut self, to: &ServerId) {
        let sequence = self.take_sequence();
        let (now, term) = (self.now, self.hard_state.term);
        let Some(leader) = self.leader_mut() else { return };
        leader.lease_void = true;
        let Some(progress) = leader.followers.get_mut(to) else { return };
        progress.sent(sequence, now, Sent::TimeoutNow);
        let to = progress.peer.clone();
        let request = Request::TimeoutNow { term: Some(term) };
        let regard = self.regard(&to.id);
        self.out.push(Effect::Send { to, sequence, request, regard });
    }

    pub(super) fn expire_transfer(&mut self) {
        let now = self.now;
        let due =
            |leader: &mut super::role::Leader| leader.transfer.as_ref().is_some_and(|t| now >= t.deadline);
        if self.leader_mut().is_some_and(due) && !self.mutated(Mutant::TransferNeverEnds) {
            self.fail_transfer();
        }
    }

    /// A target that took part in the old side of a joint configuration only may not lead any more once that is left.
    pub(super) fn fail_transfer_to_nonvoter(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        if leader.transfer.as_ref().is_some_and(|transfer| !self.configuration().is_voter(&transfer.target)) {
            self.fail_transfer();
        }
    }

    pub(super) fn fail_transfer(&mut self) {
        if let Some(transfer) = self.leader_mut().and_then(|leader| leader.transfer.take()) {
            let outcome = Outcome::Refused(Refusal::TransferFailed);
            self.out.push(Effect::Resolve { request: transfer.request, outcome });
        }
    }

    pub(super) fn on_timeout_now_response(&mut self, from: &ServerId, sequence: Sequence) {
        if let Some(progress) = self.leader_mut().and_then(|leader| leader.followers.get_mut(from)) {
            progress.answered(sequence);
        }
    }

    /// Campaigns without asking first, if it is the leader that says so, in this term, and this server may lead
    /// (catalogue E18).
    pub(super) fn on_timeout_now(&mut self, from: &Peer, term: Option<Term>, reply: ReplyToken) {
        let of_this_term =
            term.is_none_or(|term| term == self.hard_state.term) || self.mutated(Mutant::OldTimeoutNowObeyed);
        let of_the_leader = self.leader.as_ref().is_some_and(|leader| leader.id == from.id)
            || self.mutated(Mutant::AnybodysTimeoutNowObeyed);
        if of_this_term && of_the_leader && self.may_campaign() && !matches!(self.role, RoleState::Leader(_))
        {
            self.out.push(Effect::Respond { reply, response: Response::TimeoutNow });
            self.campaign(true);
        } else {
            self.out.push(Effect::Ignore { reply });
        }
    }
}

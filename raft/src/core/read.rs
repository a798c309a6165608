//! Linearizable reads by read index (Raft dissertation, section 6.4): the leader notes its commit index, makes sure that
//! it still leads, and serves the read once that index is applied.
//!
//! A round is confirmed only by answers to requests sent after the read came, told apart by numbers that the leader
//! makes (catalogue L09). All reads that come during a round share the next one.

use raft_types::Time;

use super::RaftCore;
use super::io::{Effect, Outcome, Refusal, RequestId, Sequence};
use super::mutant::Mutant;
use super::quorum;
use super::role::{PendingRead, Reader, RoleState};

/// Reads that may wait for confirmation at a time.
pub(super) const READS_MAX: usize = 65_536;

impl RaftCore {
    pub(super) fn on_read(&mut self, request: RequestId) {
        if matches!(self.role, RoleState::Leader(_)) {
            self.on_verify_leader(request);
        } else {
            self.ask_leader_to_read(request);
        }
    }

    pub(super) fn on_verify_leader(&mut self, request: RequestId) {
        if !matches!(self.role, RoleState::Leader(_)) {
            let refusal = self.not_leader();
            self.refuse(request, refusal);
        } else if self.mutated(Mutant::ReadsUnconfirmed) {
            let outcome = Outcome::Read { index: self.commit };
            self.out.push(Effect::Resolve { request, outcome });
        } else if !self.queue_read(Reader::Client(request)) {
            self.refuse(request, Refusal::Overloaded);
        }
    }

    /// Has a read wait for a round that starts after now. False if too many wait, or if this server does not lead.
    pub(super) fn queue_read(&mut self, reader: Reader) -> bool {
        let (index, mutation) = (self.commit, self.mutation);
        let Some(leader) = self.leader_mut().filter(|leader| leader.reads.len() < READS_MAX) else {
            return false;
        };
        let after = leader.read_round.filter(|_| mutation.is(Mutant::ReadJoinsOldRound));
        leader.reads.push_back(PendingRead { reader, index, after });
        self.start_read_round();
        true
    }

    pub(super) fn on_lease_read(&mut self, request: RequestId) {
        match self.lease_until() {
            Some(until) if until > self.now => {
                if let Some(leader) = self.leader_mut() {
                    leader.lease_told = leader.lease_told.max(until);
                }
                let outcome = Outcome::LeaseRead { index: self.commit, until };
                self.out.push(Effect::Resolve { request, outcome });
            }
            _ => self.on_read(request),
        }
    }

    /// Until when nobody else can lead: an election timeout, shortened by what clocks may drift, from when the newest
    /// requests that a quorum has answered were **sent** (catalogue L05).
    pub(super) fn lease_until(&self) -> Option<Time> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let ready = leader.ready || self.mutated(Mutant::LeaseBeforeReady);
        let given_up =
            (leader.lease_void || leader.transfer.is_some()) && !self.mutated(Mutant::LeaseOutlivesTransfer);
        let restores = self.awaits_restore() && !self.mutated(Mutant::RestoreBesideLease);
        let usable = self.config.lease_reads && ready && !given_up && !restores;
        if !usable || self.disk_stalled() {
            return None;
        }
        let electorate = self.electorate(&[Mutant::JointLeaseByNewOnly]);
        let sent = quorum::reached_by_quorum(&electorate, |server| {
            if server.id == self.me.id || self.counts_unseen(Mutant::LeaseOneShort, &server.id) {
                return self.now;
            }
            let heard = self.counted(leader, server).filter(|progress| progress.acknowledged > Sequence(0));
            heard.map_or(Time::ZERO, |progress| progress.contact)
        })?;
        let drift = self.config.clock_drift_permille;
        if self.mutated(Mutant::LeaseTooLong) {
            return Some(sent + self.config.election_timeout * 2);
        }
        let lease = self.config.election_timeout * (1000 - drift) / (1000 + drift);
        (sent > Time::ZERO).then(|| sent + lease)
    }

    /// Starts a round for the reads that belong to none, unless one is under way. Before the first own entry is
    /// committed, the commit index may be behind what was acknowledged, so reads wait (catalogue L08).
    pub(super) fn start_read_round(&mut self) {
        let commit = self.commit;
        let too_old = self.mutated(Mutant::ReadIndexTooOld);
        let not_ready = !self.is_ready() && !self.mutated(Mutant::ReadsBeforeReady);
        let Some(leader) = self.leader_mut() else { return };
        let waiting = leader.reads.iter().any(|read| read.after.is_none());
        if not_ready || leader.read_round.is_some() || !waiting {
            return;
        }
        let first = self.send_read_round();
        if let Some(leader) = self.leader_mut() {
            leader.read_round = Some(first);
            for read in leader.reads.iter_mut().filter(|read| read.after.is_none()) {
                read.after = Some(first);
                read.index = if too_old { read.index } else { read.index.max(commit) };
            }
        }
        self.confirm_reads();
    }

    pub(super) fn confirm_reads(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        let Some(round) = leader.read_round else { return };
        let electorate = self.electorate(&[Mutant::NonvotersConfirmReads, Mutant::JointReadsByNewOnly]);
        let confirmed = quorum::reached_by_quorum(&electorate, |server| {
            if server.id == self.me.id || self.counts_unseen(Mutant::ReadsOneShort, &server.id) {
                Sequence(u64::MAX)
            } else {
                self.counted(leader, server).map_or(Sequence(0), |progress| progress.acknowledged)
            }
        });
        if confirmed.is_none_or(|confirmed| confirmed < round) {
            return;
        }
        let RoleState::Leader(leader) = &mut self.role else { return };
        leader.read_round = None;
        let of_the_round = |read: &&PendingRead| read.after.is_some_and(|after| after <= round);
        let count = leader.reads.iter().take_while(of_the_round).count();
        let confirmed: Vec<PendingRead> = leader.reads.drain(..count).collect();
        for PendingRead { reader, index, .. } in confirmed {
            match reader {
                Reader::Client(request) => {
                    self.out.push(Effect::Resolve { request, outcome: Outcome::Read { index } });
                }
                Reader::Peer(reply) => self.answer_read_index(reply, Some(index)),
            }
        }
        self.start_read_round();
    }
}

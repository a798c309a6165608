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
use super::role::{PendingRead, RoleState};

/// Reads that may wait for confirmation at a time.
const READS_MAX: usize = 65_536;

impl RaftCore {
    pub(super) fn on_read(&mut self, request: RequestId) {
        let index = self.commit;
        let mutation = self.mutation;
        let Some(leader) = self.leader_mut() else {
            let refusal = self.not_leader();
            self.refuse(request, refusal);
            return;
        };
        if leader.reads.len() >= READS_MAX {
            self.refuse(request, Refusal::Overloaded);
            return;
        }
        if mutation.is(Mutant::ReadsUnconfirmed) {
            self.out.push(Effect::Resolve { request, outcome: Outcome::Read { index } });
            return;
        }
        let after = leader.read_round.filter(|_| mutation.is(Mutant::ReadJoinsOldRound));
        leader.reads.push_back(PendingRead { request, index, after });
        self.start_read_round();
    }

    pub(super) fn on_lease_read(&mut self, request: RequestId) {
        match self.lease_until() {
            Some(until) if until > self.now => {
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
        let usable = self.config.lease_reads && ready && !given_up;
        if !usable || self.disk_stalled() {
            return None;
        }
        let sent = quorum::reached_by_quorum(self.configuration(), |server| {
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
        let electorate = self.electorate(Mutant::NonvotersConfirmReads);
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
        while let Some(read) = leader.reads.front()
            && read.after.is_some_and(|after| after <= round)
        {
            let (request, index) = (read.request, read.index);
            leader.reads.pop_front();
            self.out.push(Effect::Resolve { request, outcome: Outcome::Read { index } });
        }
        self.start_read_round();
    }
}

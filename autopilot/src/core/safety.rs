//! What may be done: the last word over every promoter and every rule.
//!
//! Invariants, each for every single step:
//! * the healthy voters of the configuration before are a quorum of it, and those of the configuration after are a
//!   quorum of that; so the step can be committed, and the cluster can go on afterwards;
//! * the leader is neither demoted nor removed;
//! * no vote is taken away below `min_quorum`;
//! * a vote goes only to a healthy member whose probation is over;
//! * two votes change hands in one step only where the engine makes both changes or none;
//! * members without a vote are never counted, neither for nor against.
//!
//! Since fewer than half of the voters can be unhealthy under the first rule, no sequence of removals takes half of
//! the voters of the configuration that it started from, which is the reference library's minority budget.

use raft_types::{ServerId, Time};

use super::mutant::{Mutant, mutated};
use crate::model::{Capabilities, Config, RaftState, Reason, ServerState, State};

/// Judges steps against one state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Safety<'a> {
    now: Time,
    config: &'a Config,
    capabilities: Capabilities,
    voters: usize,
    healthy_voters: usize,
}

impl<'a> Safety<'a> {
    pub(super) fn new(now: Time, config: &'a Config, capabilities: Capabilities, state: &State) -> Self {
        let mut healthy_voters = state.healthy_voters_count();
        let mut voters = state.voters.len();
        if mutated(Mutant::NonvotersCount) {
            voters = state.servers.len();
            healthy_voters = state.servers.values().filter(|server| server.health.healthy).count();
        }
        if mutated(Mutant::QuorumOfTheHealthy) {
            voters = healthy_voters;
        }
        Self { now, config, capabilities, voters, healthy_voters }
    }

    /// Whether the member may get its vote.
    pub(super) fn promotion(&self, server: &ServerState) -> Result<(), Reason> {
        match server.raft_state {
            RaftState::Staging => return Err(Reason::IsStaging),
            RaftState::Leader | RaftState::Voter | RaftState::None => return Err(Reason::AlreadyVoter),
            RaftState::Nonvoter => {}
        }
        fit(server)?;
        if !server.is_stable(self.now) {
            return Err(self.probation(server));
        }
        self.quorum_before()?;
        quorum_after(self.voters + 1, self.healthy_voters + 1)
    }

    /// Whether the voter may lose its vote.
    pub(super) fn demotion(&self, server: &ServerState) -> Result<(), Reason> {
        if server.is_leader() && !mutated(Mutant::LeaderDemoted) {
            return Err(Reason::IsLeader);
        }
        if server.raft_state == RaftState::Staging {
            return Err(Reason::IsStaging);
        }
        if !server.is_voter() {
            return Err(Reason::NotVoter);
        }
        if !self.capabilities.demotion {
            return Err(Reason::Unsupported { what: String::from("demote voters") });
        }
        self.vote_lost(server)
    }

    /// Whether the dead member may be taken out.
    pub(super) fn removal(&self, server: &ServerState) -> Result<(), Reason> {
        if server.is_leader() && !mutated(Mutant::LeaderRemoved) {
            return Err(Reason::IsLeader);
        }
        let free = !server.known && mutated(Mutant::StaleVotersAreFree);
        if server.is_voter() && !free {
            return self.vote_lost(server);
        }
        self.quorum_before()
    }

    /// Whether the member may get the vote of the other in the same step.
    ///
    /// While the change is under way both configurations must agree, so the healthy voters must be a quorum of each.
    pub(super) fn swap(&self, newcomer: &ServerState, loser: &ServerState) -> Result<(), Reason> {
        self.promotion(newcomer)?;
        if loser.is_leader() {
            return Err(Reason::IsLeader);
        }
        if !loser.is_voter() {
            return Err(Reason::NotVoter);
        }
        if !self.capabilities.atomic || !self.capabilities.demotion {
            return Err(Reason::Unsupported { what: String::from("change two members in one step") });
        }
        quorum_after(self.voters, self.healthy_voters + 1 - usize::from(loser.health.healthy))
    }

    /// Whether the server may be asked to lead.
    pub(super) fn transfer(&self, server: &ServerState) -> Result<(), Reason> {
        if server.is_leader() {
            return Err(Reason::IsLeader);
        }
        if mutated(Mutant::TransferToTheUnfit) {
            return Ok(());
        }
        if !server.is_voter() {
            return Err(Reason::NotVoter);
        }
        if !self.capabilities.transfer {
            return Err(Reason::Unsupported { what: String::from("hand over leadership") });
        }
        fit(server)?;
        self.quorum_before()
    }

    /// How long the healthy server has to wait for its vote yet.
    pub(super) fn probation(&self, server: &ServerState) -> Reason {
        if let Some(until) = server.flapping_until.filter(|until| *until > self.now) {
            return Reason::Flapping { left: until.since(self.now), count: server.flaps };
        }
        Reason::Probation {
            left: server.stable_at.since(self.now),
            required: self.config.server_stabilization_time,
        }
    }

    fn vote_lost(&self, server: &ServerState) -> Result<(), Reason> {
        self.quorum_before()?;
        let left = self.voters.saturating_sub(1);
        quorum_after(left, self.healthy_voters.saturating_sub(usize::from(server.health.healthy)))?;
        let min_quorum = self.config.min_quorum;
        if left < min_quorum && !mutated(Mutant::MinQuorumIgnored) {
            return Err(Reason::MinQuorum { voters: left, min_quorum });
        }
        Ok(())
    }

    fn quorum_before(&self) -> Result<(), Reason> {
        let (healthy, quorum) = (self.healthy_voters, self.voters / 2 + 1);
        let waived = mutated(Mutant::ActsWithoutQuorum);
        if healthy < quorum && !waived { Err(Reason::NoQuorum { healthy, quorum }) } else { Ok(()) }
    }
}

fn fit(server: &ServerState) -> Result<(), Reason> {
    // What is in doubt is no time for more responsibility.
    match server.health.reasons.first().or(server.health.doubts.first()) {
        Some(reason) => Err(Reason::Health(reason.clone())),
        None => Ok(()),
    }
}

fn quorum_after(voters: usize, healthy: usize) -> Result<(), Reason> {
    let quorum = voters / 2 + 1;
    let waived = mutated(Mutant::QuorumAfterIgnored) || mutated(Mutant::ActsWithoutQuorum);
    if healthy < quorum && !waived { Err(Reason::QuorumAfter { healthy, quorum }) } else { Ok(()) }
}

/// What adding a server takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddPlan {
    /// It is there already.
    Unchanged,
    /// First the removals, then the change.
    Change {
        /// Members with its address under another id, those that vote first.
        removals: Vec<ServerId>,
        /// Whether it is to be added as a voter, because it is one and only moves.
        as_voter: bool,
        /// Whether it is a member already.
        member: bool,
    },
}

/// Why a server must not be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddRefusal {
    /// Too many voters have its address.
    TooManyRemovals {
        /// How many.
        would_remove: usize,
        /// How many may go.
        allowed: usize,
    },
    /// The leader has its address.
    AddressOfLeader {
        /// Who leads.
        leader: ServerId,
    },
}

/// What adding a server takes, after the guard of hashicorp/raft-autopilot: at most as many voters go as may fail.
/// The leader never goes, and where nobody has to go nothing is held against the newcomer.
///
/// # Errors
/// When more would have to go than may.
pub fn plan_add(
    configuration: &raft_types::Configuration,
    leader: Option<&ServerId>,
    id: &ServerId,
    address: &raft_types::ServerAddress,
) -> Result<AddPlan, AddRefusal> {
    let present = configuration.server(id);
    if present.is_some_and(|server| server.address == *address) {
        return Ok(AddPlan::Unchanged);
    }
    let same_address = || configuration.servers().iter().filter(|s| s.address == *address && s.id != *id);
    if let Some(server) = same_address().find(|server| Some(&server.id) == leader) {
        return Err(AddRefusal::AddressOfLeader { leader: server.id.clone() });
    }
    let (voters, others): (Vec<_>, Vec<_>) =
        same_address().partition(|server| server.suffrage == raft_types::Suffrage::Voter);
    let allowed = configuration.voters_count().saturating_sub(configuration.quorum());
    if voters.len() > allowed {
        return Err(AddRefusal::TooManyRemovals { would_remove: voters.len(), allowed });
    }
    Ok(AddPlan::Change {
        removals: voters.into_iter().chain(others).map(|server| server.id.clone()).collect(),
        as_voter: present.is_some_and(|server| server.suffrage == raft_types::Suffrage::Voter),
        member: present.is_some(),
    })
}

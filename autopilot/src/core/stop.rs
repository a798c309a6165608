//! Whether a server may be stopped: the question of a person before a restart, or of an autoscaler before it takes a
//! machine away.

use raft_types::{ServerId, Time};

use super::mutant::{Mutant, mutated};
use crate::model::{Hand, Reason, State, StopAnswer};

/// Answers for a state and the orders that stand. Safe means: it does not lead, no change is under way, and the voters
/// that stay, without those that were told so a moment ago, are a quorum of the configuration in force.
#[must_use]
pub fn safe_to_stop(state: &State, hand: &Hand, server: &ServerId, now: Time) -> StopAnswer {
    let gone = |id: &ServerId| {
        id == server
            || hand.leaving.get(id).is_some_and(|until| *until > now && !mutated(Mutant::ReleasedForgotten))
    };
    let healthy = state.servers.values().filter(|s| s.is_healthy_voter() && !gone(&s.id)).count();
    let mut reasons = Vec::new();
    let member = state.server(server);
    if state.is_empty() {
        reasons.push(Reason::NoState);
    } else if let Some(member) = member {
        if member.is_leader() {
            reasons.push(Reason::IsLeader);
        }
        if !state.configuration_committed {
            reasons.push(Reason::ChangeInProgress { index: state.configuration_index });
        }
        if member.is_voter() && hand.drained.contains_key(server) {
            reasons.push(Reason::Draining);
        }
        // Without a vote it is missed by nobody, even while the cluster has no quorum.
        if member.is_voter() && healthy < state.quorum && !mutated(Mutant::StopWithoutQuorum) {
            reasons.push(Reason::QuorumAfter { healthy, quorum: state.quorum });
        }
    }
    StopAnswer {
        server: server.clone(),
        safe: reasons.is_empty(),
        failure_tolerance: healthy.saturating_sub(state.quorum),
        reasons,
    }
}

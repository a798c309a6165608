//! The policies that the simulator flies with.

use autopilot::{Changes, Promoter, PromoterInput, ServerState, StablePromoter};
use promoter_plugins::ReadReplicas;

/// Who should vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Whoever is stable.
    Stable,
    /// Whoever is stable and no read replica: every fourth server is one.
    ReadReplicas,
    /// [`Wilful`].
    Wilful,
}

impl Policy {
    /// The promoter.
    #[must_use]
    pub fn promoter(self) -> Box<dyn Promoter> {
        match self {
            Self::Stable => Box::new(StablePromoter),
            Self::ReadReplicas => Box::new(ReadReplicas::default()),
            Self::Wilful => Box::new(Wilful),
        }
    }

    /// Whether the server of this number is a read replica.
    #[must_use]
    pub const fn is_replica(self, node: usize) -> bool {
        matches!(self, Self::ReadReplicas) && node % 4 == 1
    }
}

/// Wants three voters, and the server with the smallest id as leader, fit or not: safety is what keeps it in check. To have
/// fewer voters it would take the leader's vote first.
#[derive(Clone, Copy, Debug)]
pub struct Wilful;

impl Wilful {
    /// How many voters it wants.
    pub const VOTERS: usize = 3;
}

impl Promoter for Wilful {
    fn name(&self) -> &str {
        "wilful"
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        let mut changes = Changes::default();
        let state = input.state;
        let servers = || state.servers.values();
        if state.voters.len() < Self::VOTERS {
            // Whoever comes first may be held back by an order; only one of them is taken.
            let fit = servers().filter(|server| server.is_promotable(input.now));
            fit.for_each(|next| changes.promote(&next.id, "one more vote"));
        }
        if state.voters.len() > Self::VOTERS {
            let leader = servers().find(|server| server.is_leader());
            let last = servers().rfind(|server| server.is_voter() && !server.is_leader());
            leader.into_iter().chain(last).for_each(|server| changes.demote(&server.id, "one vote less"));
        }
        if let Some(first) = servers().next().filter(|first: &&ServerState| !first.is_leader()) {
            changes.transfer_to(&first.id, "the smallest id leads");
        }
        changes
    }
}

//! How many failures the cluster survives: of servers, and of whole failure domains.

use std::collections::BTreeMap;

use super::inputs::Inputs;
use super::orders;
use super::policy::Policy;
use crate::model::{DomainState, DomainTolerance, ServerState, State};

/// Who stands where, counted one member after the other.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// How many members stand by.
    pub(super) standbys: usize,
    domains: BTreeMap<String, DomainState>,
    /// Healthy voters in no domain.
    alone: usize,
}

impl Standing {
    pub(super) fn count(&mut self, inputs: &Inputs, server: &ServerState, policy: &mut Policy<'_>) {
        let stands_by = !server.is_voter()
            && server.health.healthy
            && orders::held_back(inputs, &server.id).is_none()
            && policy.may_vote(server);
        self.standbys += usize::from(stands_by);
        let Some(name) = policy.failure_domain(server) else {
            self.alone += usize::from(server.is_healthy_voter());
            return;
        };
        let domain = self.domains.entry(name).or_default();
        domain.voters += usize::from(server.is_voter());
        domain.healthy_voters += usize::from(server.is_healthy_voter());
        domain.standbys += usize::from(stands_by);
    }

    /// The tolerance by domain; `None` where no member is in one.
    pub(super) fn by_domain(self, state: &State) -> Option<DomainTolerance> {
        let Self { mut domains, alone, .. } = self;
        if domains.is_empty() {
            return None;
        }
        let healthy = state.healthy_voters_count();
        for domain in domains.values_mut() {
            domain.expendable = healthy - domain.healthy_voters >= state.quorum;
        }
        // Only a domain with healthy voters can take any away.
        let mut sizes: Vec<usize> = domains.values().map(|domain| domain.healthy_voters).collect();
        sizes.extend(std::iter::repeat_n(1, alone));
        sizes.retain(|size| *size > 0);
        sizes.sort_unstable();
        let best = lost(healthy, state.quorum, sizes.iter());
        let worst = lost(healthy, state.quorum, sizes.iter().rev());
        Some(DomainTolerance { worst, best, domains })
    }
}

/// How many of the groups may go, in this order, while a quorum stays.
fn lost<'a>(mut healthy: usize, quorum: usize, sizes: impl Iterator<Item = &'a usize>) -> usize {
    let mut groups = 0;
    for size in sizes {
        if healthy < quorum + size {
            break;
        }
        healthy -= size;
        groups += 1;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_order_takes_the_largest_first() {
        assert_eq!(lost(5, 3, [1, 2, 2].iter()), 1);
        assert_eq!(lost(5, 3, [2, 2, 1].iter()), 1);
        assert_eq!(lost(7, 4, [1, 1, 1, 4].iter()), 3);
        assert_eq!(lost(7, 4, [4, 1, 1, 1].iter()), 0);
        assert_eq!(lost(2, 3, [1].iter()), 0);
    }
}

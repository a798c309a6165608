//! How many failures the cluster survives: of servers, and of whole failure domains.

use std::collections::BTreeMap;

use raft_types::ServerId;

use crate::model::{DomainState, DomainTolerance, ServerState, State};

/// The tolerance by domain; `None` where no member is in one.
pub(super) fn by_domain(
    state: &State,
    mut domain_of: impl FnMut(&ServerState) -> Option<String>,
    mut stands_by: impl FnMut(&ServerState) -> bool,
) -> Option<DomainTolerance> {
    let mut domains: BTreeMap<String, DomainState> = BTreeMap::new();
    let mut alone: Vec<&ServerId> = Vec::new();
    for server in state.servers.values() {
        let Some(name) = domain_of(server) else {
            if server.is_healthy_voter() {
                alone.push(&server.id);
            }
            continue;
        };
        let domain = domains.entry(name).or_default();
        domain.voters += usize::from(server.is_voter());
        domain.healthy_voters += usize::from(server.is_healthy_voter());
        domain.standbys += usize::from(!server.is_voter() && server.health.healthy && stands_by(server));
    }
    if domains.is_empty() {
        return None;
    }
    let healthy = state.healthy_voters_count();
    for domain in domains.values_mut() {
        domain.expendable = healthy - domain.healthy_voters >= state.quorum;
    }
    // Only a domain with healthy voters can take any away.
    let mut sizes: Vec<usize> = domains.values().map(|domain| domain.healthy_voters).collect();
    sizes.extend(alone.iter().map(|_| 1));
    sizes.retain(|size| *size > 0);
    sizes.sort_unstable();
    let best = lost(healthy, state.quorum, sizes.iter());
    let worst = lost(healthy, state.quorum, sizes.iter().rev());
    Some(DomainTolerance { worst, best, domains })
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

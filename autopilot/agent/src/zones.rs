//! Tells autopilot which servers are lost together: those of one zone.

use std::collections::BTreeMap;

use autopilot::{Changes, DeadServers, NodeType, Promoter, PromoterInput, ServerId, ServerState, State};

use crate::app::META_ZONE;

/// A policy, and the zone of each server (`--zone`) as its failure domain.
#[derive(Clone, Debug, Default)]
pub(crate) struct InZones<P>(pub(crate) P);

impl<P: Promoter> Promoter for InZones<P> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        self.0.changes(input)
    }

    fn may_vote(&self, server: &ServerState) -> bool {
        self.0.may_vote(server)
    }

    fn node_type(&self, server: &ServerState, state: &State) -> NodeType {
        self.0.node_type(server, state)
    }

    fn keep_failed(&self, input: &PromoterInput<'_>, dead: &DeadServers) -> BTreeMap<ServerId, String> {
        self.0.keep_failed(input, dead)
    }

    fn optimistic_failure_tolerance(&self, state: &State) -> Option<usize> {
        self.0.optimistic_failure_tolerance(state)
    }

    fn failure_domain(&self, server: &ServerState) -> Option<String> {
        self.0.failure_domain(server).or_else(|| server.meta.get(META_ZONE).cloned())
    }

    fn server_details(&self, server: &ServerState, state: &State) -> BTreeMap<String, String> {
        self.0.server_details(server, state)
    }

    fn state_details(&self, state: &State) -> BTreeMap<String, String> {
        self.0.state_details(state)
    }
}

#[cfg(test)]
mod tests {
    use autopilot::StablePromoter;
    use autopilot::testing::{Situation, promoter_conformance};
    use promoter_plugins::ReadReplicas;

    use super::*;

    #[test]
    fn it_is_a_policy_like_the_one_inside() {
        promoter_conformance(&InZones(StablePromoter));
        promoter_conformance(&InZones(<ReadReplicas>::default()));
    }

    #[test]
    fn a_lost_zone_is_counted_as_a_whole() {
        let mut inputs = Situation::new("n1").voter("n2").voter("n3").inputs;
        for (id, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
            let known = inputs.known.servers.get_mut(&ServerId::from(id)).expect("known");
            known.meta = BTreeMap::from([(META_ZONE.to_owned(), zone.to_owned())]).into();
        }
        let state = autopilot::Round::run(&inputs, &InZones(StablePromoter)).state;
        let domains = state.domain_tolerance.expect("zones are told");
        assert_eq!((domains.worst, domains.best), (0, 1), "two of three voters are in zone a");
        assert!(!domains.domains["a"].expendable && domains.domains["b"].expendable);
    }
}

//! Servers that serve reads and never vote.
//!
//! A server declares itself with the metadata `read_replica` = `true`. Everything else is left to an inner policy.

use std::collections::BTreeMap;

use autopilot::{
    Changes, DeadServers, NodeType, Promoter, PromoterInput, ServerId, ServerState, StablePromoter, State,
    server_order,
};

/// Never promotes a server that declares `read_replica`, and demotes one that votes; an inner policy,
/// [`StablePromoter`] unless chosen, decides about the others.
#[derive(Clone, Copy, Debug)]
pub struct ReadReplicas<P = StablePromoter> {
    inner: P,
}

impl Default for ReadReplicas {
    fn default() -> Self {
        Self::with_inner(StablePromoter)
    }
}

impl ReadReplicas {
    /// The metadata key with which a server declares itself.
    pub const META_KEY: &str = "read_replica";

    /// Whether this server declares itself a read replica: the value `true`, in any case. Anything else, also a
    /// missing value, means an ordinary server, so that a typing error costs no vote.
    #[must_use]
    pub fn is_read_replica(server: &ServerState) -> bool {
        is_read_replica(server)
    }
}

impl<P: Promoter> ReadReplicas<P> {
    /// Leaves all servers that are no read replicas to `inner`.
    #[must_use]
    pub const fn with_inner(inner: P) -> Self {
        Self { inner }
    }

    fn successor<'a>(input: &PromoterInput<'a>) -> Option<&'a ServerState> {
        let fit = |server: &&ServerState| {
            server.is_healthy_voter() && !server.is_leader() && !is_read_replica(server)
        };
        input.state.servers.values().filter(fit).min_by(|a, b| server_order(a, b))
    }
}

impl<P: Promoter> Promoter for ReadReplicas<P> {
    fn name(&self) -> &str {
        "read-replicas"
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        let replica = |id: &ServerId| input.state.server(id).is_some_and(is_read_replica);
        let mut changes = self.inner.changes(input);
        changes.promotions.retain(|wish| !replica(&wish.server));
        changes.demotions.retain(|wish| !replica(&wish.server));
        if changes.leader.as_ref().is_some_and(|wish| replica(&wish.server)) {
            changes.leader = None;
        }
        for server in input.state.servers.values().filter(|s| s.is_voter() && is_read_replica(s)) {
            if !server.is_leader() {
                changes.demote(&server.id, "it is declared a read replica");
            } else if let Some(successor) = Self::successor(input) {
                // The leader cannot be demoted; it can be once another server leads.
                changes.transfer_to(&successor.id, format!("the leader {} is a read replica", server.id));
            }
        }
        changes
    }

    fn may_vote(&self, server: &ServerState) -> bool {
        !is_read_replica(server) && self.inner.may_vote(server)
    }

    fn node_type(&self, server: &ServerState, state: &State) -> NodeType {
        if is_read_replica(server) {
            return NodeType::READ_REPLICA;
        }
        self.inner.node_type(server, state)
    }

    fn keep_failed(&self, input: &PromoterInput<'_>, dead: &DeadServers) -> BTreeMap<ServerId, String> {
        self.inner.keep_failed(input, dead)
    }

    fn optimistic_failure_tolerance(&self, state: &State) -> Option<usize> {
        self.inner.optimistic_failure_tolerance(state)
    }

    fn failure_domain(&self, server: &ServerState) -> Option<String> {
        self.inner.failure_domain(server)
    }

    fn server_details(&self, server: &ServerState, state: &State) -> BTreeMap<String, String> {
        self.inner.server_details(server, state)
    }

    fn state_details(&self, state: &State) -> BTreeMap<String, String> {
        self.inner.state_details(state)
    }
}

fn is_read_replica(server: &ServerState) -> bool {
    let declared = server.meta.get(ReadReplicas::META_KEY);
    declared.is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
}

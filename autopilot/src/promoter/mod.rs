//! Policies: who should vote. A promoter wishes, `core::safety` decides what is allowed.

mod stable;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raft_types::{ServerId, Time};
use serde::{Deserialize, Serialize};

pub use stable::StablePromoter;

use crate::model::{Config, DeadClass, NodeType, ServerState, State};

/// A policy. Pure: the answer depends on the arguments alone, so that a recorded round can be decided again.
///
/// Only the name and [`Promoter::changes`] are required. Test one with `autopilot::testing::promoter_conformance`.
pub trait Promoter: Send + Sync + 'static {
    /// A short name for decisions and logs.
    fn name(&self) -> &str;

    /// Who should get the vote, who should lose it, and who should lead. Wishes: each is checked, at most one
    /// becomes a step, and the others are asked for again in the next round.
    fn changes(&self, input: &PromoterInput<'_>) -> Changes;

    /// Whether this server could ever vote. Default: every server could.
    fn may_vote(&self, server: &ServerState) -> bool {
        let _ = server;
        true
    }

    /// What this server is meant to be. Default: [`NodeType::VOTER`].
    fn node_type(&self, server: &ServerState, state: &State) -> NodeType {
        let _ = (server, state);
        NodeType::VOTER
    }

    /// Which of the dead members must stay for now, each with a sentence why. Default: none.
    fn keep_failed(&self, input: &PromoterInput<'_>, dead: &DeadServers) -> BTreeMap<ServerId, String> {
        let _ = (input, dead);
        BTreeMap::new()
    }

    /// How many servers may fail one after the other, with time to replace each. Default (`None`): the failure
    /// tolerance and one for each healthy member that does not vote and may.
    fn optimistic_failure_tolerance(&self, state: &State) -> Option<usize> {
        let _ = state;
        None
    }

    /// In which failure domain, such as a zone or a rack, this server stands: what is lost together. Default: unknown.
    fn failure_domain(&self, server: &ServerState) -> Option<String> {
        let _ = server;
        None
    }

    /// What to tell people about this server. Default: nothing.
    fn server_details(&self, server: &ServerState, state: &State) -> BTreeMap<String, String> {
        let _ = (server, state);
        BTreeMap::new()
    }

    /// What to tell people about the cluster. Default: nothing.
    fn state_details(&self, state: &State) -> BTreeMap<String, String> {
        let _ = state;
        BTreeMap::new()
    }
}

/// What a promoter may look at.
#[derive(Clone, Copy, Debug)]
pub struct PromoterInput<'a> {
    /// The time of the round.
    pub now: Time,
    /// The tunables in force.
    pub config: &'a Config,
    /// The cluster, with health, roles and node types filled in.
    pub state: &'a State,
}

impl PromoterInput<'_> {
    /// How long a server must be healthy before it may vote.
    #[must_use]
    pub const fn stabilization(&self) -> Duration {
        self.config.server_stabilization_time
    }
}

/// The dead members by class.
pub type DeadServers = BTreeMap<DeadClass, BTreeSet<ServerId>>;

/// What a promoter wants, in the order in which it wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Who should get the vote.
    pub promotions: Vec<Wish>,
    /// Who should lose it.
    pub demotions: Vec<Wish>,
    /// Who should lead instead of the leader.
    pub leader: Option<Wish>,
}

impl Changes {
    /// Wishes that a member gets its vote.
    pub fn promote(&mut self, id: &ServerId, reason: impl Into<String>) {
        self.promotions.push(Wish { server: id.clone(), reason: reason.into() });
    }

    /// Wishes that a voter loses its vote.
    pub fn demote(&mut self, id: &ServerId, reason: impl Into<String>) {
        self.demotions.push(Wish { server: id.clone(), reason: reason.into() });
    }

    /// Wishes that another voter leads.
    pub fn transfer_to(&mut self, id: &ServerId, reason: impl Into<String>) {
        self.leader = Some(Wish { server: id.clone(), reason: reason.into() });
    }

    /// Whether everything should stay as it is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.promotions.is_empty() && self.demotions.is_empty() && self.leader.is_none()
    }
}

/// One wish of a promoter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Who it is about.
    pub server: ServerId,
    /// Why, as a sentence without a full stop.
    pub reason: String,
}

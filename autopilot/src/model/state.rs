//! The cluster as one round saw it.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raft_types::{EntryId, LogIndex, Server, ServerAddress, ServerId, Suffrage, Term, Time};
use serde::{Deserialize, Serialize};

use super::{
    BlockedBy, DomainTolerance, Metadata, NodeStatus, NodeType, RaftState, ServerHealth, ServerStats,
    Severity,
};

/// The cluster as one round saw it. The default is the state of an autopilot that does not run: empty, not healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// When it was computed.
    pub at: Time,
    /// When this run of autopilot computed its first state.
    pub first_state_at: Time,
    /// The Raft term in which it was computed.
    pub term: Term,
    /// Whether every member is healthy, those without a vote included (the compatible meaning).
    pub healthy: bool,
    /// How bad it is, members without a vote weighing less.
    pub severity: Severity,
    /// How many voters may fail before the cluster stops.
    pub failure_tolerance: usize,
    /// How many servers may fail one after the other, with time to replace each, before the cluster stops.
    pub optimistic_failure_tolerance: usize,
    /// The same by failure domain, where the promoter tells domains apart.
    #[serde(default)]
    pub domain_tolerance: Option<DomainTolerance>,
    /// The largest number of voters that was seen all stable, which nobody has lowered on purpose since.
    #[serde(default)]
    pub stable_size: Option<usize>,
    /// How many voters make a quorum.
    pub quorum: usize,
    /// Which member leads; none while the leader is no member, as one that is taking itself out.
    pub leader: Option<ServerId>,
    /// Who votes: the leader first, then as [`server_order`] has it.
    pub voters: Vec<ServerId>,
    /// The last entry of the leader's log, if there is a leader to compare with.
    pub last: EntryId,
    /// Where the configuration stands in the log: the stamp that a change is checked against.
    pub configuration_index: LogIndex,
    /// Whether that configuration is committed.
    pub configuration_committed: bool,
    /// How long a server must be healthy before it may vote.
    pub server_stabilization_time: Duration,
    /// The policy that judged it.
    pub promoter: String,
    /// What the policy adds about the cluster.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
    /// Every member of the configuration.
    pub servers: BTreeMap<ServerId, ServerState>,
}

impl State {
    /// Whether nothing is known, because autopilot does not run or has not seen the cluster yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The member with this id.
    #[must_use]
    pub fn server(&self, id: &ServerId) -> Option<&ServerState> {
        self.servers.get(id)
    }

    /// The members that report a value for this metadata key, by that value, each group in the order of ids.
    #[must_use]
    pub fn by_metadata(&self, key: &str) -> BTreeMap<&str, Vec<&ServerState>> {
        let mut groups: BTreeMap<&str, Vec<&ServerState>> = BTreeMap::new();
        for server in self.servers.values() {
            if let Some(value) = server.meta.get(key) {
                groups.entry(value).or_default().push(server);
            }
        }
        groups
    }

    /// How many voters are healthy.
    #[must_use]
    pub fn healthy_voters_count(&self) -> usize {
        self.voters.iter().filter(|id| self.server(id).is_some_and(ServerState::is_healthy_voter)).count()
    }
}

/// One member of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// Who it is.
    pub id: ServerId,
    /// Its name for people, the last one that the application gave it; empty when it never did.
    pub name: Arc<str>,
    /// Where the Raft configuration says it is.
    pub address: ServerAddress,
    /// The version it runs, the last that the application reported; empty when unknown.
    pub version: Arc<str>,
    /// The application's metadata about it.
    pub meta: Metadata,
    /// Whether the application knows it. A member that it does not know is stale.
    pub known: bool,
    /// Whether it is alive, as the application says; left when the application does not know it.
    pub node_status: NodeStatus,
    /// Whether it counts towards quorums.
    pub suffrage: Suffrage,
    /// What it is within Raft.
    pub raft_state: RaftState,
    /// Until when it counts as joining, and is not removed, if nothing more arrives there.
    #[serde(default)]
    pub joining_until: Option<Time>,
    /// What the promoter wants it to be.
    pub node_type: NodeType,
    /// The newest measurement, which may be some rounds old.
    pub stats: ServerStats,
    /// When that measurement was made; `None` when there never was one.
    pub stats_at: Option<Time>,
    /// Whether it is healthy, since when, and why not.
    pub health: ServerHealth,
    /// From when on it counts as stable if it stays healthy; [`Time::NEVER`] while it is unhealthy.
    pub stable_at: Time,
    /// Until when it counts as flapping and gets no vote.
    #[serde(default)]
    pub flapping_until: Option<Time>,
    /// How often it turned unhealthy lately, in thousandths, older times counting less.
    #[serde(default)]
    pub flaps: u32,
    /// Why it does not vote yet; `None` for a voter.
    pub blocked_by: Option<BlockedBy>,
    /// What the promoter adds about it.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
}

impl ServerState {
    /// A member of which nothing is known yet.
    pub(crate) fn blank(member: &Server) -> Self {
        Self {
            id: member.id.clone(),
            name: Arc::default(),
            address: member.address.clone(),
            version: Arc::default(),
            meta: Metadata::default(),
            known: false,
            node_status: NodeStatus::Left,
            suffrage: member.suffrage,
            raft_state: RaftState::None,
            joining_until: None,
            node_type: NodeType::VOTER,
            stats: ServerStats::default(),
            stats_at: None,
            health: ServerHealth::default(),
            stable_at: Time::NEVER,
            flapping_until: None,
            flaps: 0,
            blocked_by: None,
            details: BTreeMap::new(),
        }
    }

    /// Whether it counts towards quorums.
    #[must_use]
    pub fn is_voter(&self) -> bool {
        self.suffrage == Suffrage::Voter
    }

    /// Whether it leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raft_state == RaftState::Leader
    }

    /// Whether it votes and is healthy.
    #[must_use]
    pub fn is_healthy_voter(&self) -> bool {
        self.is_voter() && self.health.healthy
    }

    /// Whether it is a healthy member without a vote whose probation is over.
    #[must_use]
    pub fn is_promotable(&self, now: Time) -> bool {
        self.raft_state == RaftState::Nonvoter && self.is_stable(now)
    }

    /// Whether it is healthy and has been for long enough.
    #[must_use]
    pub fn is_stable(&self, now: Time) -> bool {
        self.health.healthy && now >= self.stable_at
    }

    /// How much its health matters to the cluster.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match (self.health.healthy, self.is_voter()) {
            (true, _) => Severity::Healthy,
            (false, false) => Severity::Informational,
            (false, true) => Severity::Degraded,
        }
    }
}

/// The order of lists: the leader, then voters, then the others; within a group the healthy ones first, those
/// healthy for longest leading and those unhealthy for longest trailing; then by id.
///
/// The order of hashicorp/raft-autopilot's `SortServers`.
#[must_use]
pub fn server_order(a: &ServerState, b: &ServerState) -> Ordering {
    let group = |server: &ServerState| match server.raft_state {
        RaftState::Leader => 0_u8,
        RaftState::Voter => 1,
        RaftState::None | RaftState::Nonvoter | RaftState::Staging => 2,
    };
    let since = |server: &ServerState| server.health.stable_since;
    let by_age =
        if a.health.healthy { since(a).cmp(&since(b)) } else { Reverse(since(a)).cmp(&Reverse(since(b))) };
    group(a)
        .cmp(&group(b))
        .then(b.health.healthy.cmp(&a.health.healthy))
        .then(by_age)
        .then_with(|| a.id.cmp(&b.id))
}

//! What goes over HTTP: the only types with external names. The shapes are Consul's; keys beyond them are ours.

use std::collections::BTreeMap;

use serde::Serialize;

use super::duration::GoDuration;

/// Answer of `operator/autopilot/health`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Health {
    pub(super) healthy: bool,
    pub(super) failure_tolerance: usize,
    pub(super) servers: Vec<ServerHealth>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServerHealth {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) serf_status: &'static str,
    pub(super) version: String,
    pub(super) leader: bool,
    pub(super) last_contact: GoDuration,
    pub(super) last_term: u64,
    pub(super) last_index: u64,
    pub(super) healthy: bool,
    pub(super) voter: bool,
    pub(super) stable_since: String,
}

/// Answer of `operator/autopilot/state`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AutopilotState {
    pub(super) healthy: bool,
    pub(super) failure_tolerance: usize,
    pub(super) optimistic_failure_tolerance: usize,
    pub(super) servers: BTreeMap<String, ServerState>,
    pub(super) leader: String,
    pub(super) voters: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) read_replicas: Vec<String>,
    /// Ours: how many failure domains may be lost; absent where no server says in which it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) domain_tolerance: Option<DomainTolerance>,
    /// Ours: how bad it is, members without a vote weighing less.
    pub(super) severity: &'static str,
    /// Ours: how many voters make a quorum.
    pub(super) quorum: usize,
    /// Ours: the policy.
    pub(super) promoter: String,
    /// Ours: where the configuration stands in the log.
    pub(super) configuration_index: u64,
    /// Ours: what the last round decided.
    pub(super) decisions: Vec<Decision>,
}

/// How many failure domains may be lost at once.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DomainTolerance {
    pub(super) worst: usize,
    pub(super) best: usize,
    pub(super) domains: BTreeMap<String, Domain>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Domain {
    pub(super) voters: usize,
    pub(super) healthy_voters: usize,
    pub(super) standbys: usize,
    pub(super) expendable: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServerState {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) node_status: &'static str,
    pub(super) version: String,
    pub(super) last_contact: GoDuration,
    pub(super) last_term: u64,
    pub(super) last_index: u64,
    pub(super) healthy: bool,
    pub(super) stable_since: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) redundancy_zone: String,
    pub(super) read_replica: bool,
    pub(super) status: &'static str,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) node_type: String,
    /// Ours: for how long it has been healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stable_for: Option<GoDuration>,
    /// Ours: why it is not healthy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) reasons: Vec<Reason>,
    /// Ours: what is wrong with the last measurement that does not make it unhealthy yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) doubts: Vec<Reason>,
    /// Ours: why it does not vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) blocked_by: Option<Reason>,
}

/// A stable code and a sentence.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Reason {
    pub(super) code: &'static str,
    pub(super) text: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Decision {
    pub(super) server: String,
    pub(super) action: String,
    pub(super) verdict: String,
    pub(super) reason: Reason,
}

/// One entry of `agent/autopilot/events`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Event {
    pub(crate) index: u64,
    pub(crate) time_unix_ms: u64,
    pub(crate) kind: String,
    pub(crate) server: String,
    pub(crate) reason: &'static str,
    pub(crate) text: String,
    /// Who did it or noticed it.
    pub(crate) by: String,
    pub(crate) term: u64,
    /// Whether something was changed, tried or ordered; such events are the audit.
    pub(crate) change: bool,
    /// The configuration that it was decided on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decided_on: Option<u64>,
    /// Where the resulting configuration stands in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) configuration_index: Option<u64>,
    /// Finds the round among `operator/autopilot/inputs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inputs: Option<String>,
}

/// Answer of `operator/raft/configuration`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RaftConfiguration {
    pub(super) servers: Vec<RaftServer>,
    pub(super) index: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RaftServer {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) node: String,
    pub(super) address: String,
    pub(super) leader: bool,
    pub(super) protocol_version: &'static str,
    pub(super) voter: bool,
    /// Absent where it is not known, as on a follower that answers `stale`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_index: Option<u64>,
}

/// Answer of `operator/raft/transfer-leader`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Transferred {
    pub(super) success: bool,
}

/// One entry of `agent/members`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) addr: String,
    pub(super) port: u16,
    pub(super) tags: BTreeMap<&'static str, String>,
    pub(super) status: u8,
    pub(super) protocol_min: u8,
    pub(super) protocol_max: u8,
    pub(super) protocol_cur: u8,
    pub(super) delegate_min: u8,
    pub(super) delegate_max: u8,
    pub(super) delegate_cur: u8,
}

/// Answer of `agent/self`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentSelf {
    pub(super) config: SelfConfig,
    pub(super) debug_config: BTreeMap<&'static str, String>,
    pub(super) member: Option<Member>,
    pub(super) stats: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    pub(super) meta: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SelfConfig {
    pub(super) datacenter: String,
    pub(super) node_name: String,
    #[serde(rename = "NodeID")]
    pub(super) node_id: String,
    pub(super) server: bool,
    pub(super) revision: &'static str,
    pub(super) version: &'static str,
}

/// One entry of `operator/autopilot/explain`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Explained {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) facts: Vec<Fact>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Fact {
    pub(super) topic: String,
    pub(super) code: &'static str,
    pub(super) text: String,
    /// Absent where it cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) earliest_in: Option<GoDuration>,
}

/// One entry of `kv/:key`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KvEntry {
    pub(super) lock_index: u64,
    pub(super) key: String,
    pub(super) flags: u64,
    /// Base64; null when empty, as in Consul.
    pub(super) value: Option<String>,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

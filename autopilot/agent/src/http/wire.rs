//! What goes over HTTP: the only types with external names. The shapes are Consul's; keys beyond them are ours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::duration::GoDuration;
use crate::kv::{AutopilotSettings, Versioned};

/// Body of the autopilot configuration, both ways. A key left out takes its default, as in Consul.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct AutopilotConfiguration {
    pub(super) cleanup_dead_servers: bool,
    pub(super) last_contact_threshold: GoDuration,
    pub(super) max_trailing_logs: u64,
    pub(super) min_quorum: u64,
    pub(super) server_stabilization_time: GoDuration,
    pub(super) redundancy_zone_tag: String,
    pub(super) disable_upgrade_migration: bool,
    pub(super) upgrade_version_tag: String,
    /// Ignored on input.
    pub(super) create_index: u64,
    /// Ignored on input; the condition is the parameter `cas`.
    pub(super) modify_index: u64,
}

impl Default for AutopilotConfiguration {
    fn default() -> Self {
        Self::from(Versioned { value: AutopilotSettings::default(), create_index: 0, modify_index: 0 })
    }
}

impl From<Versioned<AutopilotSettings>> for AutopilotConfiguration {
    fn from(stored: Versioned<AutopilotSettings>) -> Self {
        let settings = stored.value;
        Self {
            cleanup_dead_servers: settings.cleanup_dead_servers,
            last_contact_threshold: GoDuration(settings.last_contact_threshold),
            max_trailing_logs: settings.max_trailing_logs,
            min_quorum: settings.min_quorum,
            server_stabilization_time: GoDuration(settings.server_stabilization_time),
            redundancy_zone_tag: settings.redundancy_zone_tag,
            disable_upgrade_migration: settings.disable_upgrade_migration,
            upgrade_version_tag: settings.upgrade_version_tag,
            create_index: stored.create_index,
            modify_index: stored.modify_index,
        }
    }
}

impl From<AutopilotConfiguration> for AutopilotSettings {
    fn from(body: AutopilotConfiguration) -> Self {
        Self {
            cleanup_dead_servers: body.cleanup_dead_servers,
            last_contact_threshold: body.last_contact_threshold.0,
            max_trailing_logs: body.max_trailing_logs,
            min_quorum: body.min_quorum,
            server_stabilization_time: body.server_stabilization_time.0,
            redundancy_zone_tag: body.redundancy_zone_tag,
            disable_upgrade_migration: body.disable_upgrade_migration,
            upgrade_version_tag: body.upgrade_version_tag,
        }
    }
}

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

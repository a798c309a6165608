//! The parts of the HTTP API's answers that the command line shows.
//!
//! Every field has a default: a server of another version that leaves one out is still shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// `GET /v1/operator/autopilot/state`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct AutopilotState {
    pub(crate) healthy: bool,
    pub(crate) failure_tolerance: i64,
    pub(crate) optimistic_failure_tolerance: i64,
    pub(crate) domain_tolerance: Option<DomainTolerance>,
    pub(crate) leader: String,
    pub(crate) voters: Vec<String>,
    pub(crate) read_replicas: Vec<String>,
    pub(crate) redundancy_zones: BTreeMap<String, Zone>,
    pub(crate) upgrade: Option<BTreeMap<String, serde_json::Value>>,
    pub(crate) servers: BTreeMap<String, ServerState>,
}

/// How many failure domains [`AutopilotState`] may lose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DomainTolerance {
    pub(crate) worst: u64,
    pub(crate) best: u64,
    pub(crate) domains: BTreeMap<String, Domain>,
}

/// One failure domain of [`DomainTolerance`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Domain {
    pub(crate) voters: u64,
    pub(crate) healthy_voters: u64,
    pub(crate) standbys: u64,
    pub(crate) expendable: bool,
}

/// One redundancy zone of [`AutopilotState`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Zone {
    pub(crate) servers: Vec<String>,
    pub(crate) voters: Vec<String>,
    pub(crate) failure_tolerance: i64,
}

/// One server of [`AutopilotState`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ServerState {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) version: String,
    pub(crate) status: String,
    pub(crate) node_status: String,
    pub(crate) node_type: String,
    pub(crate) healthy: bool,
    pub(crate) last_contact: String,
    pub(crate) last_term: u64,
    pub(crate) last_index: u64,
    pub(crate) redundancy_zone: String,
    pub(crate) upgrade_version: String,
    pub(crate) read_replica: bool,
    #[serde(deserialize_with = "none_is_default")]
    pub(crate) meta: BTreeMap<String, String>,
    /// How long it has been stable; empty when it is not.
    #[serde(deserialize_with = "none_is_default")]
    pub(crate) stable_for: String,
    /// Why it does not vote yet.
    pub(crate) blocked_by: Option<Reason>,
    /// Why it is not healthy.
    #[serde(deserialize_with = "none_is_default")]
    pub(crate) reasons: Vec<Reason>,
    /// What is wrong with it that does not count yet.
    #[serde(deserialize_with = "none_is_default")]
    pub(crate) doubts: Vec<Reason>,
}

impl ServerState {
    /// Whether it counts for a quorum.
    pub(crate) fn is_voter(&self) -> bool {
        self.status == "leader" || self.status == "voter"
    }
}

/// Why something is so: a stable code and a sentence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Reason {
    pub(crate) code: String,
    pub(crate) text: String,
}

impl Reason {
    /// The sentence, or the code when there is none.
    pub(crate) fn sentence(&self) -> &str {
        if self.text.is_empty() { &self.code } else { &self.text }
    }
}

/// `GET /v1/operator/autopilot/health`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Health {
    pub(crate) healthy: bool,
    pub(crate) failure_tolerance: i64,
    #[serde(deserialize_with = "none_is_default")]
    pub(crate) servers: Vec<ServerHealth>,
}

/// One server of [`Health`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ServerHealth {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) serf_status: String,
    pub(crate) version: String,
    pub(crate) leader: bool,
    pub(crate) last_contact: String,
    pub(crate) last_term: u64,
    pub(crate) last_index: u64,
    pub(crate) healthy: bool,
    pub(crate) voter: bool,
    pub(crate) stable_since: String,
}

/// `GET /v1/operator/raft/configuration`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RaftConfiguration {
    #[serde(deserialize_with = "none_is_default")]
    pub(crate) servers: Vec<RaftServer>,
}

/// One server of [`RaftConfiguration`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RaftServer {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) node: String,
    pub(crate) address: String,
    pub(crate) leader: bool,
    pub(crate) protocol_version: String,
    pub(crate) voter: bool,
    pub(crate) last_index: Option<u64>,
}

/// One entry of `GET /v1/agent/members`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) addr: String,
    pub(crate) port: u16,
    #[serde(deserialize_with = "none_is_default")]
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) status: u8,
    pub(crate) protocol_cur: u64,
}

impl Member {
    /// The gossip state by its name.
    pub(crate) fn status_name(&self) -> &'static str {
        match self.status {
            1 => "alive",
            2 => "leaving",
            3 => "left",
            4 => "failed",
            _ => "none",
        }
    }
}

/// One entry of `GET /v1/kv/:key`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    /// The value in base64; `None` when it is empty.
    pub(crate) value: Option<String>,
    pub(crate) flags: u64,
    pub(crate) lock_index: u64,
    pub(crate) session: String,
    pub(crate) create_index: u64,
    pub(crate) modify_index: u64,
}

/// One entry of `GET /v1/agent/autopilot/events`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Event {
    /// Counts the events of the server that was asked.
    pub(crate) index: u64,
    pub(crate) kind: String,
    #[serde(deserialize_with = "none_is_default")]
    pub(crate) server: String,
    pub(crate) text: String,
    /// The code of the reason.
    pub(crate) reason: String,
    pub(crate) by: String,
    pub(crate) time_unix_ms: u64,
}

/// `GET /v1/operator/autopilot/orders`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Orders {
    pub(crate) paused: Option<Paused>,
    pub(crate) cordoned: Vec<Ordered>,
    pub(crate) drained: Vec<Ordered>,
    pub(crate) maintenance: Vec<Maintenance>,
    pub(crate) leaving: Vec<Leaving>,
}

/// Who gave an order, why and when.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Given {
    pub(crate) by: String,
    pub(crate) why: String,
    pub(crate) since: String,
}

/// A pause.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Paused {
    pub(crate) left: String,
    #[serde(flatten)]
    pub(crate) given: Given,
}

/// An order about a server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Ordered {
    pub(crate) server: String,
    #[serde(flatten)]
    pub(crate) given: Given,
}

/// A maintenance window; of the whole cluster without a server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Maintenance {
    pub(crate) server: String,
    pub(crate) starts_in: String,
    pub(crate) left: String,
    #[serde(flatten)]
    pub(crate) given: Given,
}

/// A server that was told that it may stop.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Leaving {
    pub(crate) server: String,
    pub(crate) left: String,
}

/// `PUT /v1/operator/autopilot/safe-to-stop`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct StopAnswer {
    pub(crate) server: String,
    pub(crate) safe: bool,
    pub(crate) failure_tolerance: u64,
    pub(crate) reasons: Vec<Reason>,
}

/// One entry of `GET /v1/operator/autopilot/tombstones`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Tombstone {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) by: String,
    pub(crate) reason: Reason,
    pub(crate) since: String,
}

/// Go writes an empty list or map as `null`.
fn none_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// One entry of `operator/autopilot/explain`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Explained {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) facts: Vec<Fact>,
}

/// One sentence about a server.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Fact {
    pub(crate) topic: String,
    pub(crate) code: String,
    pub(crate) text: String,
}

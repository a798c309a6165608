//! What is said about one server: by the application, and by the engine.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use raft_types::{LogIndex, ServerAddress, ServerId, Term};
use serde::{Deserialize, Serialize};

use super::duration_text;

/// A server as the application knows it, for example from gossip.
///
/// Whether it votes or leads is not asked here: roles come from the engine alone, so that an application that is
/// late or wrong about them cannot mislead a decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KnownServer {
    /// Who it is; the same id as in the Raft configuration.
    pub id: ServerId,
    /// A name for people. May be empty.
    #[serde(default)]
    pub name: Arc<str>,
    /// Where the application believes it to be. The address in the Raft configuration wins where they differ.
    pub address: ServerAddress,
    /// The version of the software it runs; empty when unknown.
    #[serde(default)]
    pub version: Arc<str>,
    /// Whether it is alive as far as the application can tell.
    pub node_status: NodeStatus,
    /// What promoters look at, for example `zone` or `read_replica`.
    #[serde(default)]
    pub meta: Metadata,
    /// Which of its lives this is, if the application counts them: higher with every start.
    #[serde(default)]
    pub incarnation: Option<u64>,
}

/// What an application says about a server, by key. Shared, so that passing it on costs nothing.
pub type Metadata = Arc<BTreeMap<String, String>>;

impl KnownServer {
    /// A live server without name, version or metadata.
    #[must_use]
    pub fn alive(id: impl Into<ServerId>, address: impl Into<ServerAddress>) -> Self {
        Self {
            id: id.into(),
            name: Arc::default(),
            address: address.into(),
            version: Arc::default(),
            node_status: NodeStatus::Alive,
            meta: Metadata::default(),
            incarnation: None,
        }
    }
}

/// Whether the application takes a server to be alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeStatus {
    /// The application cannot tell, for example while the server is leaving. Never promoted, never removed.
    #[default]
    Unknown,
    /// Up.
    Alive,
    /// Down.
    Failed,
    /// Gone on purpose, or never heard of.
    Left,
}

impl NodeStatus {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Alive => "alive",
            Self::Failed => "failed",
            Self::Left => "left",
        }
    }
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a server is within Raft, as the leader sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RaftState {
    /// Not a member.
    #[default]
    None,
    /// Leads.
    Leader,
    /// Votes.
    Voter,
    /// Receives the log and does not vote.
    #[serde(rename = "non-voter")]
    Nonvoter,
    /// Being caught up by an engine that promotes on its own; autopilot leaves it alone.
    Staging,
}

impl RaftState {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Leader => "leader",
            Self::Voter => "voter",
            Self::Nonvoter => "non-voter",
            Self::Staging => "staging",
        }
    }
}

impl fmt::Display for RaftState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a promoter wants a server to be. Open, because promoters may have roles of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeType(Cow<'static, str>);

impl NodeType {
    /// May vote.
    pub const VOTER: Self = Self(Cow::Borrowed("voter"));
    /// Serves reads and never votes.
    pub const READ_REPLICA: Self = Self(Cow::Borrowed("read-replica"));
    /// Votes for its redundancy zone.
    pub const ZONE_VOTER: Self = Self(Cow::Borrowed("zone-voter"));
    /// Stands by for its zone's voter.
    pub const ZONE_STANDBY: Self = Self(Cow::Borrowed("zone-standby"));
    /// Votes although its zone has a voter, because another zone has none.
    pub const ZONE_EXTRA_VOTER: Self = Self(Cow::Borrowed("zone-extra-voter"));

    /// A type of a promoter's own.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// The word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for NodeType {
    fn default() -> Self {
        Self::VOTER
    }
}

impl fmt::Display for NodeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What the leader measured about one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServerStats {
    /// How long ago the leader last heard from it; zero for the leader itself, `None` when it never did.
    #[serde(with = "duration_text::optional", default)]
    pub last_contact: Option<Duration>,
    /// The term of the last entry known to be in its log.
    pub last_term: Term,
    /// The index of the last entry known to be in its log.
    pub last_index: LogIndex,
}

/// What other servers say about one that the leader does not hear from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Witnesses {
    /// How many of them call it dead.
    pub dead: usize,
    /// How many of them hear from it.
    pub alive: usize,
}

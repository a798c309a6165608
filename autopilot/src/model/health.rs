//! Whether a server is healthy, since when, and why not.

use std::fmt;
use std::time::Duration;

use raft_types::{Term, Time};
use serde::{Deserialize, Serialize};

use super::{NodeStatus, duration_text};

/// The verdict about one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// Whether every health rule holds, which is the same as `reasons` being empty.
    pub healthy: bool,
    /// When `healthy` last changed, in either direction, or when this autopilot first saw the server.
    pub stable_since: Time,
    /// Which rules do not hold, in a fixed order.
    pub reasons: Vec<HealthReason>,
    /// Which rules this measurement broke that do not count yet: too few of the last ones did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<HealthReason>,
}

impl ServerHealth {
    /// Whether the server has been healthy for at least `min` at `now`.
    #[must_use]
    pub fn is_stable(&self, min: Duration, now: Time) -> bool {
        self.healthy && now >= self.stable_since && now.since(self.stable_since) >= min
    }
}

/// A health rule that does not hold, with the numbers that decided it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case", rename_all_fields = "snake_case")]
#[non_exhaustive]
pub enum HealthReason {
    /// Without a leader's log to compare with, nobody can be called healthy.
    NoLeader,
    /// The application does not report the server as alive.
    NotAlive {
        /// What it reports instead.
        status: NodeStatus,
    },
    /// Nothing was measured for too many rounds, or ever.
    NoStats {
        /// How old the last measurement is; `None` when there never was one.
        #[serde(with = "duration_text::optional", default)]
        age: Option<Duration>,
        /// How old it may be.
        #[serde(with = "duration_text")]
        limit: Duration,
    },
    /// The leader has never heard from the server.
    NoContact,
    /// The leader has not heard from the server for too long.
    LastContact {
        /// How long.
        #[serde(with = "duration_text")]
        last_contact: Duration,
        /// How long it may be.
        #[serde(with = "duration_text")]
        limit: Duration,
    },
    /// The last entry of its log is from another term than the leader's last entry.
    LastTerm {
        /// The server's.
        term: Term,
        /// The leader's.
        leader: Term,
    },
    /// Its log is too far behind the leader's.
    TrailingLogs {
        /// By how many entries.
        behind: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// This measurement breaks no rule, but too many of those before it did.
    RecentMisses {
        /// How many broke a rule.
        bad: u32,
        /// Of how many.
        of: u32,
        /// With so many it counts as unhealthy.
        limit: u32,
    },
}

impl HealthReason {
    /// Every code, in the order in which the rules are applied. Stable: codes are added, never renamed.
    pub const CODES: &[&str] = &[
        "no-leader",
        "not-alive",
        "no-stats",
        "no-contact",
        "last-contact",
        "last-term",
        "trailing-logs",
        "recent-misses",
    ];

    /// The stable name of the rule.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoLeader => "no-leader",
            Self::NotAlive { .. } => "not-alive",
            Self::NoStats { .. } => "no-stats",
            Self::NoContact => "no-contact",
            Self::LastContact { .. } => "last-contact",
            Self::LastTerm { .. } => "last-term",
            Self::TrailingLogs { .. } => "trailing-logs",
            Self::RecentMisses { .. } => "recent-misses",
        }
    }
}

impl fmt::Display for HealthReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => f.write_str("no leader is known"),
            Self::NotAlive { status } => write!(f, "the application reports it as {status}"),
            Self::NoStats { age: None, .. } => f.write_str("nothing was ever measured"),
            Self::NoStats { age: Some(age), limit } => {
                let (age, limit) = (duration_text::short(*age), duration_text::short(*limit));
                write!(f, "last measured {age} ago, limit {limit}")
            }
            Self::NoContact => f.write_str("the leader never heard from it"),
            Self::LastContact { last_contact, limit } => {
                let (last, limit) = (duration_text::short(*last_contact), duration_text::short(*limit));
                write!(f, "last contact {last} ago, limit {limit}")
            }
            Self::LastTerm { term, leader } => {
                write!(f, "its log ends in term {term}, the leader's in term {leader}")
            }
            Self::TrailingLogs { behind, limit } => write!(f, "trailing {behind} entries, limit {limit}"),
            Self::RecentMisses { bad, of, limit } => {
                write!(f, "{bad} of the last {of} measurements were bad, fewer than {limit} may be")
            }
        }
    }
}

/// How bad it is for the cluster as a whole, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Every member is healthy.
    Healthy,
    /// Only members without a vote are unhealthy.
    Informational,
    /// A voter is unhealthy, and the cluster survives one more failure.
    Degraded,
    /// A voter is unhealthy and the next failure of a voter stops the cluster, or it has stopped, or nothing is known.
    #[default]
    QuorumAtRisk,
}

impl Severity {
    /// The word in texts and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Informational => "informational",
            Self::Degraded => "degraded",
            Self::QuorumAtRisk => "quorum-at-risk",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

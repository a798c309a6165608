//! What goes into a round and what comes out: complete, so that a recorded round can be run again.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_types::{ServerId, Term, Time};
use serde::{Deserialize, Serialize};

use crate::model::{
    Capabilities, ClusterView, Config, EventKind, Hand, KnownServer, Memory, Plan, Reason, ServerStats,
    State, Step, Witnesses, duration_text,
};

/// Everything that a round may look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Inputs {
    /// The present.
    pub now: Time,
    /// The term in which this run was started. In any other term nothing is changed.
    pub term: Term,
    /// The tunables; without any the defaults judge and nothing is changed.
    pub config: Option<Config>,
    /// What the engine can do.
    pub capabilities: Capabilities,
    /// What the engine says.
    pub view: ClusterView,
    /// What the application says.
    pub known: KnownServers,
    /// What the application measured, if it measures: replaces the engine's measurements.
    pub fetched: Option<BTreeMap<ServerId, ServerStats>>,
    /// How old a measurement may be.
    #[serde(with = "duration_text")]
    pub stats_age_max: Duration,
    /// What kind of round it is.
    pub mode: Mode,
    /// When members may be changed next, if this round may not and if that can be told.
    pub next_reconcile: Option<Time>,
    /// Whether autopilot may change members on its own.
    pub reconciliation_enabled: bool,
    /// A step that failed a moment ago.
    pub cool_down: Option<CoolDown>,
    /// What was ordered.
    #[serde(default)]
    pub hand: Hand,
    /// Why nobody knows yet what was ordered under an earlier leader, if so: then nothing is changed.
    #[serde(default)]
    pub orders_unread: Option<String>,
    /// What other servers say about those that the leader does not hear from, if anybody was asked.
    #[serde(default)]
    pub witnesses: BTreeMap<ServerId, Witnesses>,
    /// What the round before left behind; the default for the first round of a run.
    pub memory: Memory,
}

/// What a round is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Look and explain; choose no step.
    #[default]
    Watch,
    /// Choose the step that is due.
    Reconcile,
    /// Choose a removal, because somebody asked for it.
    Prune,
}

/// The servers that the application knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KnownServers {
    /// By id.
    pub servers: BTreeMap<ServerId, KnownServer>,
    /// Why this is not this round's answer, if it is not: then it is an earlier one, or empty.
    pub error: Option<String>,
}

impl FromIterator<KnownServer> for KnownServers {
    fn from_iter<I: IntoIterator<Item = KnownServer>>(servers: I) -> Self {
        Self { servers: servers.into_iter().map(|server| (server.id.clone(), server)).collect(), error: None }
    }
}

/// A step that failed and is not repeated before a certain time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CoolDown {
    /// The step.
    pub step: Step,
    /// From when on it may be tried again.
    pub until: Time,
    /// What went wrong.
    pub error: String,
}

/// What a round found and decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// The cluster.
    pub state: State,
    /// What to do about it.
    pub plan: Plan,
    /// What is new since the round before.
    pub events: Vec<News>,
    /// For the next round.
    pub memory: Memory,
    /// The earliest moment at which something may change by the mere passing of time.
    pub next_wake: Option<Time>,
}

/// Something that a round noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// What.
    pub what: EventKind,
    /// About whom.
    pub server: ServerId,
    /// Why.
    pub reason: Reason,
}

/// What earlier rounds left behind and nobody needs any more. It is filled again instead of allocated; what it says is
/// not looked at. A round uses it up: whoever wants the next one to be as cheap puts something in again.
#[derive(Clone, Debug, Default)]
pub struct Spare {
    /// A state, of any round.
    pub state: State,
    /// A memory, of any round.
    pub memory: Memory,
    /// Where in the configuration the members stand, by id.
    pub(super) order: Vec<usize>,
}

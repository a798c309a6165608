//! Plain data: what a round reads and what it decides.
//!
//! Nothing here reads a clock or talks to anybody. Times are [`Time`](raft_types::Time)s of the clock of the
//! autopilot that computed them; `Autopilot::now` tells the same clock's present.
//!
//! Read in this order: config, cluster, server, health, reason, state, decision, report.

pub(crate) mod duration_text;

mod cluster;
mod config;
mod decision;
mod health;
mod meaning;
mod reason;
mod report;
mod server;
mod state;

pub use cluster::{Capabilities, ClusterView};
pub use config::{Config, ConfigError};
pub use decision::{Action, DeadClass, Decision, Plan, PlannedStep, Step, Verdict};
pub use health::{HealthReason, ServerHealth, Severity};
pub use reason::{BlockedBy, Reason};
pub use report::{AddServerOutcome, Event, EventKind, KeptServer, PruneReport, RemovedServer};
pub use server::{KnownServer, NodeStatus, NodeType, RaftState, ServerStats};
pub use state::{ServerState, State, server_order};

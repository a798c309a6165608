//! Plain data: what a round reads and what it decides.
//!
//! Nothing here reads a clock or talks to anybody. Times are [`Time`](raft_types::Time)s of the clock of the
//! autopilot that computed them; `Autopilot::now` tells the same clock's present.
//!
//! Read in this order: config, cluster, server, health, reason, state, decision, hand, report, memory,
//! ledger.

pub(crate) mod duration_text;

mod cluster;
mod config;
mod decision;
mod hand;
mod health;
mod ledger;
mod meaning;
mod memory;
mod reason;
mod report;
mod sentence;
mod server;
mod state;
mod tolerance;
mod tombstone;

pub use cluster::{Capabilities, ClusterView};
pub use config::{ChangePolicy, Config, ConfigError, HealthPolicy, RemovalPolicy};
pub use decision::{Action, DeadClass, Decision, Plan, PlannedStep, Step, Verdict};
pub use hand::{Actor, Hand, HandError, Instruction, Order, Pause, StopAnswer, Window};
pub use health::{HealthReason, ServerHealth, Severity};
pub use ledger::{Ledger, LedgerError};
pub use memory::{Memory, Performed, Refusal, ServerMemory, Suspension};
pub(crate) use memory::{same_text, share};
pub use reason::{BlockedBy, Reason, SuspensionCause};
pub use report::{
    AddServerOutcome, AppliedStep, ApplyReport, Event, EventKind, InputsHash, KeptServer, PruneReport,
    RemovedServer,
};
pub use server::{KnownServer, Metadata, NodeStatus, NodeType, RaftState, ServerStats, Witnesses};
pub use state::{ServerState, State, server_order};
pub use tolerance::{DomainState, DomainTolerance};
pub use tombstone::Tombstone;

/// How many changes are remembered for rate limits, and so the highest limit.
pub(crate) const CHANGES_REMEMBERED_MAX: usize = 256;

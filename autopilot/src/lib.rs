//! Keeps a Raft cluster healthy by itself: servers join without a vote, get it once they are stable, and are removed
//! when they are gone, never at the price of quorum, and every decision tells its reason.
//!
//! ```text
//!   application ── who should be there, who is alive ──┐
//!                                                      ├─▶ gather ─▶ round (pure) ─▶ state
//!   engine ──── members, terms, logs, contact ─────────┘                 │
//!      ▲                                                                 ▼
//!      └───────────── one step, fenced by term and configuration ◀── plan: at most one step, and why
//! ```
//!
//! * [`core`] is the pure round: [`Inputs`] in, [`State`] and [`Plan`] out.
//! * A [`Promoter`] is the policy: who should vote. [`StablePromoter`] is the default.
//! * [`Cluster`] is the engine and [`ApplicationIntegration`] the application.
//! * `Autopilot` (feature `tokio`) runs it; `supervise` does so for as long as this server leads.
//!
//! Read in this order: model, promoter, core, ports, driver.

mod model;
mod promoter;

pub mod core;
mod ports;

#[cfg(feature = "raft")]
mod adapters;
#[cfg(feature = "tokio")]
mod driver;
pub mod testing;

pub use core::{
    CoolDown, Explanation, Fact, Inputs, KnownServers, Mode, News, Proposal, ProposedStep, Record,
    ReplayedRound, Round, Takeover, Topic, explain, replay, safe_to_stop,
};
#[cfg(feature = "tokio")]
pub use driver::{
    AddServerError, ApplyError, Autopilot, Builder, Intervals, Leadership, LeadershipSource, OrderError,
    PruneError, RemoveServerError, RequestError, Status, Supervisor, WatchedLeadership, supervise,
};
pub use model::{
    Action, Actor, AddServerOutcome, AppliedStep, ApplyReport, BlockedBy, Capabilities, ChangePolicy,
    ClusterView, Config, ConfigError, DeadClass, Decision, DomainState, DomainTolerance, Event, EventKind,
    Hand, HandError, HealthPolicy, HealthReason, InputsHash, Instruction, KeptServer, KnownServer, Ledger,
    LedgerError, Memory, Metadata, NodeStatus, NodeType, Order, Pause, Performed, Plan, PlannedStep,
    PruneReport, RaftState, Reason, Refusal, RemovalPolicy, RemovedServer, ServerHealth, ServerMemory,
    ServerState, ServerStats, Severity, State, Step, StopAnswer, Suspension, SuspensionCause, Tombstone,
    Verdict, Window, Witnesses, server_order,
};
pub use ports::{ApplicationError, ApplicationIntegration, Cluster, ClusterError, StoredLedger};
pub use promoter::{Changes, DeadServers, Promoter, PromoterInput, StablePromoter, Wish};
pub use raft_types::{
    Configuration, ConfigurationChange, ConfigurationError, EntryId, LogIndex, Server, ServerAddress,
    ServerId, Suffrage, Term, Time,
};

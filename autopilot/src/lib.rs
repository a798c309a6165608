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
//!
//! # Start when this server leads
//!
//! ```
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! use autopilot::testing::{FakeApplication, FakeCluster};
//! use autopilot::{Autopilot, Leadership, Server, Term, WatchedLeadership, supervise};
//!
//! // An engine and an application of yours; with the feature `raft`, a `raft::Raft` is an engine.
//! let cluster = FakeCluster::new(vec![Server::voter("n1", "10.0.0.1:8300")]);
//! let application = FakeApplication::knowing(&["n1"]);
//! let (leadership, watched) = tokio::sync::watch::channel(Leadership::Follower);
//!
//! let builder = Autopilot::builder(cluster, application);
//! let supervisor = supervise(WatchedLeadership::from(watched), builder);
//! leadership.send_replace(Leadership::Leader { term: Term(1) });
//! let mut changes = supervisor.changes();
//! changes.wait_for(Option::is_some).await.unwrap();
//! assert!(supervisor.current().unwrap().state().healthy);
//!
//! leadership.send_replace(Leadership::Follower); // stops, and waits until it has
//! changes.wait_for(Option::is_none).await.unwrap();
//! supervisor.stop().await;
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! # A policy of your own
//!
//! ```
//! use autopilot::testing::{Situation, promoter_conformance};
//! use autopilot::{Changes, Promoter, PromoterInput};
//!
//! /// At most three voters.
//! struct Three;
//!
//! impl Promoter for Three {
//!     fn name(&self) -> &str {
//!         "three"
//!     }
//!
//!     fn changes(&self, input: &PromoterInput<'_>) -> Changes {
//!         let mut changes = Changes::default();
//!         let missing = 3_usize.saturating_sub(input.state.voters.len());
//!         let fit = input.state.servers.values().filter(|server| server.is_promotable(input.now));
//!         for server in fit.take(missing) {
//!             changes.promote(&server.id, "fewer than three vote");
//!         }
//!         changes // a wish: safety decides what is allowed
//!     }
//! }
//!
//! promoter_conformance(&Three);
//! let round = Situation::new("n1").voter("n2").nonvoter("n3").nonvoter("n4").round(&Three);
//! assert_eq!(round.plan.step.unwrap().step.to_string(), "promote server n3 at n3.test:8300");
//! ```
//!
//! # Health, and the reasons
//!
//! ```
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! use autopilot::testing::{FakeApplication, FakeCluster};
//! use autopilot::{Autopilot, NodeStatus, Server, Term};
//!
//! # let servers = ["n1", "n2", "n3"].map(|id| Server::voter(id, format!("{id}:8300")));
//! # let cluster = FakeCluster::new(servers.to_vec());
//! # let application = FakeApplication::knowing(&["n1", "n2", "n3"]);
//! # application.status("n3", NodeStatus::Failed);
//! let autopilot = Autopilot::builder(cluster, application).start(Term(1)).await;
//! let state = autopilot.state(); // no lock, no await
//! assert_eq!((state.healthy, state.failure_tolerance), (false, 0));
//! let n3 = state.server(&"n3".into()).unwrap();
//! assert_eq!(n3.health.reasons[0].code(), "not-alive");
//! let explained = autopilot.explain(&"n3".into()).unwrap().to_string();
//! assert!(explained.contains("It is not removed: would leave 2 voters where 3 were stable"));
//! # autopilot.stop().await;
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! # Remove dead servers now
//!
//! ```
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), autopilot::PruneError> {
//! # use autopilot::testing::{FakeApplication, FakeCluster};
//! # use autopilot::{Autopilot, NodeStatus, Server, Term};
//! # let servers = ["n1", "n2", "n3"].map(|id| Server::voter(id, format!("{id}:8300")));
//! # let application = FakeApplication::knowing(&["n1", "n2", "n3"]);
//! # application.status("n3", NodeStatus::Failed);
//! # let autopilot = Autopilot::builder(FakeCluster::new(servers.to_vec()), application).start(Term(1)).await;
//! let report = autopilot.remove_dead_servers().await?;
//! for removed in &report.removed {
//!     println!("removed {} at index {}", removed.id, removed.index);
//! }
//! for kept in &report.kept {
//!     println!("kept {}: {}", kept.id, kept.reason);
//! }
//! # assert_eq!(report.removed.len(), 1);
//! # autopilot.stop().await;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```

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
    ReplayedRound, Round, Spare, Takeover, Topic, explain, replay, safe_to_stop,
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

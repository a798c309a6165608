//! Raft consensus: a pure core, a durable log, the hashicorp/raft wire protocol, a tokio driver.
//!
//! ```text
//!             propose, read, change members
//!                        │
//!   Transport ──▶ actor ─▼──────────────┐ ──▶ disk thread ──▶ LogStore
//!   (memory,      │  core::RaftCore     │
//!    TCP)    ◀──  │  step(now, input)   │ ──▶ apply thread ──▶ StateMachine
//!                 └─────────────────────┘
//! ```
//!
//! * [`core`] decides everything and does nothing: no clock, no I/O, no threads. A simulator runs it as it is.
//! * [`storage`] keeps term, vote, log and snapshots, in files that survive crashes or in memory.
//! * `transport` (feature `tokio`) carries requests, over TCP as hashicorp/raft does or in memory.
//! * `Raft` (feature `tokio`) is the handle of a running server.
//! * [`recovery`] brings a cluster back after most of it was lost; [`sessions`] apply a request exactly once.
//!
//! # A cluster of one, on disk
//!
//! ```
//! # #[cfg(feature = "tokio")] mod example {
//! use raft::storage::{DataDirectory, LogOptions};
//! use raft::transport::{TcpOptions, TcpTransport};
//! use raft::{Configuration, Raft, Role, Server, StateMachine};
//! # use raft::core::Entry;
//! # struct Counter(usize);
//! # impl StateMachine for Counter {
//! #     fn apply(&mut self, commands: &[Entry]) -> Vec<bytes::Bytes> {
//! #         commands.iter().map(|_| { self.0 += 1; self.0.to_string().into() }).collect()
//! #     }
//! #     fn snapshot(&self) -> raft::SnapshotWriter { let n = self.0; Box::new(move |out| write!(out, "{n}")) }
//! #     fn restore(&mut self, state: &mut dyn std::io::Read) -> std::io::Result<()> {
//! #         self.0 = std::io::read_to_string(state)?.parse().map_err(std::io::Error::other)?; Ok(())
//! #     }
//! # }
//!
//! # pub async fn run(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! let mut directory = DataDirectory::open(path)?;
//! let transport = TcpTransport::bind("127.0.0.1:0", TcpOptions::default()).await?;
//! let raft = Raft::builder("n1", Counter(0))
//!     .log_store(directory.log(LogOptions::default())?)
//!     .snapshots(directory.snapshots(2)?)
//!     .transport(transport)
//!     .start()
//!     .await?;
//! raft.bootstrap(Configuration::new(vec![Server::voter("n1", raft.address().clone())])).await?;
//! raft.metrics().wait_for(|metrics| metrics.role == Role::Leader).await?;
//!
//! let applied = raft.propose("count").await?;
//! assert_eq!(applied.response, "1");
//! raft.linearizable_read().await?; // after this, local reads are fresh
//! raft.shutdown().await;
//! # Ok(())
//! # }
//! # }
//! # #[cfg(feature = "tokio")] fn main() {
//! #     let directory = tempfile::tempdir().unwrap();
//! #     tokio::runtime::Runtime::new().unwrap().block_on(example::run(directory.path())).unwrap();
//! # }
//! # #[cfg(not(feature = "tokio"))] fn main() {}
//! ```
//!
//! Reading order: [`core`], [`storage`], then the driver behind `Raft`.

#[cfg(feature = "tokio")]
pub mod compat;
pub mod core;
pub mod recovery;
pub mod sessions;
pub mod storage;
pub mod testing;

mod config;
#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod error;
mod state_machine;
#[cfg(feature = "tokio")]
pub mod stream;
#[cfg(feature = "tokio")]
pub mod telemetry;
#[cfg(feature = "tokio")]
pub mod transport;

pub use config::{Config, ConfigError, ReloadableConfig};
pub use core::Role;
#[cfg(feature = "tokio")]
pub use driver::{
    Applied, ConfigurationState, Executor, Leadership, LeadershipWatch, LeaseRead, Metrics, Observation,
    Observer, Operation, PeerMetrics, Proposed, Raft, RaftBuilder, Stats,
};
#[cfg(feature = "tokio")]
pub use error::{
    BootstrapError, ChangeError, ProposeError, ReadError, ReloadError, RestoreError, SnapshotError,
    StartError, TransferError,
};
pub use raft_types::{
    Configuration, ConfigurationChange, ConfigurationError, EntryId, Incarnation, LogIndex, Server,
    ServerAddress, ServerId, Suffrage, Term, Time,
};
pub use state_machine::{SnapshotWriter, StateMachine};

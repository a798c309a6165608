//! Raft consensus for Rust.

pub mod core;
pub mod storage;

mod config;
#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod error;
mod state_machine;
#[cfg(feature = "tokio")]
pub mod transport;

pub use config::{Config, ConfigError};
#[cfg(feature = "tokio")]
pub use driver::{
    Applied, ConfigurationState, Leadership, LeadershipWatch, Metrics, PeerMetrics, Raft, RaftBuilder,
};
#[cfg(feature = "tokio")]
pub use error::{
    BootstrapError, ChangeError, ProposeError, ReadError, SnapshotError, StartError, TransferError,
};
pub use raft_types::{
    Configuration, ConfigurationChange, ConfigurationError, EntryId, LogIndex, Server, ServerAddress,
    ServerId, Suffrage, Term, Time,
};
pub use state_machine::{SnapshotWriter, StateMachine};

//! The vocabulary of a Raft cluster, without dependencies, shared by `raft` and `autopilot` and re-exported by both.
//!
//! Read in this order: ids, configuration, time.

mod configuration;
mod ids;
mod time;

pub use configuration::{
    Configuration, ConfigurationChange, ConfigurationError, NAME_BYTES_MAX, Server, Suffrage, is_plain_name,
};
pub use ids::{EntryId, Incarnation, LogIndex, ServerAddress, ServerId, Term};
pub use time::Time;

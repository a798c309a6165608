//! The replicated state: keys and values, and the autopilot configuration.
//!
//! In reading order: [`command`] is what goes through the log, [`store`] is what it does.

pub mod command;
pub mod store;

pub use command::{AutopilotSettings, Command, Outcome};
pub use store::{Entry, KvMachine, KvStore, Versioned};

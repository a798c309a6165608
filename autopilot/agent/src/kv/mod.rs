//! The replicated state: keys and values, the autopilot configuration, and what its last leader knew.
//!
//! In reading order: [`command`] is what goes through the log, [`store`] is what it does, [`transaction`] is several
//! operations at once.

pub mod command;
pub mod store;
pub mod transaction;

pub use command::{AutopilotSettings, Command, Outcome};
pub use store::{Entry, KeptLedger, KvMachine, KvStore, Versioned};
pub use transaction::{Operation, TransactionOutcome};

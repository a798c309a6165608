//! The running autopilot: a handle, and one task behind it that gathers, runs a round and performs its step.
//!
//! Nothing here decides; see `core`. The handle talks to the task by a bounded channel and reads what the task
//! publishes; no lock is shared between them.

#![allow(
    clippy::disallowed_methods,
    reason = "the driver is where the clock is read and the one task is started"
)]

mod apart;
mod audit;
mod builder;
mod command;
mod error;
mod execute;
mod gather;
mod handle;
mod ledger;
mod orders;
mod propose;
mod request;
mod supervise;
mod task;

pub use builder::{Builder, Intervals};
pub use error::{AddServerError, ApplyError, OrderError, PruneError, RemoveServerError, RequestError};
pub use handle::{Autopilot, Status};
pub use supervise::{Leadership, LeadershipSource, Supervisor, WatchedLeadership, supervise};

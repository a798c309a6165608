//! Promotion policies for autopilot.
//!
//! * [`ReadReplicas`]: servers that declare themselves read replicas never vote.

mod read_replica;

pub use read_replica::ReadReplicas;

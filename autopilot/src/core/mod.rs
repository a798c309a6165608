//! The pure round: everything it may look at comes in as [`Inputs`], everything it decides goes out as a [`Round`].
//!
//! Order of a round: assess (is each server healthy) → compose (the state) → reconcile and prune (what should
//! happen) → safety (what may happen). Nothing here reads a clock, asks anybody or performs anything.
//!
//! Not here: gathering the inputs and performing the step, which are the driver's.

mod inputs;

pub use inputs::{Inputs, Round};

//! Engines that come with the crate.

mod raft;

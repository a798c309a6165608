//! For tests of policies and of programs that embed autopilot: situations to judge, a suite that every
//! [`Promoter`](crate::Promoter) must pass, and an engine and an application that are played.

mod conformance;
mod fake;
mod situation;

pub use conformance::promoter_conformance;
pub use fake::{Behaviour, FakeApplication, FakeCluster};
pub use situation::Situation;

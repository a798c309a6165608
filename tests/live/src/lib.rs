//! Real servers: processes of the binary `autopilot` on loopback, with their data on a real disk.
//!
//! [`Cluster`] starts, kills and restarts [`Agent`]s; [`http`] talks to them. Every wait has a deadline and says what it
//! waited for; nothing here asserts how long a thing takes.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests wait for real processes on a real clock"
)]

/// The code in README.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

pub mod agent;
pub mod blocks;
pub mod cluster;
pub mod http;

pub use agent::Agent;
pub use cluster::Cluster;

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it. Far beyond what a slow machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until the answer is there.
///
/// # Panics
/// If it is not within [`PATIENCE`]; the message says what was waited for and the last reason why it was not there.
pub fn wait<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(found) => return found,
            Err(reason) => assert!(Instant::now() < deadline, "waited in vain for {what}: {reason}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

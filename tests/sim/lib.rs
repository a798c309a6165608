//! The deterministic simulator: several [`raft::core::RaftCore`]s and the real stores over a simulated network and
//! simulated disks.
//!
//! One seed decides everything: there is one event queue, one virtual clock, and every random choice comes from a named
//! stream of that seed. The same seed gives the same events, bit for bit. After every event the invariants in
//! [`check`] are judged over all servers at once, including what would survive a crash at that moment.
//!
//! Read in this order: [`options`], [`world`], [`server`], [`clock`], [`network`], [`disk`], [`nemesis`], [`workload`],
//! [`register`], [`pilot`], [`check`], [`linearizable`], [`spec`], [`mutant`], [`swarm`],
//! [`shrink`], [`coverage`].
//!
//! **Not here.** Threads, sockets and files: the tests in `tests/live` use real ones.

pub mod check;
pub mod clock;
pub mod coverage;
pub mod disk;
pub mod linearizable;
pub mod machine;
pub mod mutant;
pub mod nemesis;
pub mod network;
pub mod options;
pub mod pilot;
pub mod random;
pub mod register;
pub mod server;
pub mod shrink;
pub mod spec;
pub mod swarm;
pub mod workload;
pub mod world;

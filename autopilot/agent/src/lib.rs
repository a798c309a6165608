//! The autopilot server: one process that keeps a replicated key-value state, gossips with its peers, answers HTTP, and
//! runs autopilot while it leads.
//!
//! In reading order: [`config`] is what a server is told, [`kv`] the state, [`members`] who is there, `cluster` how the
//! parts are started and stopped together ([`Agent`], [`run`]), `bootstrap` and `leader` how servers become members,
//! `integration` what autopilot asks, and [`http`] what clients ask.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the agent is a driver: it reads clocks and starts tasks"
)]

pub mod config;
pub mod http;
pub mod kv;
pub mod members;

mod app;
mod bootstrap;
mod cluster;
mod events;
mod integration;
mod leader;
mod leadership;
mod removed;
mod zones;

#[cfg(test)]
mod cluster_tests;

pub use app::Addresses;
pub use cluster::{Agent, StartError, log_to_stderr, run};

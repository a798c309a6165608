//! The autopilot server and command line.

pub mod config;
pub mod kv;
pub mod members;

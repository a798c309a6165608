//! Real processes that are killed, replaced and fed nonsense.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests wait for real processes on a real clock"
)]

mod bad_input;
mod hand;
mod kill9;
mod lifecycle;
mod lost_disks;

//! The binary `autopilot`.

fn main() {}

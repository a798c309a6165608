//! inputs
/// in
#[derive(Debug)]
pub struct Inputs;
/// out
#[derive(Debug)]
pub struct Round;

//! How many voters there should be: the largest number that was seen all stable.
//!
//! Autopilot by itself takes no dead voter out below it. Whoever lowers the number of voters on purpose, a person, a
//! promoter, a server that leaves, lowers it too. So it can be read off: where fewer vote than before, somebody wanted
//! that.

use super::inputs::Inputs;
use super::mutant::{Mutant, mutated};
use crate::model::{Config, Reason, State};

/// The size to be remembered after this round.
pub(super) fn stable_size(inputs: &Inputs, state: &State) -> Option<usize> {
    let before = inputs.memory.stable_size;
    if !inputs.view.is_leader {
        return before;
    }
    let voters = state.voters.len();
    let stable = |id| state.server(id).is_some_and(|server| server.is_stable(inputs.now));
    let all_stable = voters > 0 && state.voters.iter().all(stable);
    match before {
        _ if all_stable => Some(voters),
        Some(before) => Some(before.min(voters)),
        None => None,
    }
}

/// The size that a removal is measured against. Without one, the configuration is all there is: an even number is how
/// it looks in the midst of a replacement.
const fn size(stable_size: Option<usize>, voters: usize) -> usize {
    match stable_size {
        Some(size) => size,
        None => voters.saturating_sub(1) | 1,
    }
}

/// Whether a dead voter may go without being asked for, as far as the number of voters is concerned.
pub(super) fn removal(config: &Config, state: &State) -> Result<(), Reason> {
    let voters = state.voters.len();
    let size = size(state.stable_size, voters);
    let left = voters.saturating_sub(1);
    if left >= size {
        return Ok(());
    }
    if config.removal.only_when_replaced && !mutated(Mutant::ReplacementIgnored) {
        return Err(Reason::NotReplaced { voters: left, size });
    }
    // A configured minimum takes the place of what was seen.
    if config.removal.floor_from_size && config.min_quorum == 0 && !mutated(Mutant::FloorIgnored) {
        return Err(Reason::Floor { voters: left, size });
    }
    Ok(())
}

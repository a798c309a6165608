//! S7: all state machines go through the same states, without gaps. S13: so do snapshots.

use std::collections::BTreeMap;

use raft::{EntryId, LogIndex, Term};

use super::Verdict;
use crate::machine::{Machine, Snapshot};

/// The state after every index, as the first server had it; for each history that a snapshot from outside began, and for the
/// first one, from its beginning on.
#[derive(Debug, Default)]
pub struct StateMachineSafety {
    states: BTreeMap<EntryId, Vec<(Term, u64, LogIndex)>>,
}

fn state_of(machine: &Machine) -> (Term, u64, LogIndex) {
    (machine.last.term, machine.hash, machine.configuration.0)
}

impl StateMachineSafety {
    /// A snapshot from outside is about to be stored: it may become the beginning of a history. One that was given up leaves its
    /// identity to the next one.
    pub fn restores(&mut self, machine: &Machine) {
        self.states.insert(machine.restored, vec![state_of(machine)]);
    }

    /// A server has applied one entry, or stands at a snapshot.
    ///
    /// # Errors
    /// Another server was in another state at that index.
    pub fn reached(&mut self, who: &str, machine: &Machine) -> Verdict {
        let state = state_of(machine);
        let began = machine.restored.index.0.max(1);
        let Some(position) = machine.last.index.0.checked_sub(began) else { return Ok(()) };
        let position = usize::try_from(position).expect("a run has few entries");
        let states = self.states.entry(machine.restored).or_default();
        if position == states.len() {
            states.push(state);
        }
        match states.get(position) {
            None => Err(format!("{who} is at {}, which nobody has reached step by step", machine.last)),
            Some(known) if *known != state => {
                Err(format!("{who} is in another state at {} than another server was", machine.last))
            }
            Some(_) => Ok(()),
        }
    }

    /// A snapshot is stored.
    ///
    /// # Errors
    /// It does not hold what it says.
    pub fn stored(&mut self, who: &str, snapshot: &Snapshot) -> Verdict {
        let (meta, state) = (&snapshot.meta, &snapshot.state);
        if meta.last != state.last {
            return Err(format!(
                "{who} stores a snapshot of {} that holds the state at {}",
                meta.last, state.last
            ));
        }
        if (meta.configuration_index, &meta.configuration) != (state.configuration.0, &state.configuration.1)
        {
            return Err(format!(
                "{who} stores a snapshot at {} with the configuration of {}, not of {}",
                meta.last, meta.configuration_index, state.configuration.0
            ));
        }
        self.reached(who, state)
    }
}
